package engine_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// mountLine is a line of mountinfo.
type mountLine struct {
	root, point string
	options     []string // of the mount
	peers       string   // "shared", "master", "shared master", "unbindable" or ""
	fs, source  string
	super       []string // options of the file system
}

// mountsIn parses the text of mountinfo.
func mountsIn(t testing.TB, text string) []mountLine {
	t.Helper()
	var list []mountLine
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		sep := slices.Index(f, "-")
		if sep < 6 || len(f) < sep+4 {
			continue
		}
		m := mountLine{root: f[3], point: f[4], options: strings.Split(f[5], ","), fs: f[sep+1], source: f[sep+2], super: strings.Split(f[sep+3], ",")}
		var peers []string
		for _, p := range f[6:sep] {
			name, _, _ := strings.Cut(p, ":")
			peers = append(peers, name)
		}
		m.peers = strings.Join(peers, " ")
		list = append(list, m)
	}
	return list
}

// at returns the topmost mount on a mount point.
func at(t testing.TB, list []mountLine, point string) mountLine {
	t.Helper()
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].point == point {
			return list[i]
		}
	}
	t.Errorf("nothing is mounted on %s in %+v", point, list)
	return mountLine{}
}

// hostTree makes a tmpfs on the host with a tmpfs below it, sub, and files that belong to 0, 1000 and 2000.
func hostTree(t testing.TB, propagation uintptr) string {
	t.Helper()
	return hostTreeOf(t, propagation, func(dir string) error { return unix.Mount("host", dir, "tmpfs", 0, "mode=755") })
}

// mappableTree is hostTree on a file system whose ids this kernel can map.
func mappableTree(t testing.TB) string {
	t.Helper()
	if kernelAtLeast(t, 6, 3) {
		return hostTree(t, unix.MS_PRIVATE)
	}
	return hostTreeOf(t, unix.MS_PRIVATE, func(dir string) error {
		image := dir + ".img"
		out, err := exec.Command("sh", "-c", "truncate -s 4M "+image+" && mkfs.ext4 -q "+image+" && mount -o loop "+image+" "+dir).CombinedOutput()
		if err != nil {
			t.Skipf("the kernel maps the ids of tmpfs since 6.3, and there is no ext4 on a loop device: %s", out)
		}
		return nil
	})
}

func hostTreeOf(t testing.TB, propagation uintptr, fs func(dir string) error) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	mount := func(dir string) {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := fs(dir); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		for _, uid := range []int{0, 1000, 2000} {
			name := filepath.Join(dir, fmt.Sprint("f", uid))
			if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(name, uid, uid); err != nil {
				t.Fatal(err)
			}
		}
	}
	mount(dir)
	if err := unix.Mount("", dir, "", propagation, ""); err != nil {
		t.Fatal(err)
	}
	mount(filepath.Join(dir, "sub"))
	for d := filepath.Dir(dir); strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		os.Chmod(d, 0o777)
	}
	return dir
}

