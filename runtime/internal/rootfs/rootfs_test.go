package rootfs_test

import (
	"errors"
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

// TestLoop mounts image files.
func TestLoop(t *testing.T) {
	for _, tc := range []struct {
		fs, tool, debian string
		args             func(image, tree string) []string
		options          []string
		readOnly         bool
	}{
		{"ext4", "mke2fs", "e2fsprogs", func(image, tree string) []string { return []string{"-q", "-t", "ext4", "-d", tree, image, "8M"} },
			[]string{"loop"}, false},
		{"ext4", "mke2fs", "e2fsprogs", func(image, tree string) []string { return []string{"-q", "-t", "ext4", "-d", tree, image, "8M"} },
			[]string{"loop", "ro", "nosuid"}, true},
		{"erofs", "mkfs.erofs", "erofs-utils", func(image, tree string) []string { return []string{"--quiet", image, tree} },
			[]string{"loop"}, true},
		{"erofs", "mkfs.erofs", "erofs-utils", func(image, tree string) []string { return []string{"--quiet", image, tree} },
			[]string{"loop", "ro"}, true},
	} {
		t.Run(tc.fs+" "+strings.Join(tc.options, ","), func(t *testing.T) {
			testkit.NoLeaks(t)
			testkit.NeedFileSystem(t, tc.fs)
			if _, err := os.Stat("/dev/loop-control"); err != nil {
				t.Skip("the kernel has no loop devices")
			}
			tool, err := exec.LookPath(tc.tool)
			if err != nil {
				t.Fatalf("the tests need %s of Debian's %s, which make test-unit installs: %v", tc.tool, tc.debian, err)
			}
			dir := scratch(t)
			tree, image, root := filepath.Join(dir, "tree"), filepath.Join(dir, "image"), filepath.Join(dir, "root")
			if err := os.MkdirAll(filepath.Join(tree, "etc"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(tree, "etc/motd"), []byte("hello"), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(tool, tc.args(image, tree)...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", tc.tool, err, out)
			}
			if err := rootfs.MountAll([]rootfs.Mount{{Type: tc.fs, Source: image, Options: tc.options}}, root, launch.UserNamespace); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(root, "etc/motd")); string(b) != "hello" {
				t.Errorf("%q, %v", b, err)
			}
			if err := os.WriteFile(filepath.Join(root, "new"), nil, 0o644); errors.Is(err, unix.EROFS) != tc.readOnly {
				t.Errorf("write: %v, read-only %t", err, tc.readOnly)
			}
			if err := rootfs.Unmount(root); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAttackTarget: a link is in the place of the bundle's rootfs. Nothing is mounted where it leads.
func TestAttackTarget(t *testing.T) {
	testkit.NoLeaks(t)
	dir := scratch(t)
	elsewhere, root := filepath.Join(dir, "elsewhere"), filepath.Join(dir, "place")
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, root); err != nil {
		t.Fatal(err)
	}
	err := rootfs.MountAll([]rootfs.Mount{{Type: "tmpfs", Source: "tmpfs"}}, root, launch.UserNamespace)
	if err == nil || !strings.Contains(err.Error(), "is not a directory") {
		t.Errorf("got %v", err)
	}
	// And a target below the root file system does not leave it.
	if err := os.Remove(root); err != nil {
		t.Fatal(err)
	}
	lower := filepath.Join(dir, "below")
	if err := os.Mkdir(lower, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(lower, "out")); err != nil {
		t.Fatal(err)
	}
	err = rootfs.MountAll([]rootfs.Mount{{Type: "bind", Source: lower, Options: []string{"bind"}}, {Type: "tmpfs", Source: "tmpfs", Target: "/out"}}, root, launch.UserNamespace)
	if err == nil || !strings.HasPrefix(err.Error(), "rootfs[1] tmpfs") {
		t.Errorf("got %v", err)
	}
	if list, _ := os.ReadDir(elsewhere); len(list) > 0 {
		t.Errorf("made elsewhere: %v", list)
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
