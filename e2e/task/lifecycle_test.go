package task

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

func TestDetachedLife(t *testing.T) {
	d := shared.daemon
	id := detached(t, d, nil, "sh", "-c", "trap 'exit 9' TERM; >/run/up; while :; do sleep 0.05; done")
	equal(t, "status", statusOf(t, d, id), "RUNNING")
	waitUp(t, d, id)

	equal(t, "output of an exec", must(t, d, "task", "exec", "--exec-id", "e1", id, "echo", "from exec"), "from exec\n")
	equal(t, "code of an exec", ctr(t, d, "task", "exec", "--exec-id", "e2", id, "sh", "-c", "exit 33").code, 33)
	equal(t, "an exec id is free again", must(t, d, "task", "exec", "--exec-id", "e1", id, "echo", "again"), "again\n")

	contains(t, "ps", must(t, d, "task", "ps", id), pidOf(t, d, id))
	if hasMetrics() {
		contains(t, "metrics", must(t, d, "task", "metrics", id), "memory")
	}

	must(t, d, "task", "pause", id)
	equal(t, "status when paused", statusOf(t, d, id), "PAUSED")
	if r := ctr(t, d, "task", "exec", "--exec-id", "e3", id, "true"); r.code == 0 {
		t.Error("exec in a paused container succeeded")
	} else {
		contains(t, "error", r.stderr, "paused")
	}
	must(t, d, "task", "resume", id)
	equal(t, "status when resumed", statusOf(t, d, id), "RUNNING")

	must(t, d, "task", "kill", "--signal", "SIGTERM", id)
	waitStopped(t, id)
	deleted(t, d, id, 9)
	equal(t, "status after delete", statusOf(t, d, id), "")
	must(t, d, "container", "delete", id)
}

// waitStopped returns when the task has stopped.
func waitStopped(t *testing.T, id string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for statusOf(t, shared.daemon, id) != "STOPPED" {
		if time.Now().After(deadline) {
			t.Fatalf("%s has not stopped", id)
		}
	}
}

// hostPidNamespace are the flags that let a container share the pid namespace of the test.
func hostPidNamespace() []string {
	return []string{"--with-ns", fmt.Sprintf("pid:/proc/%d/ns/pid", os.Getpid())}
}

// waitUp returns when the container has made its file /run/up.
func waitUp(t *testing.T, d *containerdtest.Daemon, id string) {
	t.Helper()
	must(t, d, "task", "exec", "--exec-id", "up", id, "sh", "-c", "until [ -e /run/up ]; do sleep 0.02; done")
}

func TestKillSignals(t *testing.T) {
	for signal, code := range map[string]int{"SIGKILL": 137, "SIGTERM": 143, "SIGUSR1": 138, "SIGQUIT": 131} {
		// init of a pid namespace is deaf to signals without a handler, except SIGKILL from outside: so share the host's.
		id := detached(t, shared.daemon, hostPidNamespace(), "sleep", "1000")
		must(t, shared.daemon, "task", "kill", "--signal", signal, id)
		waitStopped(t, id)
		deleted(t, shared.daemon, id, code)
	}
}

func TestKillAll(t *testing.T) {
	onRunc(t, "its kill of all means init alone, but for SIGKILL in a shared pid namespace")
	// init ignores TERM and waits for its children, which do not.
	id := detached(t, shared.daemon, nil, "sh", "-c", "sleep 1000 & sleep 1000 & trap '' TERM; >/run/up; wait; wait; exit 5")
	waitUp(t, shared.daemon, id)
	must(t, shared.daemon, "task", "kill", "--all", "--signal", "SIGTERM", id)
	waitStopped(t, id)
	deleted(t, shared.daemon, id, 5)
}

func TestKillOfStoppedIsNotFound(t *testing.T) {
	id := detached(t, shared.daemon, nil, "true")
	waitStopped(t, id)
	r := ctr(t, shared.daemon, "task", "kill", id)
	if r.code == 0 {
		t.Error("kill of a stopped task succeeded")
	}
	contains(t, "error", r.stderr, "process already finished")
}

