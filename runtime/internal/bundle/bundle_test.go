package bundle_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/bundle"
)

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := bundle.Load(dir); !errors.Is(err, bundle.ErrConfig) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no config.json: %v", err)
	}
	name := filepath.Join(dir, "config.json")
	os.WriteFile(name, []byte("{\n\"ociVersion\": \"1.2.0\",\n,}"), 0o600)
	if _, err := bundle.Load(dir); !errors.Is(err, bundle.ErrConfig) || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("broken: %v", err)
	}
	os.WriteFile(name, []byte(`{"ociVersion":"1.2.0"}`), 0o600)
	if s, err := bundle.Load(dir); err != nil || s.Version != "1.2.0" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestRootPath(t *testing.T) {
	for path, want := range map[string]string{"rootfs": "/b/rootfs", "/abs/x/": "/abs/x", "a/../b": "/b/b", "../x": "", "a/../../x": "", "": ""} {
		got, err := bundle.RootPath("/b", &specs.Spec{Root: &specs.Root{Path: path}})
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", path, got, err, want)
		}
	}
}

// TestHome reads a passwd file that the image controls: links stay in the root, and nothing but a file is read.
func TestHome(t *testing.T) {
	root := t.TempDir()
	os.Mkdir(filepath.Join(root, "etc"), 0o755)
	passwd := filepath.Join(root, "etc/passwd")
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if h := bundle.Home(fd, 0); h != "/" {
		t.Errorf("without a file: %q", h)
	}
	os.WriteFile(passwd, []byte("broken\nroot:x:0:0:r:/root:/bin/sh\nu:x:5:5::/home/u:/bin/sh\nv:x:6:6:::"), 0o644)
	for uid, want := range map[uint32]string{0: "/root", 5: "/home/u", 6: "/", 7: "/"} {
		if h := bundle.Home(fd, uid); h != want {
			t.Errorf("uid %d: %q, want %q", uid, h, want)
		}
	}
	os.Remove(passwd)
	os.Symlink("/etc/passwd", passwd) // the root's own, which is itself: a loop, not the host's
	if h := bundle.Home(fd, 0); h != "/" {
		t.Errorf("through a link: %q", h)
	}
	os.Remove(passwd)
	unix.Mkfifo(passwd, 0o644)
	if h := bundle.Home(fd, 0); h != "/" {
		t.Errorf("from a fifo: %q", h)
	}
}