// mountAll gives the container every capability, so that it may mount.
func mountAll(spec *specs.Spec) {
	caps := append(spec.Process.Capabilities.Bounding, "CAP_SYS_ADMIN")
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

// TestMountFlags looks at each option from inside: the mount's, the file system's, the tree's.
func TestMountFlags(t *testing.T) {
	testkit.NoLeaks(t)
	dir := hostTree(t, unix.MS_PRIVATE)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME, ""); err != nil {
		t.Fatal(err)
	}
	bind := func(options ...string) specs.Mount {
		return specs.Mount{Destination: "/b", Type: "none", Source: dir, Options: options}
	}
	tmpfs := func(options ...string) specs.Mount {
		return specs.Mount{Destination: "/b", Type: "tmpfs", Source: "t", Options: options}
	}
	for _, tc := range []struct {
		mounts []specs.Mount
		want   string // of /b
		sub    string // of /b/sub, "" when it must not be there
		super  string // of /b's file system, "" for whatever
	}{
		{[]specs.Mount{bind("bind")}, "rw,nosuid,nodev,noatime", "", ""},
		{[]specs.Mount{bind("rbind")}, "rw,nosuid,nodev,noatime", "rw,relatime", ""},
		{[]specs.Mount{bind("rbind", "ro")}, "ro,nosuid,nodev,noatime", "rw,relatime", ""},
		{[]specs.Mount{bind("rbind", "ro", "rw", "suid", "dev", "atime")}, "rw,relatime", "rw,relatime", ""},
		{[]specs.Mount{bind("rbind", "rro")}, "ro,nosuid,nodev,noatime", "ro,relatime", ""},
		{[]specs.Mount{bind("rbind", "rro", "rrw", "rnosuid", "rnodev", "rnoexec", "rnodiratime")}, "rw,nosuid,nodev,noexec,noatime,nodiratime", "rw,nosuid,nodev,noexec,nodiratime,relatime", ""},
		{[]specs.Mount{bind("rbind", "rsuid", "rdev", "rexec", "rdiratime", "ratime")}, "rw,relatime", "rw,relatime", ""},
		{[]specs.Mount{bind("rbind", "rnoatime")}, "rw,nosuid,nodev,noatime", "rw,noatime", ""},
		{[]specs.Mount{bind("rbind", "rstrictatime")}, "rw,nosuid,nodev", "rw", ""},
		{[]specs.Mount{bind("rbind", "rrelatime")}, "rw,nosuid,nodev,relatime", "rw,relatime", ""},
		{[]specs.Mount{bind("rbind", "rnosymfollow")}, "rw,nosuid,nodev,noatime,nosymfollow", "rw,relatime,nosymfollow", ""},
		{[]specs.Mount{bind("rbind", "rnosymfollow", "rsymfollow")}, "rw,nosuid,nodev,noatime", "rw,relatime", ""},
		{[]specs.Mount{bind("bind", "nosymfollow", "noexec", "nodiratime", "strictatime")}, "rw,nosuid,nodev,noexec,nodiratime,nosymfollow", "", ""},
		{[]specs.Mount{bind("rbind"), bind("bind", "remount", "ro", "rnoexec")}, "ro,nosuid,nodev,noexec,noatime", "rw,noexec,relatime", ""},
		{[]specs.Mount{tmpfs()}, "rw,relatime", "", "rw"},
		{[]specs.Mount{tmpfs("ro", "nosuid", "nodev", "noexec", "noatime", "nosymfollow", "size=1m", "mode=0711")}, "ro,nosuid,nodev,noexec,noatime,nosymfollow", "", "rw,size=1024k,mode=711"},
		{[]specs.Mount{tmpfs("rro", "rnosuid")}, "ro,nosuid,relatime", "", ""},
		{[]specs.Mount{tmpfs("sync", "dirsync", "lazytime", "mand", "silent", "loud", "defaults", "iversion")}, "rw,relatime", "", "rw,sync,dirsync,mand,lazytime"},
		{[]specs.Mount{tmpfs("sync", "async", "lazytime", "nolazytime", "mand", "nomand", "noiversion", "norelatime")}, "rw", "", "rw"},
		{[]specs.Mount{tmpfs("size=1m"), tmpfs("remount", "size=2m", "nosuid", "sync")}, "rw,nosuid,relatime", "", "rw,sync,size=2048k"},
		{[]specs.Mount{tmpfs("size=1m"), tmpfs("remount", "ro")}, "ro,relatime", "", "ro,size=1024k"},
	} {
		t.Run(fmt.Sprint(tc.mounts[0].Type, tc.mounts[len(tc.mounts)-1].Options), func(t *testing.T) {
			spec := testkit.Spec("cat", "/proc/self/mountinfo")
			spec.Mounts = append(spec.Mounts, tc.mounts...)
			out, _ := run(t, spec)
			list := mountsIn(t, out)
			m := at(t, list, "/b")
			if got := strings.Join(m.options, ","); got != tc.want {
				t.Errorf("mount options %s, want %s", got, tc.want)
			}
			if got := strings.Join(withoutKernels(m.super), ","); tc.super != "" && got != tc.super {
				t.Errorf("options of the file system %s, want %s", got, tc.super)
			}
			if i := slices.IndexFunc(list, func(m mountLine) bool { return m.point == "/b/sub" }); (i >= 0) != (tc.sub != "") {
				t.Errorf("/b/sub is mounted: %t", i >= 0)
			} else if i >= 0 && strings.Join(list[i].options, ",") != tc.sub {
				t.Errorf("mount options of /b/sub %v, want %s", list[i].options, tc.sub)
			}
		})
	}
}