func TestSharedPidNamespaceDiesWithInit(t *testing.T) {
	id := detached(t, shared.daemon, hostPidNamespace(), "sh", "-c", "sleep 12345 & >/run/up; sleep 1000")
	waitUp(t, shared.daemon, id)
	pid := pidOf(t, shared.daemon, id)
	text, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	if err != nil {
		t.Fatal(err)
	}
	must(t, shared.daemon, "task", "kill", "--signal", "SIGKILL", id)
	waitStopped(t, id)
	deleted(t, shared.daemon, id, 137)
	for child := range strings.FieldsSeq(string(text)) {
		if line, err := os.ReadFile("/proc/" + child + "/cmdline"); err == nil && strings.HasPrefix(string(line), "sleep") {
			t.Errorf("process %s of the container still runs", child)
		}
	}
}

// deleted deletes a stopped task and checks the exit code that its runtime tells.
func deleted(t *testing.T, d *containerdtest.Daemon, id string, code int) {
	t.Helper()
	r := ctr(t, d, "task", "delete", id) // it warns of a code that is not 0, and exits with 0
	if r.code != 0 {
		t.Fatalf("delete task %s: %s", id, r.stderr)
	}
	if want := fmt.Sprintf("exit with non-zero exit code %d\"", code); code != 0 && !strings.Contains(r.stderr, want) {
		t.Errorf("exit code of %s: want %d, ctr says: %s", id, code, r.stderr)
	}
}

func TestPids(t *testing.T) {
	id := detached(t, shared.daemon, nil, "sh", "-c", "sleep 1000 & >/run/up; sleep 1000; true")
	waitUp(t, shared.daemon, id)
	must(t, shared.daemon, "task", "exec", "--exec-id", "e", "--detach", "--fifo-dir", filepath.Join(shared.daemon.Dir, "fifo"), id, "sleep", "1000")
	lines := strings.Split(strings.TrimSpace(must(t, shared.daemon, "task", "ps", id)), "\n")
	equal(t, "processes that ps lists (a head, sh, two sleeps, the exec)", len(lines), 5)
	if ps := strings.Join(lines, "\n"); !strings.Contains(ps, "exec_id") && !strings.Contains(ps, "ExecID") { // older ctr
		t.Errorf("ps does not tell which process is the exec's:\n%s", ps)
	}
}

func TestExecFacts(t *testing.T) {
	d := shared.daemon
	id := detached(t, d, []string{"--user", "alice", "--env", "FROM=run", "--cap-drop", "CAP_CHOWN"}, "sleep", "1000")
	out := must(t, d, "task", "exec", "--exec-id", "e1", "--cwd", "/home/alice", id, "sh", "-c", "id -u; pwd; echo $FROM; readlink /proc/self/ns/pid; readlink /proc/1/ns/pid")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	equal(t, "user, directory, environment", strings.Join(lines[:3], " "), "1000 /home/alice run")
	equal(t, "pid namespace", lines[3], lines[4])
	equal(t, "user of --user", must(t, d, "task", "exec", "--exec-id", "e2", "--user", "0", id, "id", "-u"), "0\n")
	text := must(t, d, "task", "exec", "--exec-id", "e3", "--user", "0", id, "cat", "/proc/self/status")
	equal(t, "CAP_CHOWN of an exec", capabilities(t, text, "CapBnd")&capChown, uint64(0))
	r := ctr(t, d, "task", "exec", "--exec-id", "e4", id, "no-such-program")
	if r.code == 0 {
		t.Error("exec of a missing program succeeded")
	}
	contains(t, "error", r.stderr, "no-such-program", "executable file not found in $PATH")
	cgroups := must(t, d, "task", "exec", "--exec-id", "e5", id, "cat", "/proc/self/cgroup", "/proc/1/cgroup")
	half := len(cgroups) / 2
	equal(t, "cgroups of an exec", cgroups[:half], cgroups[half:])
}

