package engine_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// escape is a program that a container runs: root can leave a root directory, but not a root.
func escape() {
	check(os.MkdirAll("/tmp/jail", 0o755))
	check(unix.Chroot("/tmp/jail"))
	for range 40 {
		check(unix.Chdir(".."))
	}
	check(unix.Chroot("."))
	fmt.Println("own root:", exists("/bin/busybox") && exists("/tmp/jail") && !exists("/usr/bin"))
	for _, d := range []string{"/proc", "/sys"} {
		list, err := os.ReadDir(d)
		check(err)
		fmt.Println(d, len(list))
	}
}

// output creates, starts, waits for and deletes a container and returns its output.
func output(t testing.TB, r engine.CreateRequest, whileRuns func(*engine.Container)) string {
	t.Helper()
	e, _ := newEngine(t)
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	r.ID, r.Stdio = newID(), engine.Stdio{Out: w, Err: w}
	ctx := timeout(t)
	c, err := e.Create(ctx, r)
	w.Close()
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	defer func() {
		c.Kill(ctx, "", uint32(unix.SIGKILL), true)
		c.Wait(ctx, "")
		if _, err := c.Delete(ctx); err != nil {
			t.Errorf("delete: %v", err)
		}
	}()
	if err := c.Start(ctx); err != nil {
		t.Fatalf("start: %v", err)
	}
	if whileRuns != nil {
		whileRuns(c)
	}
	text, _ := io.ReadAll(out)
	return string(text)
}

// escaper makes a bundle whose process tries to leave its root.
func escaper(t testing.TB) (string, *specs.Spec) {
	t.Helper()
	spec := testkit.Spec("/escape")
	spec.Process.Env = append(spec.Process.Env, "ENGINE_CHILD=escape")
	spec.Linux.CgroupsPath = "/" + newID()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/escape", Type: "bind", Source: self, Options: []string{"bind", "ro"}})
	return testkit.Bundle(t, spec), spec
}

// TestPivot: not even root gets out, whether the host's root was detached or covered.
func TestPivot(t *testing.T) {
	for _, noPivot := range []bool{false, true} {
		t.Run(fmt.Sprintf("no pivot %t", noPivot), func(t *testing.T) {
			testkit.NoLeaks(t)
			dir, _ := escaper(t)
			out := output(t, engine.CreateRequest{Bundle: dir, NoPivotRoot: noPivot}, nil)
			if !strings.HasPrefix(out, "own root: true\n/proc ") {
				t.Errorf("%s", out)
			}
		})
	}
}

// TestNoPivotCovers: of the host's mounts that stay below the container's root none is a whole proc or sysfs, which would let
// anybody in there mount a new one without masks. A process of a hook that stays behind sees them.
func TestNoPivotCovers(t *testing.T) {
	testkit.NoLeaks(t)
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	spec := testkit.Spec("sleep", "1000")
	spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{script("sleep 1000 </dev/null >/dev/null 2>&1 &")}}
	spec.Linux.CgroupsPath = "/" + newID()
	bundle := testkit.Bundle(t, spec)
	output(t, engine.CreateRequest{Bundle: bundle, NoPivotRoot: true}, func(c *engine.Container) {
		pids, err := c.Pids()
		if err != nil || len(pids) != 2 {
			t.Fatal(pids, err)
		}
		// Both see the container's own.
		whole, seen := map[bool]int{}, map[bool]int{}
		for _, p := range pids {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", p.Pid))
			if err != nil {
				t.Fatal(err)
			}
			list := mountsIn(t, string(text))
			for _, m := range list {
				if (m.fs == "proc" || m.fs == "sysfs") && m.root == "/" {
					whole[p.Pid == c.Pid()]++
				}
			}
			seen[p.Pid == c.Pid()] = len(list)
		}
		if seen[false] <= seen[true] {
			t.Errorf("the hook's process sees %d mounts, the container %d", seen[false], seen[true])
		}
		if whole[true] != 2 || whole[false] != 2 {
			t.Errorf("whole mounts of proc and sysfs that are seen, by whether the container sees them: %v", whole)
		}
		c.Kill(timeout(t), "", uint32(unix.SIGKILL), true)
	})
	after, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(before)) { // others may mount meanwhile, but what was there stays
		if f := strings.Fields(line); (f[4] == "/proc" || f[4] == "/sys") && !strings.Contains(string(after), line) {
			t.Errorf("gone from the host: %s", line)
		}
	}
}

