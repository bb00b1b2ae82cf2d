package engine_test

import (
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

// needSystemd skips a test where systemd is not the init system.
func needSystemd(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		t.Skip("systemd is not running")
	}
}

// inScope makes a container in a scope of systemd; it returns what systemd says of the scope.
func inScope(t *testing.T, spec *specs.Spec) (c *engine.Container, ev *events, show func(names ...string) string) {
	t.Helper()
	e, ev := newEngine(t)
	id := newID()
	spec.Linux.CgroupsPath = "gosudatest-engine.slice:engine:" + id
	c, err := e.Create(timeout(t), engine.CreateRequest{ID: id, Bundle: testkit.Bundle(t, spec)})
	if err != nil {
		t.Fatal(err)
	}
	unit := "engine-" + id + ".scope"
	show = func(names ...string) string {
		t.Helper()
		var values []string
		for _, name := range names {
			out, err := exec.Command("systemctl", "show", "--value", "-p", name, unit).Output()
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, strings.TrimSpace(string(out)))
		}
		return strings.Join(values, " ")
	}
	t.Cleanup(func() {
		ctx := timeout(t)
		_ = c.Kill(ctx, "", uint32(unix.SIGKILL), true) // it may have ended
		if _, err := c.Wait(ctx, ""); err != nil {
			t.Error(err)
		}
		if _, err := c.Delete(ctx); err != nil {
			t.Error(err)
		}
		if got := show("ActiveState", "LoadState"); got != "inactive not-found" {
			t.Errorf("after the deletion the unit is %s", got)
		}
	})
	return c, ev, show
}

// TestScope is the life of a container whose cgroup systemd makes.
func TestScope(t *testing.T) {
	needSystemd(t)
	limit, tasks := int64(64<<20), int64(30)
	spec := testkit.Spec("sleep", "1000")
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: &tasks}
	spec.Annotations = map[string]string{"org.systemd.property.TimeoutStopSec": "uint64 9"}
	c, _, show := inScope(t, spec)
	memory := "MemoryMax"
	if !onV2() {
		memory = "MemoryLimit"
	}
	if got := show("ActiveState", "Slice", memory, "TasksMax", "TimeoutStopUSec"); got != "active gosudatest-engine.slice 67108864 30 9s" {
		t.Errorf("created: %s", got)
	}
	ctx := timeout(t)
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if out, exit := startExec(t, c, "x", "sh", "-c", "grep -vc ':/$' /proc/self/cgroup"); out != "0" || exit.Status != 1 {
		t.Errorf("an exec's cgroup namespace shows more than its root: %q %d", out, exit.Status)
	}
	tasks = 20
	if err := c.Update(ctx, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &tasks}}); err != nil {
		t.Fatal(err)
	}
	if got := show("TasksMax", memory); got != "20 67108864" {
		t.Errorf("updated: %s", got)
	}
	if pids, err := c.Pids(); err != nil || len(pids) != 1 || pids[0].Pid != c.Pid() {
		t.Errorf("processes %v, %v", pids, err)
	}
	if err := c.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Stats(); err != nil { // as is done every few seconds
		t.Fatal(err)
	}
	if err := c.Kill(ctx, "", uint32(unix.SIGKILL), false); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(ctx, ""); err != nil {
		t.Fatal(err)
	}
	s, err := c.Stats() // the scope may be gone
	if err != nil || s.V2 != nil && s.V2.Memory.UsageLimit != uint64(limit) || s.V1 != nil && s.V1.Memory.Usage.Limit != uint64(limit) {
		t.Errorf("figures after the exit: %+v, %v", s, err)
	}
}

// TestScopeOOM: a kill by the OOM killer is told before the exit, although the scope goes away with its last process.
func TestScopeOOM(t *testing.T) {
	needSystemd(t)
	limit := int64(64 << 20)
	spec := testkit.Spec("dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1")
	spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
	c, ev, _ := inScope(t, spec)
	if err := c.Start(timeout(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(timeout(t), ""); err != nil {
		t.Fatal(err)
	}
	kinds := ev.kinds()
	if n := slices.Index(kinds, engine.OOM); n < 0 || n != len(kinds)-2 || slices.Contains(kinds[n+1:], engine.OOM) {
		t.Errorf("events %v: want one OOM before the exit", kinds)
	}
	s, err := c.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if s.V2 != nil && s.V2.MemoryEvents.OOMKill != 1 || s.V1 != nil && s.V1.OOMControl.OOMKill != 1 {
		t.Errorf("figures after the exit: %+v", s)
	}
}

// TestScopeKilled: a container that somebody else kills was not killed by the OOM killer.
func TestScopeKilled(t *testing.T) {
	needSystemd(t)
	c, ev, _ := inScope(t, testkit.Spec("sleep", "1000"))
	if err := c.Start(timeout(t)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(c.Pid(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(timeout(t), ""); err != nil {
		t.Fatal(err)
	}
	if kinds := ev.kinds(); slices.Contains(kinds, engine.OOM) {
		t.Errorf("events %v: there was no OOM kill", kinds)
	}
}

// TestScopeRefused: what systemd refuses is an error of create that leaves nothing.
func TestScopeRefused(t *testing.T) {
	needSystemd(t)
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	spec, id := testkit.Spec("true"), newID()
	spec.Linux.CgroupsPath = "gosudatest-engine.slice:engine:" + id
	spec.Annotations = map[string]string{"org.systemd.property.NoSuchThing": "true"}
	dir := testkit.Bundle(t, spec)
	_, err := e.Create(timeout(t), engine.CreateRequest{ID: id, Bundle: dir})
	if err == nil || !strings.Contains(err.Error(), "NoSuchThing") {
		t.Errorf("%v", err)
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/gosudatest.slice/gosudatest-engine.slice/*.scope"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestNoSystemd: without systemd, a cgroup that only it can make is refused before anything is made.
func TestNoSystemd(t *testing.T) {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("systemd is running")
	}
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	for name, request := range map[string]engine.CreateRequest{"by its form": {}, "by an option": {SystemdCgroup: true}} {
		spec := testkit.Spec("true")
		if !request.SystemdCgroup {
			spec.Linux.CgroupsPath = "system.slice:x:y"
		}
		request.ID, request.Bundle = newID(), testkit.Bundle(t, spec)
		_, err := e.Create(timeout(t), request)
		if kindOf(err) != engine.InvalidArgument || !strings.Contains(err.Error(), "linux.cgroupsPath") ||
			!strings.Contains(err.Error(), "systemd is not running") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
