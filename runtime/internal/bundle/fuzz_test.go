package bundle

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// FuzzParse: no string of a config.json that is accepted is one thing to us and another to the kernel.
func FuzzParse(f *testing.F) {
	usual, err := json.Marshal(testkit.Spec("sh", "-c", "true"))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(usual), `{"ociVersion":"1.2.0","hostname":"a\u0000b"}`, `{"annotations":{"\u0000":"\\u0000"}}`, "{\"hostname\":\"\xff\"}",
		`{"process":{"user":{"uid":-1}}}`, `{"Hostname":"a","hostname":"b"}`, `null`, ``, `{"mounts":[{"options":["\ud800"]}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := Parse(data)
		if err != nil {
			return
		}
		if !utf8.Valid(data) {
			t.Fatal("accepted bytes that are no UTF-8")
		}
		again, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		// Outside of an escaped backslash this is a NUL.
		if strings.Contains(strings.ReplaceAll(string(again), `\\`, ``), `\u0000`) {
			t.Fatalf("accepted a NUL byte: %s", again)
		}
	})
}

// FuzzHome: whatever the image's passwd is, the home directory is a string for the kernel.
func FuzzHome(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/sh\n", uint32(0))
	f.Add("a:b:7:\n:::::\nroot:x:7:0::/a\x00b:", uint32(7))
	f.Fuzz(func(t *testing.T, passwd string, uid uint32) {
		if h := home(passwd, uid); h == "" || strings.ContainsAny(h, "\x00\n:") {
			t.Fatalf("%q", h)
		}
	})
}