func TestExecInParallel(t *testing.T) {
	n, width := 60, 20
	if testing.Short() { // one slow processor: more ctrs at a time would reach their own time limits
		n, width = 15, 5
	}
	id := detached(t, shared.daemon, nil, "sleep", "1000")
	outs := make([]string, n)
	inParallel(n, width, func(i int) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		out, err := shared.daemon.Ctr(ctx, "task", "exec", "--exec-id", fmt.Sprintf("p%d", i), id, "echo", "exec", fmt.Sprint(i)).CombinedOutput()
		outs[i] = string(out)
		if err != nil {
			outs[i] += err.Error()
		}
	})
	for i, out := range outs {
		equal(t, "output", out, fmt.Sprintf("exec %d\n", i))
	}
	lines := strings.Split(strings.TrimSpace(must(t, shared.daemon, "task", "ps", id)), "\n")
	equal(t, "lines of ps afterwards", len(lines), 2)
}

func TestShimKeepsNoDescriptors(t *testing.T) {
	d := shared.daemon
	id := detached(t, d, nil, "sleep", "1000")
	shim := shimOf(t, id)
	fds := func() int {
		entries, err := os.ReadDir("/proc/" + shim + "/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	round := func(exec string) {
		must(t, d, "task", "exec", "--exec-id", exec, id, "true")
		if hasMetrics() {
			must(t, d, "task", "metrics", id)
		}
	}
	// The first rounds open what stays open: the connection for events, the cgroup's files of statistics.
	for i := range 3 {
		round(fmt.Sprintf("a%d", i))
	}
	before := fds()
	for i := range 20 {
		round(fmt.Sprintf("b%d", i))
	}
	if after := fds(); after > before+5 { // a few come and go
		links, _ := exec.Command("ls", "-l", "/proc/"+shim+"/fd").Output()
		t.Errorf("the shim has %d descriptors after 20 execs, %d before:\n%s", after, before, links)
	}
}

// shimOf returns the process id of a container's shim, the parent of its init.
func shimOf(t *testing.T, id string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + pidOf(t, shared.daemon, id) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	return status(t, string(text), "PPid")
}

func TestShimOOMScore(t *testing.T) {
	score := func(pid string) string {
		text, err := os.ReadFile("/proc/" + pid + "/oom_score_adj")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	id := detached(t, shared.daemon, nil, "sleep", "1000")
	equal(t, "oom_score_adj of the shim (containerd's is 0)", score(shimOf(t, id)), "1")
}

func TestManyContainersAtOnce(t *testing.T) {
	const n = 20
	outs := make([]string, n)
	ids := make([]string, n)
	for i := range ids {
		ids[i] = newID(t, shared.daemon)
	}
	inParallel(n, 8, func(i int) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		out, err := shared.daemon.Ctr(ctx, "run", "--rm", "--runtime", *runtimeFlag, testImage, ids[i], "sh", "-c", fmt.Sprintf("echo %d; hostname >/dev/null; exit %d", i, i)).Output()
		outs[i] = fmt.Sprint(strings.TrimSpace(string(out)), " ", err)
	})
	for i, out := range outs {
		want := fmt.Sprintf("%d exit status %d", i, i)
		if i == 0 {
			want = "0 <nil>"
		}
		equal(t, "output and code", out, want)
	}
}

// TestGroup runs two containers in one shim, by the annotation that nerdctl and the CRI plugin use.
func TestGroup(t *testing.T) {
	d := shared.daemon
	first := detached(t, d, []string{"--annotation", "io.containerd.runc.v2.group=pod"}, "sleep", "1000")
	second := detached(t, d, []string{"--annotation", "io.containerd.runc.v2.group=pod"}, "sleep", "1000")
	equal(t, "shim of the second", shimOf(t, second), shimOf(t, first))
	remove(t, d, first)
	equal(t, "exec in the second after the first is gone", must(t, d, "task", "exec", "--exec-id", "e", second, "echo", "alive"), "alive\n")
}