// withoutKernels drops what a kernel adds by itself.
func withoutKernels(super []string) []string {
	return slices.DeleteFunc(slices.Clone(super), func(o string) bool { return o == "inode64" || strings.HasPrefix(o, "huge=") })
}

// TestNoSymFollow: the option does what it says.
func TestNoSymFollow(t *testing.T) {
	testkit.NoLeaks(t)
	spec := testkit.Spec("sh", "-c", "ln -s f0 /b/link; cat /b/link")
	dir := hostTree(t, unix.MS_PRIVATE)
	if err := os.Symlink("f0", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	spec.Process.Args = []string{"cat", "/b/link"}
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/b", Source: dir, Options: []string{"bind", "nosymfollow"}})
	if out, exit := run(t, spec); exit.Status == 0 || !strings.Contains(out, "Too many levels of symbolic links") {
		t.Errorf("%q, %d", out, exit.Status)
	}
}

// TestIDMappedMounts: who owns files in the container, and who owns on the host what the container makes.
func TestIDMappedMounts(t *testing.T) {
	own := []specs.LinuxIDMapping{{ContainerID: 1000, HostID: 0, Size: 1}, {ContainerID: 2000, HostID: 1000, Size: 1}, {ContainerID: 0, HostID: 7, Size: 1}}
	// With own: the owner on the disk (container id) appears as the host id, the others as nobody.
	for _, tc := range []struct {
		name    string
		userNS  bool
		options []string
		own     bool
		top     string // owners of f0 f1000 f2000
		sub     string
		made    int // on the host, the owner of a file that container root makes; -1: it may not
	}{
		{"plain", false, []string{"rbind"}, false, "0 1000 2000", "0 1000 2000", 0},
		{"own", false, []string{"rbind", "idmap"}, true, "7 0 1000", "0 1000 2000", 1000},
		{"own without the option", false, []string{"rbind"}, true, "7 0 1000", "0 1000 2000", 1000},
		{"own, recursive", false, []string{"rbind", "ridmap"}, true, "7 0 1000", "7 0 1000", 1000},
		{"plain in a user namespace", true, []string{"rbind"}, false, "65534 65534 65534", "65534 65534 65534", -1},
		{"the container's in a user namespace", true, []string{"rbind", "idmap"}, false, "0 1000 2000", "65534 65534 65534", 0},
		{"the container's, recursive", true, []string{"rbind", "ridmap"}, false, "0 1000 2000", "0 1000 2000", 0},
		{"the container's, not a tree", true, []string{"bind", "idmap"}, false, "0 1000 2000", "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			testkit.NoLeaks(t)
			dir := mappableTree(t)
			spec := testkit.Spec("sh", "-c", "for d in /b /b/sub; do echo $(stat -c %u:%g $d/f0 $d/f1000 $d/f2000 2>/dev/null); done; touch /b/made; true")
			m := specs.Mount{Destination: "/b", Type: "bind", Source: dir, Options: tc.options}
			if tc.own {
				m.UIDMappings, m.GIDMappings = own, own
			}
			spec.Mounts = append(spec.Mounts, m)
			if tc.userNS {
				withUserNamespace(spec)
			}
			out, _ := runIn(t, spec, "b")
			lines := append(strings.Split(out, "\n"), "", "")
			if got := owners(lines[0]); got != tc.top {
				t.Errorf("owners %s, want %s", got, tc.top)
			}
			if got := owners(lines[1]); got != tc.sub {
				t.Errorf("owners below %s, want %s", got, tc.sub)
			}
			made := -1
			var st unix.Stat_t
			if unix.Stat(dir+"/made", &st) == nil {
				made = int(st.Uid)
			}
			if made != tc.made {
				t.Errorf("container root's file belongs to %d on the host, want %d", made, tc.made)
			}
		})
	}
}

// owners turns "1:1 2:2" into "1 2"; a group that differs stays.
func owners(line string) string {
	var out []string
	for _, f := range strings.Fields(line) {
		if uid, gid, _ := strings.Cut(f, ":"); uid == gid {
			f = uid
		}
		out = append(out, f)
	}
	return strings.Join(out, " ")
}

