package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNextOf walks through links that lead nowhere.
func TestNextOf(t *testing.T) {
	dir := t.TempDir()
	link := func(target, name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("b", "a")
	link("/c/./../d/", "b")
	link("../../../../e/f", "x/up")
	link("loop", "loop")
	link(".", "self")
	if err := os.WriteFile(dir+"/file", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	for _, tc := range []struct {
		path string
		file bool
		want string
	}{
		{"/a", false, "1 . c"}, {"/a/g", true, "1 . c"}, {"/x/up", true, "1 . e"}, {"/x/y/z", false, "1 x y"}, {"/x/y", true, "2 x y"},
		{"/self/self/y/", true, "2 . y"}, {"/x", false, "0  "}, {"/file", true, "0  "}, {"/", false, "0  "}, {"/loop", true, unix.ELOOP.Error()},
		{"/file/x", true, unix.ENOTDIR.Error()},
	} {
		what, at, name, err := nextOf(root, point{tc.path, tc.file})
		got := fmt.Sprint(what, " ", at, " ", name)
		if err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.path, got, tc.want)
		}
	}
	// What is made is walked, until nothing is missing.
	for range 10 {
		what, at, name, err := nextOf(root, point{"/a/h", true})
		if err != nil || strings.HasPrefix(at, "/") {
			t.Fatal(at, err)
		}
		p := filepath.Join(dir, at, name)
		switch what {
		case pointMkdir:
			err = os.Mkdir(p, 0o755)
		case pointCreate:
			err = os.WriteFile(p, nil, 0o644)
		case pointDone:
			if fi, err := os.Lstat(dir + "/d/h"); err != nil || !fi.Mode().IsRegular() {
				t.Error(fi, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Error("it never ends")
}
