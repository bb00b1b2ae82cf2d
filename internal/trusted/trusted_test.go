package trusted_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/internal/trusted"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(at("file"), []byte("text"), 0o600))
	must(os.WriteFile(at("empty"), nil, 0o600))
	must(os.Symlink("file", at("link")))
	must(unix.Mkfifo(at("fifo"), 0o600))
	must(os.WriteFile(at("others"), []byte("text"), 0o600))
	must(os.Chmod(at("others"), 0o620))
	must(os.Truncate(at("others"), 4))
	must(os.WriteFile(at("sparse"), nil, 0o600))
	must(os.Truncate(at("sparse"), 1<<40))
	must(os.WriteFile(at("exact"), []byte(strings.Repeat("x", 100)), 0o600))
	if os.Geteuid() == 0 {
		must(os.WriteFile(at("stranger"), []byte("text"), 0o600))
		must(os.Chown(at("stranger"), 1000, 1000))
		must(unix.Mknod(at("zero"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))))
	}
	for _, tc := range []struct {
		name         string
		regular, own error
		text         string
	}{
		{"file", nil, nil, "text"},
		{"empty", nil, nil, ""},
		{"exact", nil, nil, strings.Repeat("x", 100)},
		{"link", nil, trusted.ErrNotRegular, "text"},
		{"fifo", trusted.ErrNotRegular, trusted.ErrNotRegular, ""},
		{".", trusted.ErrNotRegular, trusted.ErrNotRegular, ""},
		{"sparse", trusted.ErrTooLarge, trusted.ErrTooLarge, ""},
		{"others", nil, trusted.ErrNotOurs, "text"},
		{"stranger", nil, trusted.ErrNotOurs, "text"},
		{"zero", trusted.ErrNotRegular, trusted.ErrNotRegular, ""},
		{"missing", os.ErrNotExist, os.ErrNotExist, ""},
	} {
		if !strings.HasPrefix(tc.name, ".") && tc.regular != os.ErrNotExist {
			if _, err := os.Lstat(at(tc.name)); err != nil {
				continue // only root can make it
			}
		}
		b, err := trusted.ReadRegular(at(tc.name), 100)
		if !errors.Is(err, tc.regular) || err == nil && string(b) != tc.text {
			t.Errorf("%s: %q, %v; want %q, %v", tc.name, b, err, tc.text, tc.regular)
		}
		if b, err = trusted.ReadOwn(at(tc.name), 100); !errors.Is(err, tc.own) || err == nil && string(b) != tc.text {
			t.Errorf("%s, own: %q, %v; want %q, %v", tc.name, b, err, tc.text, tc.own)
		}
	}
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	target, name := filepath.Join(dir, "target"), filepath.Join(dir, "file")
	if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"", name, filepath.Join(dir, ".file")} {
		if link != "" {
			os.Remove(link)
			if err := os.Symlink(target, link); err != nil {
				t.Fatal(err)
			}
		}
		if err := trusted.Replace(name, []byte("new"+link)); err != nil {
			t.Fatal(err)
		}
		if b, err := trusted.ReadOwn(name, 1000); string(b) != "new"+link {
			t.Errorf("%q: %q, %v", link, b, err)
		}
	}
	if b, _ := os.ReadFile(target); string(b) != "precious" {
		t.Errorf("the link's target has %q", b)
	}
	if list, _ := os.ReadDir(dir); len(list) != 2 {
		t.Errorf("left: %v", list)
	}
	if err := trusted.Replace(filepath.Join(dir, "missing/file"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
