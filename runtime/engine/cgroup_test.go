package engine_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// onV2 tells whether this machine's controllers are in cgroup v2.
func onV2() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// withCgroups gives a container its cgroups, to see and to write to.
func withCgroups(spec *specs.Spec) *specs.Spec {
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
		Options: []string{"nosuid", "noexec", "nodev"}})
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	return spec
}

// running makes and starts a container and returns the first line that it says.
func running(t *testing.T, spec *specs.Spec) (*engine.Container, *events, string) {
	t.Helper()
	e, ev := newEngine(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := create(t, e, spec, w)
	w.Close()
	if err := c.Start(timeout(t)); err != nil {
		t.Fatal(err)
	}
	var line []byte
	for b := make([]byte, 1); ; line = append(line, b[0]) {
		if _, err := r.Read(b); err == io.EOF || b[0] == '\n' {
			return c, ev, string(line)
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestCgroupDelegation: root of a user namespace makes cgroups of its own, hands controllers down and moves its processes,
// and cannot lift its limits (cgroup v2 only: v1 cannot be given away safely).
func TestCgroupDelegation(t *testing.T) {
	if !onV2() {
		t.Skip("the controllers are in cgroup v1")
	}
	testkit.NoLeaks(t)
	spec := withCgroups(testkit.Spec("sh", "-c", `cd /sys/fs/cgroup && mkdir init && echo $$ > init/cgroup.procs &&
		echo +pids > cgroup.subtree_control && mkdir work && echo 5 > work/pids.max && echo $(cat work/pids.max);
		(echo max > pids.max) 2> /dev/null && echo lifted; cat pids.max; cat /proc/self/cgroup`))
	limit := int64(40)
	spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: &limit}
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	spec.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	spec.Linux.GIDMappings = spec.Linux.UIDMappings
	bundleIsOpen(t)
	if out, exit := run(t, spec); out != "5\n40\n0::/init\n" || exit.Status != 0 {
		t.Errorf("status %d, output %q", exit.Status, out)
	}
}

// bundleIsOpen lets other users walk to the temporary directory of the test.
func bundleIsOpen(t *testing.T) {
	t.Helper()
	for dir := filepath.Dir(t.TempDir()); strings.HasPrefix(dir, os.TempDir()) && dir != "/tmp"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// TestExecMoved: a container whose init has moved itself down, as systemd does, has no room for processes in its cgroup
// on v2; an exec goes where init is.
func TestExecMoved(t *testing.T) {
	testkit.NoLeaks(t)
	move := `mkdir /sys/fs/cgroup/init.scope && echo $$ > /sys/fs/cgroup/init.scope/cgroup.procs &&
		echo +pids > /sys/fs/cgroup/cgroup.subtree_control`
	want := "0::/init.scope"
	if !onV2() {
		move = `mkdir /sys/fs/cgroup/pids/init.scope && echo $$ > /sys/fs/cgroup/pids/init.scope/cgroup.procs`
		want = ":pids:/"
	}
	c, _, line := running(t, withCgroups(testkit.Spec("sh", "-c", move+" && echo moved; exec sleep 1000")))
	if line != "moved" {
		t.Fatal(line)
	}
	out, exit := startExec(t, c, "x", "sh", "-c", "cat /proc/self/cgroup")
	if exit.Status != 0 || !slices.ContainsFunc(strings.Split(out, "\n"), func(l string) bool { return strings.HasSuffix(l, want) }) {
		t.Errorf("an exec is in %q, want %s", out, want)
	}
	if pids, err := c.Pids(); err != nil || len(pids) != 1 {
		t.Errorf("processes %v, %v", pids, err)
	}
	ctx := timeout(t)
	if err := c.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestExecCgroups puts an exec into a cgroup below the container's.
func TestExecCgroups(t *testing.T) {
	testkit.NoLeaks(t)
	dir, where := "/sys/fs/cgroup/sub", map[string]string{"": "sub"}
	if !onV2() {
		dir, where = "/sys/fs/cgroup/pids/sub", map[string]string{"pids": "/sub"}
	}
	c, _, line := running(t, withCgroups(testkit.Spec("sh", "-c", "mkdir "+dir+" && echo made; exec sleep 1000")))
	if line != "made" {
		t.Fatal(line)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx := timeout(t)
	for id, cgroups := range map[string]map[string]string{"good": where, "bad": {"": "../.."}, "missing": {"": "missing"}} {
		request := engine.ExecRequest{ID: id, Process: testkit.Spec("cat", "/proc/self/cgroup").Process, Cgroups: cgroups}
		if err := c.AddExec(ctx, request); err != nil {
			t.Fatal(err)
		}
		_, _, err := c.StartExec(ctx, id, engine.Stdio{Out: w, Err: w})
		if (err == nil) != (id == "good") {
			t.Errorf("%s: %v", id, err)
		}
		if _, err := c.Wait(ctx, id); err != nil {
			t.Error(err)
		}
		if _, err := c.DeleteExec(ctx, id); err != nil {
			t.Error(err)
		}
	}
	w.Close()
	out, err := io.ReadAll(r)
	if err != nil || !strings.Contains(string(out), "/sub\n") || onV2() && string(out) != "0::/sub\n" {
		t.Errorf("the exec is in %q, %v", out, err)
	}
}

// TestOOMOnce: each kill by the OOM killer is told once, also one in a cgroup that the container made, and before the exit.
func TestOOMOnce(t *testing.T) {
	testkit.NoLeaks(t)
	dir := "/sys/fs/cgroup"
	if !onV2() {
		dir += "/memory"
	}
	const hog = "dd if=/dev/zero of=/dev/null bs=300M count=1 2> /dev/null"
	spec := withCgroups(testkit.Spec("sh", "-c", "mkdir "+dir+"/sub; (echo 0 > "+dir+"/sub/cgroup.procs; exec "+hog+"); "+hog+"; echo; exec "+hog))
	limit := int64(64 << 20)
	spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
	c, ev, _ := running(t, spec)
	exit, err := c.Wait(timeout(t), "")
	if err != nil || exit.Status != 128+int(unix.SIGKILL) {
		t.Errorf("exit %+v, %v", exit, err)
	}
	kinds := ev.kinds()
	if n := len(slices.DeleteFunc(slices.Clone(kinds), func(k engine.EventKind) bool { return k != engine.OOM })); n != 3 {
		t.Errorf("%d OOM events, want 3", n)
	}
	if kinds[len(kinds)-1] != engine.Exited {
		t.Errorf("events %v: the exit is not the last", kinds)
	}
	s, err := c.Stats()
	if err != nil { // after the exit, before the deletion
		t.Fatal(err)
	}
	if s.V1 != nil && s.V1.OOMControl.OOMKill != 2 || s.V2 != nil && s.V2.MemoryEvents.OOMKill != 3 { // v1 does not count those below
		t.Errorf("figures %+v", s)
	}
}
