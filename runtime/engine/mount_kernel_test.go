package engine_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// TestCgroupMount: the container sees its own cgroups, and can write to them only if it is to.
func TestCgroupMount(t *testing.T) {
	v2 := exists("/sys/fs/cgroup/cgroup.controllers")
	for _, own := range []bool{false, true} {
		for _, readOnly := range []bool{false, true} {
			for _, userNS := range []bool{false, true} {
				t.Run(fmt.Sprintf("own namespace %t, read-only %t, user namespace %t", own, readOnly, userNS), func(t *testing.T) {
					testkit.NoLeaks(t)
					spec := testkit.Spec("sh", "-c", "cat /proc/self/mountinfo /proc/self/cgroup; cd /sys/fs/cgroup; ls -l; test -d pids && cd pids; mkdir sub && echo made")
					options := []string{"nosuid", "noexec", "nodev", "relatime"}
					if readOnly {
						options = append(options, "ro")
					}
					spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: options})
					if own {
						spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
					}
					if userNS {
						withUserNamespace(spec)
					}
					out, _ := run(t, spec)
					list := mountsIn(t, out)
					// root says which directory of the host's tree is shown.
					root := spec.Linux.CgroupsPath
					if own {
						root = "/"
					}
					m := at(t, list, "/sys/fs/cgroup")
					if v2 {
						if !own {
							root = "/" // the whole tree, as with runc
						}
						if m.fs != "cgroup2" || m.root != root {
							t.Errorf("%+v, want %s of cgroup2", m, root)
						}
					} else {
						if m.fs != "tmpfs" {
							t.Errorf("%+v, want a tmpfs", m)
						}
						pids := at(t, list, "/sys/fs/cgroup/pids")
						if pids.fs != "cgroup" || pids.root != root {
							t.Errorf("%+v, want %s of cgroup", pids, root)
						}
						if slices.Contains(pids.options, "ro") != readOnly || !slices.Contains(pids.options, "noexec") {
							t.Errorf("options %v, read-only %t", pids.options, readOnly)
						}
					}
					// A user namespace may not mount the whole tree; it is shown the host's mount, which it must not write to
					// (CVE-2023-25809).
					want := readOnly || v2 && userNS && !own
					if slices.Contains(m.options, "ro") != want {
						t.Errorf("options %v, read-only %t", m.options, want)
					}
					// A user namespace's root owns only what it is given; that of the whole tree of v2 nobody is to touch.
					if made := strings.Contains(out, "\nmade"); readOnly && made {
						t.Errorf("a cgroup was made in a read-only mount: %s", out)
					} else if !readOnly && !userNS && own && !made {
						t.Errorf("no cgroup could be made: %s", out)
					}
					if v2 && !own {
						os.Remove("/sys/fs/cgroup/sub")
					}
				})
			}
		}
	}
}

// TestSysfs: a user namespace without a network namespace of its own may not mount sysfs; it sees the host's, without what is
// mounted there.
func TestSysfs(t *testing.T) {
	testkit.NoLeaks(t)
	spec := testkit.Spec("sh", "-c", "test -d /sys/class/net && cat /proc/self/mountinfo")
	withUserNamespace(spec)
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	spec.Linux.MaskedPaths = nil
	out, _ := run(t, spec)
	list := mountsIn(t, out)
	m := at(t, list, "/sys")
	if got := strings.Join(m.options, ","); m.fs != "sysfs" || got != "ro,nosuid,nodev,noexec,relatime" {
		t.Errorf("%+v", m)
	}
	for _, m := range list {
		if strings.HasPrefix(m.point, "/sys/") {
			t.Errorf("%+v", m)
		}
	}
}

// TestFileSystems mounts each kind that a container asks for, with options of its own.
func TestFileSystems(t *testing.T) {
	testkit.NoLeaks(t)
	layers := t.TempDir()
	// An overlay's upper layer cannot lie on just any file system.
	if err := unix.Mount("t", layers, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(layers, unix.MNT_DETACH)
	for _, d := range []string{"low", "up", "work"} {
		if err := os.Mkdir(filepath.Join(layers, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(layers+"/low/f", []byte("low\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec := testkit.Spec("sh", "-c", "cat /o/f; echo up > /o/f; cat /o/f /proc/self/mountinfo")
	spec.Mounts[0].Options = append(spec.Mounts[0].Options, "hidepid=2", "gid=5")
	spec.Mounts = append(spec.Mounts,
		specs.Mount{Destination: "/o", Type: "overlay", Source: "over", Options: []string{"lowerdir=" + layers + "/low", "upperdir=" + layers + "/up", "workdir=" + layers + "/work", "noatime"}},
		specs.Mount{Destination: "/r", Type: "ramfs", Source: "r", Options: []string{"mode=0700"}})
	out, _ := run(t, spec)
	if !strings.HasPrefix(out, "low\nup\n") {
		t.Errorf("%s", out)
	}
	list := mountsIn(t, out)
	for point, want := range map[string]string{"/proc": "proc proc hidepid=invisible", "/dev/pts": "devpts devpts ptmxmode=666", "/dev/mqueue": "mqueue mqueue rw",
		"/dev/shm": "tmpfs shm size=65536k", "/o": "overlay over upperdir=" + layers + "/up", "/r": "ramfs r mode=700"} {
		m := at(t, list, point)
		f := strings.Fields(want)
		if m.fs != f[0] || m.source != f[1] || !slices.Contains(m.super, f[2]) {
			t.Errorf("%s: %+v, want %s", point, m, want)
		}
	}
	if b, _ := os.ReadFile(layers + "/up/f"); string(b) != "up\n" {
		t.Errorf("the upper layer has %q", b)
	}
}

// TestDetachedSource mounts what is mounted nowhere, by the descriptor that somebody holds of it.
func TestDetachedSource(t *testing.T) {
	if !kernelAtLeast(t, 6, 15) {
		t.Skip("the kernel copies mounts that are attached nowhere since 6.15")
	}
	testkit.NoLeaks(t)
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		t.Fatal(err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(mount)
	source := fmt.Sprintf("/proc/self/fd/%d", mount)
	if err := os.WriteFile(source+"/file", []byte("detached\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec := testkit.Spec("cat", "/b/file", "/f")
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/b", Type: "bind", Source: source, Options: []string{"rbind", "ro"}},
		specs.Mount{Destination: "/f", Type: "bind", Source: source + "/file", Options: []string{"bind"}})
	if out, _ := run(t, spec); out != "detached\ndetached\n" {
		t.Errorf("%q", out)
	}
}