// TestIDMappedJoined maps a mount as the user namespace that the container joins.
func TestIDMappedJoined(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	pause := testkit.Spec("sleep", "1000")
	withUserNamespace(pause)
	pod := create(t, e, pause, nil)
	dir := mappableTree(t)
	spec := testkit.Spec("sh", "-c", "echo $(stat -c %u:%g /b/f0 /b/f1000 /b/f2000)")
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/proc/" + itoa(pod.Pid()) + "/ns/user"})
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/b", Type: "bind", Source: dir, Options: []string{"bind", "idmap"}})
	if out, _ := runIn(t, spec, "b"); owners(out) != "0 1000 2000" {
		t.Errorf("owners %q", out)
	}
}

// TestIDMappedFileSystem maps a new file system: what is in it belongs to somebody else than its creator thinks.
func TestIDMappedFileSystem(t *testing.T) {
	if !kernelAtLeast(t, 6, 3) {
		t.Skip("the kernel maps the ids of tmpfs since 6.3")
	}
	testkit.NoLeaks(t)
	own := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 5, HostID: 0, Size: 1}}
	for _, tc := range []struct {
		name   string
		userNS bool
		m      specs.Mount
		want   string
	}{
		{"own", false, specs.Mount{Options: []string{"idmap", "mode=0777", "size=1m"}, UIDMappings: own, GIDMappings: own}, "1000 0 777"},
		{"the container's", true, specs.Mount{Options: []string{"idmap", "mode=0755", "nosuid"}}, "0 0 755"},
		{"with a copy", true, specs.Mount{Options: []string{"idmap", "tmpcopyup"}}, "0 0 755"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec := testkit.Spec("sh", "-c", "touch /b/x; stat -c %u:%g /b; stat -c %u:%g /b/x; stat -c %a /b")
			tc.m.Destination, tc.m.Type, tc.m.Source = "/b", "tmpfs", "t"
			spec.Mounts = append(spec.Mounts, tc.m)
			if tc.userNS {
				withUserNamespace(spec)
			}
			if out, _ := runIn(t, spec, "b"); owners(out) != tc.want {
				t.Errorf("%q, want %s", out, tc.want)
			}
		})
	}
}

// TestIDMapRefused: a file system that cannot be mapped is one clear error.
func TestIDMapRefused(t *testing.T) {
	testkit.NoLeaks(t)
	spec := testkit.Spec("true")
	maps := []specs.LinuxIDMapping{{HostID: 1000, Size: 1}}
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/b", Type: "sysfs", Source: "sysfs", Options: []string{"idmap"}, UIDMappings: maps, GIDMappings: maps})
	e, _ := newEngine(t)
	spec.Linux.CgroupsPath = "/" + newID()
	_, err := e.Create(timeout(t), engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)})
	if err == nil || !strings.Contains(err.Error(), "mounts[7]: mount sysfs on /b") || !strings.Contains(err.Error(), "this kernel cannot map the ids") {
		t.Errorf("%v", err)
	}
}

// runIn is run with directories in the root file system that a user namespace's root could not make.
func runIn(t testing.TB, spec *specs.Spec, dirs ...string) (string, engine.Exit) {
	t.Helper()
	bundle := testkit.Bundle(t, spec)
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(bundle, "rootfs", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return runBundle(t, bundle, spec)
}

func kernelAtLeast(t testing.TB, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var a, b int
	fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b)
	return a > major || a == major && b >= minor
}

