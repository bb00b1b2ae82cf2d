package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gosuda/gosudacon/internal/criu"
)

// TestInheritStdio: each file that was outside is replaced once, by a descriptor of its own.
func TestInheritStdio(t *testing.T) {
	for _, tc := range []struct {
		links []string
		want  []criu.InheritFD
		nulls int
	}{
		{nil, nil, 0},
		{[]string{"/dev/null", "", "/inside"}, nil, 0},
		{[]string{"pipe:[1]", "pipe:[2]", "pipe:[2]"}, []criu.InheritFD{{Key: "pipe:[1]", FD: 0}, {Key: "pipe:[2]", FD: 1}}, 0},
		{[]string{"file[18:3]:/dev/null", "file[18:3]:/dev/null", "file[19:3]:/dev/null"}, []criu.InheritFD{{Key: "file[18:3]", FD: 4}, {Key: "file[19:3]", FD: 5}}, 2},
		{[]string{"file[18:3]:/dev/null", "file[1b:ff]:/var/log/x y", "socket:[1]"}, []criu.InheritFD{{Key: "file[18:3]", FD: 4}, {Key: "file[1b:ff]", FD: 1}}, 1},
		{[]string{"pipe:[1]x", "xpipe:[1]", "file[]:/dev/null"}, nil, 0},
	} {
		got, nulls := inheritStdio(tc.links, 4)
		if !slices.Equal(got, tc.want) || nulls != tc.nulls {
			t.Errorf("%q: %v, %d, want %v, %d", tc.links, got, nulls, tc.want, tc.nulls)
		}
	}
}

// TestReadLinks: what images from anywhere say of the standard streams is bounded.
func TestReadLinks(t *testing.T) {
	dir := t.TempDir()
	if _, err := readLinks(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	name := filepath.Join(dir, descriptorsName)
	for text, want := range map[string]int{`["a","b","c","d"]`: 3, `[]`: 0, `null`: 0, `{`: -1, `"x"`: -1} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		links, err := readLinks(dir)
		if (err != nil) != (want < 0) || err == nil && len(links) != want {
			t.Errorf("%s: %q, %v", text, links, err)
		}
	}
	if err := errors.Join(os.Remove(name), os.Symlink("/dev/zero", name)); err != nil {
		t.Fatal(err)
	}
	if links, err := readLinks(dir); err == nil {
		t.Errorf("an endless file: %q", links)
	}
}

// TestStdioLinks looks at this process: a pipe with an end of it, one without, and files outside.
func TestStdioLinks(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if !isInternal(link, os.Getpid(), int(r.Fd()), []int{os.Getpid()}) {
		t.Error("both ends of the pipe are ours")
	}
	if isInternal(link, os.Getpid(), int(r.Fd()), nil) {
		t.Error("a pipe whose other end nobody of the container has is outside")
	}
	null, err := os.OpenFile(devNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	mounts, err := mountIDs(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if got := externalFile(os.Getpid(), int(null.Fd()), devNull, mounts); got != devNull {
		t.Errorf("a file on a mount that the process sees: %q", got)
	}
	got := externalFile(os.Getpid(), int(null.Fd()), "/null", nil)
	if _, path, ok := cutFile(got); !ok || path != devNull {
		t.Errorf("a file on another mount: %q", got)
	}
}

func TestLinks(t *testing.T) {
	for link, want := range map[string]string{
		"file[1f:2a3]:/var/log/c": "file[1f:2a3] /var/log/c",
		"file[1:2]:/a]:b":         "file[1:2] /a]:b",
		"file[1:2]:":              "file[1:2] ",
		"file[1:2]":               "",
		"file[x:2]:/a":            "",
		"file[1]:/a":              "",
		"pipe:[12]":               "",
		"":                        "",
	} {
		key, path, ok := cutFile(link)
		if got := key + " " + path; ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %t", link, got, ok)
		}
	}
	for link, want := range map[string]bool{"pipe:[12]": true, "pipe:[]": false, "pipe:[1": false, "pipe:[x]": false, "[1]": false, "": false} {
		if got := isPipe(link); got != want {
			t.Errorf("%q: %t", link, got)
		}
	}
}
