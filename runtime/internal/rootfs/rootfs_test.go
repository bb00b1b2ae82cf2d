package rootfs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch"
	"github.com/gosuda/gosudacon/runtime/internal/rootfs"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// scratch is a directory on a tmpfs, which an overlay's upper directory may be on wherever the tests run.
func scratch(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	for _, d := range []string{"upper", "work", "root"} {
		os.Mkdir(filepath.Join(dir, d), 0o755)
	}
	return dir
}

// TestOverlay mounts overlays with few and with many layers: more than fit into a page of options.
func TestOverlay(t *testing.T) {
	testkit.NoLeaks(t)
	for _, layers := range []int{1, 3, 100} {
		t.Run(fmt.Sprint(layers), func(t *testing.T) {
			dir := scratch(t)
			var lower []string
			for i := range layers {
				l := filepath.Join(dir, fmt.Sprintf("layer-with-a-rather-long-name-%d", i))
				os.Mkdir(l, 0o755)
				os.WriteFile(filepath.Join(l, fmt.Sprintf("f%d", i)), []byte("x"), 0o644)
				lower = append(lower, l)
			}
			m := rootfs.Mount{Type: "overlay", Source: "overlay", Options: []string{"index=off",
				"workdir=" + dir + "/work", "upperdir=" + dir + "/upper", "lowerdir=" + strings.Join(lower, ":")}}
			root := filepath.Join(dir, "root")
			if err := rootfs.MountAll([]rootfs.Mount{m}, root, launch.UserNamespace); err != nil {
				t.Fatal(err)
			}
			if list, _ := os.ReadDir(root); len(list) != layers {
				t.Errorf("%d files, want %d", len(list), layers)
			}
			if err := os.WriteFile(filepath.Join(root, "new"), nil, 0o644); err != nil {
				t.Error(err)
			}
			if err := rootfs.Unmount(root); err != nil {
				t.Error(err)
			}
			if list, _ := os.ReadDir(root); len(list) != 0 {
				t.Error("still mounted")
			}
			if err := rootfs.Unmount(root); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}

func TestBind(t *testing.T) {
	testkit.NoLeaks(t)
	dir := scratch(t)
	os.WriteFile(filepath.Join(dir, "upper/file"), []byte("x"), 0o644)
	os.Mkdir(filepath.Join(dir, "upper/sub"), 0o755)
	root := filepath.Join(dir, "root")
	err := rootfs.MountAll([]rootfs.Mount{
		{Type: "bind", Source: dir + "/upper", Options: []string{"rbind", "ro"}},
		{Type: "tmpfs", Source: "tmpfs", Target: "/sub", Options: []string{"size=1m"}},
	}, root, launch.UserNamespace)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o644); err == nil {
		t.Error("a read-only bind mount is writable")
	}
	if err := os.WriteFile(filepath.Join(root, "sub/x"), nil, 0o644); err != nil {
		t.Errorf("the mount below: %v", err)
	}
	if err := rootfs.Unmount(root); err != nil {
		t.Error(err)
	}
}

// TestLoop mounts an image file.
func TestLoop(t *testing.T) {
	testkit.NoLeaks(t)
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		t.Skip("mkfs.ext4 (Debian's e2fsprogs) is missing")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("the kernel has no loop devices")
	}
	dir := scratch(t)
	image := filepath.Join(dir, "image")
	if f, err := os.Create(image); err != nil || f.Truncate(4<<20) != nil || f.Close() != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, "-q", image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	root := filepath.Join(dir, "root")
	if err := rootfs.MountAll([]rootfs.Mount{{Type: "ext4", Source: image, Options: []string{"loop", "ro"}}}, root, launch.UserNamespace); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "lost+found")); err != nil {
		t.Error(err)
	}
	if err := rootfs.Unmount(root); err != nil {
		t.Error(err)
	}
}

// TestFailure: after an error nothing stays mounted, and the error names the mount.
func TestFailure(t *testing.T) {
	testkit.NoLeaks(t)
	dir := scratch(t)
	root := filepath.Join(dir, "root")
	for _, bad := range []rootfs.Mount{
		{Type: "bind", Source: "/no/such", Options: []string{"bind"}},
		{Type: "nosuchfs", Source: "x"},
		{Type: "fuse3.overlayfs", Source: "x"},
		{Type: "overlay", Source: "x", Options: []string{"uidmap=0:1:1"}},
		{Type: "overlay", Source: "x", Options: []string{"uidmap=0:1:1", "gidmap=0:1:1"}},
		{Type: "bind", Source: "/", Options: []string{"bind", "uidmap=0:1:1,", "gidmap=0:1:1"}},
		{Type: "bind", Source: "/", Options: []string{"bind", "uidmap=0:1:1", "gidmap=0:x:1"}},
		{Type: "sysfs", Source: "x", Options: []string{"uidmap=0:1:1", "gidmap=0:1:1"}},
		{Type: "tmpfs", Source: "x", Target: "/missing"},
	} {
		err := rootfs.MountAll([]rootfs.Mount{{Type: "tmpfs", Source: "tmpfs"}, bad}, root, launch.UserNamespace)
		if err == nil || !strings.HasPrefix(err.Error(), "rootfs[1] "+bad.Type) {
			t.Errorf("%+v: %v", bad, err)
		}
		if err := os.WriteFile(filepath.Join(root, "probe"), nil, 0o644); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "root/probe")); err != nil {
			t.Error("the first mount is still there")
		}
		os.Remove(filepath.Join(root, "probe"))
	}
}

// TestOverlayOfOldKernels takes the way that kernels without lowerdir+ need.
func TestOverlayOfOldKernels(t *testing.T) {
	testkit.NoLeaks(t)
	dir := scratch(t)
	var lower []string
	for i := range 100 {
		l := filepath.Join(dir, fmt.Sprintf("layer-with-a-rather-long-name-%d/fs", i))
		os.MkdirAll(l, 0o755)
		os.WriteFile(filepath.Join(l, fmt.Sprintf("f%d", i)), []byte("x"), 0o644)
		lower = append(lower, l)
	}
	root := filepath.Join(dir, "root")
	if err := rootfs.MountRelative(root, []string{"lowerdir=" + strings.Join(lower, ":"), "upperdir=" + dir + "/upper", "workdir=" + dir + "/work"}); err != nil {
		t.Fatal(err)
	}
	if list, _ := os.ReadDir(root); len(list) != 100 {
		t.Errorf("%d files", len(list))
	}
	if err := rootfs.Unmount(root); err != nil {
		t.Error(err)
	}
}