// TestNoPivot: a container that moved its root looks as any other.
func TestNoPivot(t *testing.T) {
	testkit.NoLeaks(t)
	for _, prop := range []string{"", "rslave", "shared", "unbindable", "user namespace"} {
		spec := testkit.Spec("sh", "-c", "ls /; cat /proc/self/mountinfo; touch /x; cat /proc/keys | wc -c")
		if prop == "user namespace" {
			withUserNamespace(spec)
			prop = ""
		}
		spec.Root.Readonly = true
		spec.Linux.RootfsPropagation = prop
		spec.Linux.CgroupsPath = "/" + newID()
		out := output(t, engine.CreateRequest{Bundle: testkit.Bundle(t, spec), NoPivotRoot: true}, nil)
		if !strings.HasPrefix(out, "bin\ndev\netc\nproc\nroot\nrun\nsys\ntmp\n") || !strings.HasSuffix(out, "touch: /x: Read-only file system\n0\n") {
			t.Errorf("%s: %s", prop, out)
		}
		list := mountsIn(t, out)
		if m := at(t, list, "/"); strings.Contains(m.peers, "shared") != (prop == "shared") || (m.peers == "unbindable") != (prop == "unbindable") {
			t.Errorf("%s: %+v", prop, m)
		}
		if at(t, list, "/proc").fs != "proc" || slices.ContainsFunc(list, func(m mountLine) bool { return strings.HasPrefix(m.point, "/sys/fs") }) {
			t.Errorf("%s: %+v", prop, list)
		}
	}
}

