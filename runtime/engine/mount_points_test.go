package engine_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// image adds links ("a -> b"), directories ("a/") and files to a root file system.
func image(t testing.TB, root string, entries ...string) {
	t.Helper()
	for _, e := range entries {
		name, target, link := strings.Cut(e, " -> ")
		p := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch {
		case err != nil:
		case link:
			err = os.Symlink(target, p)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		default:
			err = os.WriteFile(p, []byte("image\n"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestMountPoints mounts on what is there, on what is not, and through links, those that lead nowhere included: they are made
// to lead somewhere in the image.
func TestMountPoints(t *testing.T) {
	file := func(dest string) specs.Mount {
		return specs.Mount{Destination: dest, Type: "bind", Source: "FILE", Options: []string{"bind", "ro"}}
	}
	dir := func(dest string) specs.Mount {
		return specs.Mount{Destination: dest, Type: "bind", Source: "DIR", Options: []string{"rbind", "ro"}}
	}
	tmpfs := func(dest string) specs.Mount {
		return specs.Mount{Destination: dest, Type: "tmpfs", Source: "t", Options: []string{"mode=0700"}}
	}
	for _, tc := range []struct {
		name   string
		image  []string
		mounts []specs.Mount
		script string
		want   string // output, or the end of the error
		fails  bool
	}{
		{"a file that is there", []string{"etc/hosts"}, []specs.Mount{file("/etc/hosts")}, "cat /etc/hosts", "host", false},
		{"a file that is not", nil, []specs.Mount{file("/a/b/c")}, "cat /a/b/c; stat -c %a /a/b", "host\n755", false},
		{"a directory that is not", nil, []specs.Mount{dir("/a/b/c")}, "cat /a/b/c/file", "host", false},
		{"a relative destination", nil, []specs.Mount{dir("a/./b/../c")}, "cat /a/c/file", "host", false},
		{"a destination that climbs", nil, []specs.Mount{dir("/../../x")}, "cat /x/file", "host", false},
		{"through a link", []string{"real/", "link -> real"}, []specs.Mount{dir("/link/x")}, "cat /real/x/file", "host", false},
		{"through an absolute link", []string{"real/", "link -> /real"}, []specs.Mount{file("/link/x")}, "cat /real/x", "host", false},
		{"a link to a file", []string{"real", "link -> real"}, []specs.Mount{file("/link")}, "cat /real", "host", false},
		{"a dangling link to a file", []string{"run2/", "etc/resolv.conf -> ../run2/stub.conf"}, []specs.Mount{file("/etc/resolv.conf")}, "cat /run2/stub.conf", "host", false},
		{"a dangling link to a deep file", []string{"etc/resolv.conf -> ../none/systemd/stub.conf"}, []specs.Mount{file("/etc/resolv.conf")},
			"cat /etc/resolv.conf /none/systemd/stub.conf; stat -c '%a %u' /none/systemd", "host\nhost\n755 0", false},
		{"a dangling absolute link", []string{"etc/localtime -> /usr/share/zone/x"}, []specs.Mount{file("/etc/localtime")}, "cat /usr/share/zone/x", "host", false},
		{"a chain of dangling links", []string{"a -> b", "b -> /c/../d", "d -> e/f"}, []specs.Mount{file("/a")}, "cat /e/f", "host", false},
		{"a dangling link to a directory", []string{"var/run -> ../none/run"}, []specs.Mount{dir("/var/run")}, "cat /none/run/file", "host", false},
		{"below a dangling link", []string{"link -> none"}, []specs.Mount{dir("/link/x/y")}, "cat /none/x/y/file", "host", false},
		{"a tmpfs on a dangling link", []string{"link -> /none/x"}, []specs.Mount{tmpfs("/link")}, "stat -c %a /none/x", "700", false},
		{"a dangling link out of the image", []string{"link -> ../../../../../../../../OUT/made"}, []specs.Mount{file("/link")}, "cat /OUT/made", "host", false},
		{"a dangling link into an earlier mount", []string{"link -> /run/new/x"}, []specs.Mount{file("/link")}, "cat /run/new/x", "host", false},
		{"a loop of links", []string{"a -> b", "b -> a"}, []specs.Mount{file("/a")}, "",
			"too many levels of symbolic links (the destination is a symbolic link, or leads through a loop of them)", true},
		{"a dangling loop", []string{"a -> x/../a"}, []specs.Mount{file("/a")}, "", "too many levels of symbolic links (the destination is a symbolic link, or leads through a loop of them)", true},
		{"through a file", []string{"file"}, []specs.Mount{file("/file/x")}, "", "not a directory (one of source and destination is a directory, the other a file)", true},
		{"a file on a directory", []string{"d/"}, []specs.Mount{file("/d")}, "", "not a directory (one of source and destination is a directory, the other a file)", true},
		{"a directory on a file", []string{"f"}, []specs.Mount{dir("/f")}, "", "not a directory (one of source and destination is a directory, the other a file)", true},
		{"over another mount", nil, []specs.Mount{tmpfs("/x"), dir("/x")}, "cat /x/file; grep -c ' /x ' /proc/self/mountinfo", "host\n2", false},
		{"below another mount", nil, []specs.Mount{tmpfs("/x"), dir("/x/y"), file("/x/y/file")}, "cat /x/y/file; stat -c %a /x", "host\n700", false},
		{"below a read-only one", nil, []specs.Mount{dir("/x"), file("/x/new")}, "", "read-only file system (the mount point is not there, and what is to have it is read-only)", true},
		{"on a file of a read-only one", nil, []specs.Mount{dir("/x"), file("/x/file")}, "cat /x/file; (echo > /x/file) 2>&1", "host\nsh: can't create /x/file: Read-only file system", false},
		{"below a read-only tmpfs", nil, []specs.Mount{{Destination: "/x", Type: "tmpfs", Source: "t", Options: []string{"ro"}}, dir("/x/y")},
			"cat /x/y/file; (echo > /x/z) 2>&1", "host\nsh: can't create /x/z: Read-only file system", false},
		{"an unknown file system", nil, []specs.Mount{{Destination: "/x", Type: "nofs", Source: "t"}}, "", "no such device (this kernel has no file system nofs)", true},
		{"an unknown option", nil, []specs.Mount{{Destination: "/x", Type: "tmpfs", Source: "t", Options: []string{"nonsense=1"}}}, "", "invalid argument (an option that tmpfs does not take)", true},
		{"remount of no mount", []string{"d/"}, []specs.Mount{{Destination: "/d", Options: []string{"bind", "remount", "ro"}}}, "",
			"invalid argument (the destination is no mount point, or an option is wrong)", true},
		{"proc on a link", []string{"p -> proc"}, []specs.Mount{{Destination: "/p", Type: "proc", Source: "proc"}}, "",
			"too many levels of symbolic links (the destination is a symbolic link, or leads through a loop of them)", true},
	} {
		for _, userNS := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, user namespace %t", tc.name, userNS), func(t *testing.T) {
				testkit.NoLeaks(t)
				host := t.TempDir()
				image(t, host, "dir/")
				if err := os.WriteFile(host+"/dir/file", []byte("host\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				spec := testkit.Spec("sh", "-c", tc.script)
				for _, m := range tc.mounts {
					m.Source = strings.NewReplacer("FILE", host+"/dir/file", "DIR", host+"/dir").Replace(m.Source)
					spec.Mounts = append(spec.Mounts, m)
				}
				bundle := testkit.Bundle(t, spec)
				root := filepath.Join(bundle, "rootfs")
				image(t, root, tc.image...)
				if userNS {
					withUserNamespace(spec)
					err := filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
						if err == nil {
							err = os.Lchown(p, 100000, 100000)
						}
						return err
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				if !tc.fails {
					if out, _ := runBundle(t, bundle, spec); strings.TrimSpace(out) != tc.want {
						t.Errorf("got\n%s\nwant\n%s", out, tc.want)
					}
				} else {
					e, _ := newEngine(t)
					spec.Linux.CgroupsPath = "/" + newID()
					testkit.WriteConfig(t, bundle, spec)
					_, err := e.Create(timeout(t), engine.CreateRequest{ID: newID(), Bundle: bundle})
					if err == nil || !strings.HasPrefix(err.Error(), "mounts[") || !strings.HasSuffix(err.Error(), tc.want) {
						t.Errorf("%v, want %s", err, tc.want)
					}
				}
				if exists("/OUT") {
					os.RemoveAll("/OUT")
					t.Error("something was made on the host")
				}
			})
		}
	}
}

// TestSharedDev: a bind of somebody's /dev is left as it is; the container's own one has the default devices.
func TestSharedDev(t *testing.T) {
	testkit.NoLeaks(t)
	dev := t.TempDir()
	if err := os.WriteFile(dev+"/mine", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	spec := testkit.Spec("ls", "/dev")
	spec.Mounts = []specs.Mount{spec.Mounts[0], {Destination: "/dev", Type: "bind", Source: dev, Options: []string{"rbind", "ro"}}}
	spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}}
	if out, _ := run(t, spec); strings.TrimSpace(out) != "mine" {
		t.Errorf("in a shared /dev: %s", out)
	}
	spec = testkit.Spec("ls", "/dev")
	want := "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero"
	if exists("/proc/kcore") {
		want = "core\n" + want
	}
	if out, _ := run(t, spec); strings.TrimSpace(out) != want {
		t.Errorf("in a /dev of its own: %s", out)
	}
}

// TestDeviceThere: a node that was there before, here the host's, bound by a mount, keeps its owner and mode; it must be the device that config.json
// names.
func TestDeviceThere(t *testing.T) {
	testkit.NoLeaks(t)
	host := filepath.Join(t.TempDir(), "node")
	if err := unix.Mknod(host, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))); err != nil {
		t.Fatal(err)
	}
	with := func(d specs.LinuxDevice) *specs.Spec {
		mode, id := os.FileMode(0o666), uint32(7)
		d.Path, d.FileMode, d.UID, d.GID = "/dev/there", &mode, &id, &id
		spec := testkit.Spec("stat", "-c", "%F %t:%T %a %u:%g", "/dev/there")
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/dev/there", Type: "bind", Source: host, Options: []string{"bind", "dev"}})
		spec.Linux.Devices = []specs.LinuxDevice{d}
		return spec
	}
	const want = "character special file 1:5 600 0:0"
	if out, _ := run(t, with(specs.LinuxDevice{Type: "c", Major: 1, Minor: 5})); strings.TrimSpace(out) != want {
		t.Errorf("in the container: %s, want %s", out, want)
	}
	for _, other := range []specs.LinuxDevice{{Type: "c", Major: 1, Minor: 3}, {Type: "b", Major: 1, Minor: 5}, {Type: "p"}} {
		spec := with(other)
		spec.Linux.CgroupsPath = "/" + newID()
		e, _ := newEngine(t)
		_, err := e.Create(timeout(t), engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)})
		if err == nil || !strings.HasPrefix(err.Error(), "linux.devices[0]: ") || !strings.HasSuffix(err.Error(), "file exists") {
			t.Errorf("%s %d:%d: %v", other.Type, other.Major, other.Minor, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(host, &st); err != nil || st.Mode != unix.S_IFCHR|0o600 || st.Uid != 0 || st.Gid != 0 {
		t.Errorf("on the host: mode %o, owner %d:%d (%v)", st.Mode, st.Uid, st.Gid, err)
	}
}

// TestBoundProc: another proc may cover /proc, nothing else.
func TestBoundProc(t *testing.T) {
	testkit.NoLeaks(t)
	spec := testkit.Spec("sh", "-c", "readlink /proc/self; cat /proc/1/comm | wc -l")
	spec.Mounts[0] = specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind", "ro"}}
	spec.Linux.Namespaces = spec.Linux.Namespaces[1:] // the host's pid namespace, whose proc it is
	out, _ := run(t, spec)
	if f := strings.Fields(out); len(f) != 2 || f[0] == "" || f[1] != "1" {
		t.Errorf("%q", out)
	}
	spec.Mounts[0].Source = "/proc/self/net"
	e, _ := newEngine(t)
	spec.Linux.CgroupsPath = "/" + newID()
	if _, err := e.Create(timeout(t), engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)}); err == nil || !strings.Contains(err.Error(), "not the root of a proc") {
		t.Errorf("%v", err)
	}
}

// TestOwnNull: streams that nobody gave are the container's /dev/null, not the host's.
func TestOwnNull(t *testing.T) {
	testkit.NoLeaks(t)
	const script = "stat -L -c %d:%i /dev/null /proc/self/fd/0; readlink /proc/self/fd/0"
	for _, userNS := range []bool{false, true} {
		spec := testkit.Spec("sh", "-c", script)
		if userNS {
			withUserNamespace(spec)
		}
		out, _ := run(t, spec)
		f := strings.Fields(out)
		if len(f) != 3 || f[0] != f[1] || f[2] != "/dev/null" {
			t.Errorf("user namespace %t: %q", userNS, out)
		}
	}
	e, _ := newEngine(t)
	c := create(t, e, testkit.Spec("sleep", "1000"), nil)
	ctx := timeout(t)
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	out, _ := execProcess(t, c, "null", testkit.Spec("sh", "-c", script).Process)
	if f := strings.Fields(out); len(f) != 3 || f[0] != f[1] || f[2] != "/dev/null" {
		t.Errorf("exec: %q", out)
	}
}