// TestCopyUp fills a tmpfs with what it covers, as it is there.
func TestCopyUp(t *testing.T) {
	for _, userNS := range []bool{false, true} {
		t.Run(fmt.Sprintf("user namespace %t", userNS), func(t *testing.T) {
			testkit.NoLeaks(t)
			spec := testkit.Spec("sh", "-c", `cd /b; find . | sort; cat deep/er/file; stat -c '%a %u:%g %F' . deep deep/er/file link fifo empty; readlink link; stat -c %Y deep/er/file
				(echo x > new) 2>/dev/null && echo writable; grep -c ' /b .*tmpfs' /proc/self/mountinfo`)
			spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/b", Type: "tmpfs", Source: "t", Options: []string{"tmpcopyup", "size=1m", "nosuid"}})
			base := 0
			if userNS {
				withUserNamespace(spec)
				base = 100000
			}
			bundle := testkit.Bundle(t, spec)
			b := filepath.Join(bundle, "rootfs/b")
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(os.MkdirAll(b+"/deep/er", 0o755))
			must(os.WriteFile(b+"/deep/er/file", []byte("content\n"), 0o4640))
			must(os.Symlink("/etc/shadow", b+"/link"))
			must(unix.Mkfifo(b+"/fifo", 0o600))
			must(os.WriteFile(b+"/empty", nil, 0o600))
			for _, f := range []string{".", "deep", "deep/er", "deep/er/file", "link", "fifo", "empty"} {
				must(os.Lchown(filepath.Join(b, f), base+1, base+2))
			}
			must(unix.Chmod(b, 0o2770))
			must(unix.Chmod(b+"/deep/er/file", 0o4640))
			must(unix.Utimes(b+"/deep/er/file", []unix.Timeval{{Sec: 1000}, {Sec: 2000}}))
			if err := unix.Setxattr(b+"/deep", "security.test", []byte("v"), 0); err != nil {
				t.Fatal(err)
			}
			out, _ := runBundle(t, bundle, spec)
			want := `.
./deep
./deep/er
./deep/er/file
./empty
./fifo
./link
content
2770 1:2 directory
755 1:2 directory
4640 1:2 regular file
777 1:2 symbolic link
600 1:2 fifo
600 1:2 regular empty file
/etc/shadow
2000
writable
1`
			if got := strings.TrimSpace(out); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if _, err := os.Stat(b + "/new"); err == nil {
				t.Error("the image was written to")
			}
		})
	}
}

