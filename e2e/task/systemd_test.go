package task

import (
	"os/exec"
	"strings"
	"testing"
)

// unitShows asks systemd for properties of a unit.
func unitShows(t *testing.T, unit string, names ...string) string {
	t.Helper()
	var values []string
	for _, name := range names {
		out, err := exec.Command("systemctl", "show", "--value", "-p", name, unit).Output()
		if err != nil {
			t.Fatalf("systemctl show %s: %v", unit, err)
		}
		values = append(values, strings.TrimSpace(string(out)))
	}
	return strings.Join(values, " ")
}

// TestSystemdCgroup runs a container in a scope of systemd, which the form of --cgroup asks for.
func TestSystemdCgroup(t *testing.T) {
	if !exists("/run/systemd/system") {
		t.Skip("systemd is not running")
	}
	d := shared.daemon
	id := detached(t, d, []string{"--cgroup", "gosudatest-ctr.slice:ctr:" + d.Namespace, "--memory-limit", "67108864"}, "sleep", "1000")
	unit := "ctr-" + d.Namespace + ".scope"
	equal(t, "the scope", unitShows(t, unit, "ActiveState", "Slice", "Delegate"), "active gosudatest-ctr.slice yes")
	pid := pidOf(t, d, id)
	equal(t, "limit", cgroupFile(t, pid, "memory/memory.limit_in_bytes", "memory.max"), "67108864")
	contains(t, "cgroup of an exec", must(t, d, "task", "exec", "--exec-id", "e", id, "sh", "-c", "echo in; cat /proc/self/cgroup"), "in\n", unit)
	contains(t, "metrics", must(t, d, "task", "metrics", id), "memory")
	must(t, d, "task", "pause", id)
	must(t, d, "task", "resume", id)
	remove(t, d, id)
	equal(t, "the scope afterwards", unitShows(t, unit, "ActiveState", "LoadState"), "inactive not-found")
}

// TestSystemdOutOfMemory: the OOM kill of init is told before its exit, although systemd removes the scope with it.
func TestSystemdOutOfMemory(t *testing.T) {
	if !exists("/run/systemd/system") {
		t.Skip("systemd is not running")
	}
	events := watchEvents(t, shared.daemon)
	id := newID(t, shared.daemon)
	args := []string{"run", "--rm", "--runtime", *runtimeFlag, "--memory-limit", "33554432",
		"--cgroup", "gosudatest-ctr.slice:ctr:" + id, testImage, id}
	r := ctr(t, shared.daemon, append(args, "sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=256M count=1")...)
	equal(t, "code", r.code, 137)
	equal(t, "events", strings.Join(events.until(t, id, "/tasks/delete"), " "),
		"/tasks/create /tasks/start /tasks/oom /tasks/exit /tasks/delete")
}
