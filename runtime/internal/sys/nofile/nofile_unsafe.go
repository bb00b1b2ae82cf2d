// Package nofile remembers the RLIMIT_NOFILE that this process was started with.
//
// Package syscall raises the soft limit in its initialisation and keeps the original to itself; containers must get the
// original back. Go initialises packages in the order of their import paths as far as dependencies allow (Go 1.21): this
// one comes before "syscall", on which it must therefore not depend, not even indirectly. A test holds it to that.
package nofile

import "unsafe"

//go:linkname rawSyscall6 syscall.RawSyscall6
func rawSyscall6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2, errno uintptr)

// Soft and Hard are the limits of this process at its start; both 0 when they could not be read.
var Soft, Hard = original()

// start is a struct rlimit64: the limits that the program's entry (cli/entry_amd64.s) found, and then lowered for the start of the Go
// runtime. It is 0 in a program that is entered elsewhere.
var start [2]uint64

// original reads the limits, or gives those of start back.
func original() (soft, hard uint64) {
	const rlimitNoFile = 7
	limit := uintptr(unsafe.Pointer(&start))
	// Sound: prlimit64(0, RLIMIT_NOFILE, new, old) reads 16 bytes of new and writes 16 bytes to old, unless they are NULL; start is as
	// large, and stays where it is.
	if start == [2]uint64{} {
		rawSyscall6(sysPrlimit64, 0, rlimitNoFile, 0, limit, 0, 0)
	} else {
		rawSyscall6(sysPrlimit64, 0, rlimitNoFile, limit, 0, 0, 0)
	}
	return start[0], start[1]
}
