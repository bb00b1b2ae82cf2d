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
	name := bundle.ConfigFile(dir)
	if _, err := bundle.Load(name); !errors.Is(err, bundle.ErrConfig) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no config.json: %v", err)
	}
	os.WriteFile(name, []byte("{\n\"ociVersion\": \"1.2.0\",\n,}"), 0o600)
	if _, err := bundle.Load(name); !errors.Is(err, bundle.ErrConfig) || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("broken: %v", err)
	}
	os.WriteFile(name, []byte(`{"ociVersion":"1.2.0"}`), 0o600)
	if s, err := bundle.Load(name); err != nil || s.Version != "1.2.0" {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestLoadText: every decoder sees the same text, and so does the kernel.
func TestLoadText(t *testing.T) {
	for text, want := range map[string]string{
		`{"hostname":"a\u0000b"}`:                                  "hostname: contains a NUL",
		`{"process":{"env":["A=1","B=\u0000"]}}`:                   "process.env[1]: contains a NUL",
		`{"mounts":[{"destination":"/a","options":["ro\u0000"]}]}`: "mounts[0].options[0]: contains a NUL",
		`{"annotations":{"a\u0000":"b"}}`:                          "annotations: contains a NUL",
		`{"annotations":{"a":"b\u0000"}}`:                          "annotations.a: contains a NUL",
		`{"linux":{"sysctl":{"k":"\u0000"}}}`:                      "linux.sysctl.k: contains a NUL",
		`{"hostname":"a\\u0000b"}`:                                 "", // a backslash and five letters
		"{\n\"hostname\":\n\"\xff\"}":                              "line 3: is not UTF-8",
		"{\"hostname\":\"a\x00b\"}":                                "invalid character",
		`{"hostname":"a","hostname":"b"}`:                          "",
		strings.Repeat(`{"process":`, 20000):                       "is nested more than 10000 deep",
		`{"linux":{"uidMappings":[{"containerID":-1}]}}`:           "cannot take the number -1",
		`{"process":{"user":{"uid":4294967296}}}`:                  "cannot take the number 4294967296",
	} {
		s, err := bundle.Parse([]byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.60s: %+v, %v; want %q", text, s, err, want)
		}
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
