package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// TestStage: mount points are made where links lead to below the root, in what is bound too; nothing is mounted for others.
func TestStage(t *testing.T) {
	testkit.NoLeaks(t)
	dir := t.TempDir()
	root, at, source := filepath.Join(dir, "root"), filepath.Join(dir, "at"), filepath.Join(dir, "source")
	for _, d := range []string{root, at, source, filepath.Join(root, "real")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(source, "file")
	err := errors.Join(os.WriteFile(file, []byte("x"), 0o600), os.Symlink("/real", filepath.Join(root, "link")), os.Symlink("../../..", filepath.Join(root, "up")))
	if err != nil {
		t.Fatal(err)
	}
	points := []Point{{Path: "/dev"}, {Path: "/dev/shm/x", Source: source}, {Path: "/link/deep/dir", Source: source}, {Path: "/link/deep/dir/inner", Source: file},
		{Path: "/up/etc/file", Source: file}}
	var where []string
	err = Privately(func() (err error) {
		if where, err = Stage(root, at, points); err != nil {
			return err
		}
		mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
		if strings.Count(string(mounts), " "+at) != 1 {
			t.Errorf("mounts:\n%s", mounts)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/dev", "/dev/shm/x", "/real/deep/dir", "/real/deep/dir/inner", "/etc/file"}
	if strings.Join(where, " ") != strings.Join(want, " ") {
		t.Errorf("points are at %q, want %q", where, want)
	}
	for name, dir := range map[string]bool{"root/dev": true, "root/real/deep/dir": true, "source/inner": false, "root/etc/file": false} {
		fi, err := os.Lstat(filepath.Join(filepath.Dir(root), name))
		if err != nil || fi.IsDir() != dir {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Join(root, "dev")); len(entries) != 0 {
		t.Errorf("%v was made below a file system of the container's own", entries)
	}
	if entries, _ := os.ReadDir(at); len(entries) != 0 {
		t.Errorf("the stage is mounted for everybody: %v", entries)
	}
	missing := []Point{{Path: "/x", Source: filepath.Join(dir, "none")}}
	err = Privately(func() error { _, err := Stage(root, at, missing); return err })
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "make mount point /x") {
		t.Errorf("a source that does not exist: %v", err)
	}
}

// TestTighten: attributes are set on mounts of another process, and on those below if that is asked for; what is no mount is left alone.
func TestTighten(t *testing.T) {
	testkit.NoLeaks(t)
	dir := t.TempDir()
	inner := filepath.Join(dir, "a", "b")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	entered, done := make(chan int), make(chan struct{})
	ended := make(chan error)
	go func() {
		ended <- Privately(func() error {
			for _, d := range []string{filepath.Dir(inner), inner} {
				if err := unix.Mount("tmpfs", d, "tmpfs", 0, ""); err != nil {
					return err
				}
				os.Mkdir(inner, 0o755)
			}
			entered <- unix.Gettid()
			<-done
			for name, want := range map[string]error{filepath.Dir(inner) + "/x": unix.EROFS, inner + "/x": nil} {
				if err := os.Mkdir(name, 0o755); !errors.Is(err, want) {
					t.Errorf("mkdir %s: %v, want %v", name, err, want)
				}
			}
			return nil
		})
	}()
	tid := <-entered
	list := []Attributes{{Path: filepath.Dir(inner), Set: unix.MOUNT_ATTR_RDONLY}, {Path: dir, Set: unix.MOUNT_ATTR_RDONLY}, {Path: dir + "/none", Set: unix.MOUNT_ATTR_RDONLY}}
	if err := Tighten(tid, list); err != nil {
		t.Error(err)
	}
	close(done)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "x"), 0o755); err != nil {
		t.Errorf("what is no mount: %v", err)
	}
	if err := Tighten(1<<22+1, list); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no process: %v", err)
	}
}