// TestCopyUpTooBig: what does not fit is an error, not a part.
func TestCopyUpTooBig(t *testing.T) {
	testkit.NoLeaks(t)
	spec := testkit.Spec("true")
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/b", Type: "tmpfs", Source: "t", Options: []string{"tmpcopyup", "size=64k"}})
	bundle := testkit.Bundle(t, spec)
	b := filepath.Join(bundle, "rootfs/b")
	if err := os.Mkdir(b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b+"/big", make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	e, _ := newEngine(t)
	spec.Linux.CgroupsPath = "/" + newID()
	testkit.WriteConfig(t, bundle, spec)
	if _, err := e.Create(timeout(t), engine.CreateRequest{ID: newID(), Bundle: bundle}); err == nil ||
		!strings.Contains(err.Error(), "mounts[7]: mount tmpfs on /b") || !strings.HasSuffix(err.Error(), "/b/big: no space left on device") {
		t.Errorf("%v", err)
	}
}

// TestTmpfsMode: a tmpfs without a mode has that of the directory it covers, or the kernel's default where there was none.
func TestTmpfsMode(t *testing.T) {
	testkit.NoLeaks(t)
	for _, mode := range []uint32{0, 0o755, 0o1777, 0o2750, 0o4321, 0o567, 0o7777} {
		spec := testkit.Spec("stat", "-c", "%a", "/b", "/none", "/c")
		t2 := func(dest string, options ...string) specs.Mount {
			return specs.Mount{Destination: dest, Type: "tmpfs", Source: "t", Options: options}
		}
		spec.Mounts = append(spec.Mounts, t2("/b", "size=1m"), t2("/none"), t2("/c", "mode=0700"))
		bundle := testkit.Bundle(t, spec)
		for _, d := range []string{"b", "c"} {
			p := filepath.Join(bundle, "rootfs", d)
			if err := os.Mkdir(p, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := unix.Chmod(p, mode); err != nil {
				t.Fatal(err)
			}
		}
		out, _ := runBundle(t, bundle, spec)
		if want := fmt.Sprintf("%o 1777 700", mode); strings.Join(strings.Fields(out), " ") != want {
			t.Errorf("%q, want %s", out, want)
		}
	}
}

// TestPropagation: what the root and a volume are to the host, by linux.rootfsPropagation and the mount's own options.
func TestPropagation(t *testing.T) {
	for _, tc := range []struct {
		root    string
		options []string
		peers   string // of /, of /b
		in, out bool   // a later mount on the host is seen in the container, and the reverse
	}{
		{"", []string{"rbind"}, "|master", true, false},
		{"", []string{"rbind", "rprivate"}, "|", false, false},
		{"", []string{"rbind", "private"}, "|", false, false},
		{"", []string{"rbind", "rshared"}, "|shared master", true, false},
		{"", []string{"rbind", "rslave"}, "|master", true, false},
		{"", []string{"rbind", "unbindable"}, "|unbindable", false, false},
		{"private", []string{"rbind"}, "|", false, false},
		{"rprivate", []string{"rbind"}, "|", false, false},
		{"slave", []string{"rbind"}, "master|master", true, false},
		{"rslave", []string{"rbind", "rslave"}, "master|master", true, false},
		{"shared", []string{"rbind"}, "shared|shared", true, true},
		{"rshared", []string{"rbind", "rshared"}, "shared|shared", true, true},
		{"rshared", []string{"rbind", "rprivate"}, "shared|shared", false, false},
		{"shared", []string{"rbind", "private"}, "shared|", false, false},
		{"unbindable", []string{"rbind"}, "unbindable|", false, false},
		{"runbindable", []string{"rbind"}, "unbindable|unbindable", false, false},
	} {
		t.Run(fmt.Sprint(tc.root, tc.options), func(t *testing.T) {
			testkit.NoLeaks(t)
			dir := hostTree(t, unix.MS_SHARED)
			for _, d := range []string{"fromhost", "fromcontainer"} {
				if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			spec := testkit.Spec("sh", "-c", "mount -t tmpfs x /b/fromcontainer; mkdir /d; mount -t tmpfs y /d; cat /proc/self/mountinfo; read x")
			mountAll(spec)
			spec.Linux.RootfsPropagation = tc.root
			spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/b", Type: "bind", Source: dir, Options: tc.options})
			// The root file system lies on a shared mount too.
			bundle := testkit.Bundle(t, spec)
			root := filepath.Join(bundle, "rootfs")
			if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Unmount(root, unix.MNT_DETACH) })
			if err := unix.Mount("", root, "", unix.MS_SHARED, ""); err != nil {
				t.Fatal(err)
			}
			e, _ := newEngine(t)
			spec.Linux.CgroupsPath = "/" + newID()
			testkit.WriteConfig(t, bundle, spec)
			stdin, hold, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			ctx := timeout(t)
			c, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: bundle, Stdio: engine.Stdio{In: stdin, Out: w, Err: w}})
			stdin.Close()
			w.Close()
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				hold.Close()
				c.Wait(ctx, "")
				if _, err := c.Delete(ctx); err != nil {
					t.Error(err)
				}
				unix.Unmount(filepath.Join(dir, "fromcontainer"), unix.MNT_DETACH)
			}()
			if err := unix.Mount("x", filepath.Join(dir, "fromhost"), "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			defer unix.Unmount(filepath.Join(dir, "fromhost"), unix.MNT_DETACH)
			if err := c.Start(ctx); err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			buf := make([]byte, 64<<10)
			for !strings.Contains(text.String(), " /d ") {
				n, err := r.Read(buf)
				if err != nil {
					t.Fatalf("%v: %s", err, text.String())
				}
				text.Write(buf[:n])
			}
			list := mountsIn(t, text.String())
			if got := at(t, list, "/").peers + "|" + at(t, list, "/b").peers; got != tc.peers {
				t.Errorf("propagation of / and /b: %s, want %s", got, tc.peers)
			}
			if in := slices.ContainsFunc(list, func(m mountLine) bool { return m.point == "/b/fromhost" }); in != tc.in {
				t.Errorf("the host's mount is seen: %t, want %t", in, tc.in)
			}
			host, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil {
				t.Fatal(err)
			}
			if out := strings.Contains(string(host), " "+dir+"/fromcontainer "); out != tc.out {
				t.Errorf("the container's mount is on the host: %t, want %t", out, tc.out)
			}
			for _, m := range mountsIn(t, string(host)) { // none of those below the container's root
				if strings.HasPrefix(m.point, root+"/") {
					t.Errorf("%s is mounted on the host", m.point)
				}
			}
		})
	}
}
