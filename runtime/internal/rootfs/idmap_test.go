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

var mapping = []string{"uidmap=0:100000:1000,1000:5:1", "gidmap=0:200000:1000,1000:6:1"}

// mappable is scratch on a file system whose ids this kernel can map.
func mappable(t *testing.T) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	if major > 6 || major == 6 && minor >= 3 {
		return scratch(t)
	}
	dir := t.TempDir()
	image := filepath.Join(t.TempDir(), "image")
	out, err := exec.Command("sh", "-c", "truncate -s 16M "+image+" && mkfs.ext4 -q "+image+" && mount -o loop "+image+" "+dir).CombinedOutput()
	if err != nil {
		t.Skipf("the kernel maps the ids of tmpfs since 6.3, and there is no ext4 on a loop device: %s", out)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	for _, d := range []string{"upper", "work", "root"} {
		os.Mkdir(filepath.Join(dir, d), 0o755)
	}
	return dir
}

func owner(t *testing.T, name string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		t.Error(err)
	}
	return fmt.Sprint(st.Uid, ":", st.Gid)
}

// file makes a file that belongs to id.
func file(t *testing.T, name string, id int) {
	t.Helper()
	if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(name, id, id); err != nil {
		t.Fatal(err)
	}
}

// TestIDMappedOverlay maps the layers of an overlay, few and more than fit into a page of options. What a process of the host's
// ids writes belongs to those; what it changes of a layer is copied with them.
func TestIDMappedOverlay(t *testing.T) {
	testkit.NoLeaks(t)
	for _, layers := range []int{1, 3, 100} {
		t.Run(fmt.Sprint(layers), func(t *testing.T) {
			dir := mappable(t)
			var lower []string
			for i := range layers {
				l := filepath.Join(dir, fmt.Sprintf("snapshots/layer-with-a-rather-long-name-%d/fs", i))
				if err := os.MkdirAll(l, 0o755); err != nil {
					t.Fatal(err)
				}
				file(t, filepath.Join(l, fmt.Sprint("f", i)), 0)
				lower = append(lower, l)
			}
			file(t, lower[0]+"/user", 1000)
			file(t, lower[0]+"/changed", 7)
			file(t, lower[0]+"/nobody", 5000)
			for _, d := range []string{"upper", "work"} {
				os.Chown(filepath.Join(dir, d), 100000, 200000)
			}
			root := filepath.Join(dir, "root")
			m := rootfs.Mount{Type: "overlay", Source: "overlay", Options: append([]string{"index=off", "workdir=" + dir + "/work", "upperdir=" + dir + "/upper",
				"lowerdir=" + strings.Join(lower, ":")}, mapping...)}
			if err := rootfs.MountAll([]rootfs.Mount{m}, root, launch.UserNamespace); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := rootfs.Unmount(root); err != nil {
					t.Error(err)
				}
				if list, _ := os.ReadDir(root); len(list) != 0 {
					t.Errorf("left: %v", list)
				}
			}()
			if list, _ := os.ReadDir(root); len(list) != layers+3 {
				t.Errorf("%d files, want %d", len(list), layers+3)
			}
			for name, want := range map[string]string{"f0": "100000:200000", fmt.Sprint("f", layers-1): "100000:200000", "user": "5:6", "changed": "100007:200007", "nobody": "65534:65534"} {
				if got := owner(t, filepath.Join(root, name)); got != want {
					t.Errorf("%s belongs to %s, want %s", name, got, want)
				}
			}
			if err := os.WriteFile(root+"/changed", []byte("new"), 0); err != nil {
				t.Fatal(err)
			}
			if got := owner(t, dir+"/upper/changed"); got != "100007:200007" {
				t.Errorf("the copy in the upper layer belongs to %s", got)
			}
			if b, _ := os.ReadFile(lower[0] + "/changed"); string(b) != "x" {
				t.Errorf("the layer has %q", b)
			}
			if got := owner(t, lower[0]+"/f0"); got != "0:0" {
				t.Errorf("on the disk the layer's file belongs to %s", got)
			}
		})
	}
}

// TestIDMappedBind maps any other mount.
func TestIDMappedBind(t *testing.T) {
	testkit.NoLeaks(t)
	dir := mappable(t)
	file(t, dir+"/upper/f", 0)
	file(t, dir+"/upper/user", 1000)
	root := filepath.Join(dir, "root")
	m := rootfs.Mount{Type: "bind", Source: dir + "/upper", Options: append([]string{"rbind", "ro"}, mapping...)}
	if err := rootfs.MountAll([]rootfs.Mount{m}, root, launch.UserNamespace); err != nil {
		t.Fatal(err)
	}
	defer rootfs.Unmount(root)
	if a, b := owner(t, root+"/f"), owner(t, root+"/user"); a != "100000:200000" || b != "5:6" {
		t.Errorf("owners %s, %s", a, b)
	}
	if err := os.WriteFile(root+"/new", nil, 0o644); err == nil {
		t.Error("a read-only mount is writable")
	}
	if got := owner(t, dir+"/upper/f"); got != "0:0" {
		t.Errorf("on the disk the file belongs to %s", got)
	}
}