// TestNoPivotMounted: a proc that somebody has mounted in the root file system stays.
func TestNoPivotMounted(t *testing.T) {
	testkit.NoLeaks(t)
	spec := testkit.Spec("sh", "-c", "cat /proc/version /mine/version | wc -l")
	spec.Linux.CgroupsPath = "/" + newID()
	bundle := testkit.Bundle(t, spec)
	mine := filepath.Join(bundle, "rootfs/mine")
	if err := os.Mkdir(mine, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("proc", mine, "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(mine, unix.MNT_DETACH)
	if out := output(t, engine.CreateRequest{Bundle: bundle, NoPivotRoot: true}, nil); strings.TrimSpace(out) != "2" {
		t.Errorf("%s", out)
	}
}

// TestSharedMountNamespace: a container without a mount namespace, or in another one's, has a root directory, also for execs
// and hooks, and leaves nothing in that namespace.
func TestSharedMountNamespace(t *testing.T) {
	for _, joined := range []bool{false, true} {
		t.Run(fmt.Sprintf("joined %t", joined), func(t *testing.T) {
			testkit.NoLeaks(t)
			spec := testkit.Spec("sh", "-c", "ls /; pwd; test -c /dev/null && readlink /dev/fd; cat /started; touch /done; exec sleep 1000")
			spec.Process.Cwd = "/made/here"
			spec.Mounts, spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil, nil
			spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.MountNamespace })
			own, _ := os.Readlink("/proc/self/ns/mnt")
			if joined {
				e, _ := newEngine(t)
				// A namespace with this machine's files: that of a container that has not left them.
				host := testkit.Spec("sleep", "1000")
				hook := t.TempDir() + "/ns"
				host.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{script("unshare -m sh -c 'touch " + hook + "; exec sleep 1000' >/dev/null 2>&1 & echo $! > " + hook + ".pid; while ! test -e " + hook + "; do :; done")}}
				create(t, e, host, nil)
				b, err := os.ReadFile(hook + ".pid")
				if err != nil {
					t.Fatal(err)
				}
				var pid int
				fmt.Sscan(string(b), &pid)
				defer unix.Kill(pid, unix.SIGKILL)
				path := fmt.Sprintf("/proc/%d/ns/mnt", pid)
				spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.MountNamespace, Path: path})
				own, _ = os.Readlink(path)
			}
			spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{script("test -d /usr/bin && test $PWD != / && echo hook > started")},
				StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "ls / >> /started"}}}}
			spec.Linux.CgroupsPath = "/" + newID()
			bundle := testkit.Bundle(t, spec)
			before := mountPoints(t, os.Getpid())
			out := output(t, engine.CreateRequest{Bundle: bundle}, func(c *engine.Container) {
				if ns, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", c.Pid())); ns != own {
					t.Errorf("it is in %s, not %s", ns, own)
				}
				for ctx := timeout(t); !exists(bundle+"/rootfs/done") && ctx.Err() == nil; {
					time.Sleep(time.Millisecond)
				}
				if text, _ := execProcess(t, c, "x", testkit.Spec("ls", "/").Process); !strings.HasPrefix(text, "bin\ndev\ndone\netc\nmade\n") {
					t.Errorf("exec: %s", text)
				}
				c.Kill(timeout(t), "", uint32(unix.SIGKILL), true)
			})
			const root = "bin\ndev\netc\nmade\nproc\nroot\nrun\nstarted\nsys\ntmp\n"
			if out != root+"/made/here\n/proc/self/fd\nhook\n"+root {
				t.Errorf("%s", out)
			}
			if after := mountPoints(t, os.Getpid()); len(after) > len(before) {
				t.Errorf("mounts: %d before, %d after", len(before), len(after))
			}
			os.Remove(filepath.Join(bundle, "rootfs/started"))
		})
	}
}

// TestIDMappedRoot: a snapshotter's layers belong to root on the disk and to the container's root in a user namespace.
func TestIDMappedRoot(t *testing.T) {
	if !kernelAtLeast(t, 6, 3) {
		t.Skip("the kernel maps the ids of tmpfs since 6.3") // on another file system: see package rootfs
	}
	testkit.NoLeaks(t)
	dir := hostTree(t, unix.MS_PRIVATE)
	testkit.Rootfs(t, dir+"/layer/fs")
	for _, d := range []string{"/upper", "/work"} {
		if err := os.Mkdir(dir+d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir+d, 100000, 100000); err != nil {
			t.Fatal(err)
		}
	}
	spec := testkit.Spec("sh", "-c", "stat -c %u /bin/busybox /etc/passwd; mkdir /etc/new && echo x >> /etc/passwd && stat -c %u /etc/new /etc/passwd")
	withUserNamespace(spec)
	spec.Linux.CgroupsPath = "/" + newID()
	bundle := t.TempDir()
	testkit.WriteConfig(t, bundle, spec)
	out := output(t, engine.CreateRequest{Bundle: bundle, Rootfs: []engine.RootfsMount{{Type: "overlay", Source: "overlay", Options: []string{
		"lowerdir=" + dir + "/layer/fs", "upperdir=" + dir + "/upper", "workdir=" + dir + "/work", "uidmap=0:100000:65536", "gidmap=0:100000:65536"}}}}, nil)
	if strings.Join(strings.Fields(out), " ") != "0 0 0 0" {
		t.Errorf("owners %q", out)
	}
	for name, want := range map[string]uint32{"/upper/etc/new": 100000, "/upper/etc/passwd": 100000, "/layer/fs/etc/passwd": 0} {
		var st unix.Stat_t
		if err := unix.Stat(dir+name, &st); err != nil || st.Uid != want {
			t.Errorf("%s belongs to %d on the disk, want %d (%v)", name, st.Uid, want, err)
		}
	}
}
