// Package tig stands in for a test helper of nerdctl's.
package tig

// T is what nerdctl's packages ask of a test.
type T interface {
	Helper()
	FailNow()
	Fail()
	Log(args ...any)
	Name() string
	TempDir() string
}
