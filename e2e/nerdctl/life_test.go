package nerdctl

import (
	"strings"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/e2e/client"
)

// patient ends with code 7 when it is asked to.
const patient = `trap "exit 7" TERM; trap "echo usr1" USR1; echo up; while :; do sleep 0.05; done`

// waitFor waits until a container's log has a line.
func waitFor(t *testing.T, name, line string) {
	t.Helper()
	client.Eventually(t, "log of "+name+" has "+line, func() bool { return strings.Contains(must(t, "logs", name), line) })
}

func TestLife(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sh", "-c", patient)
	waitFor(t, name, "up")
	client.Equal(t, "state", inspect(t, name, "{{.State.Status}} {{.State.Running}}"), "running true")

	must(t, "kill", "--signal", "USR1", name)
	waitFor(t, name, "usr1")

	must(t, "stop", name)
	client.Equal(t, "exit code", must(t, "wait", name), "7")
	client.Equal(t, "state after stop", inspect(t, name, "{{.State.Status}} {{.State.ExitCode}}"), "exited 7")

	must(t, "start", name)
	client.Equal(t, "state after start", inspect(t, name, "{{.State.Status}}"), "running")
	must(t, "kill", name)
	client.Equal(t, "exit code", must(t, "wait", name), "137")

	must(t, "restart", name)
	client.Equal(t, "state after restart", inspect(t, name, "{{.State.Status}}"), "running")
	must(t, "restart", "--time", "1", name)
	must(t, "rm", "--force", name)
	refused(t, "no such", "inspect", name)
}

// TestStopTimeout kills what does not listen to SIGTERM.
func TestStopTimeout(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sleep", "1000") // the init of a pid namespace ignores what it does not handle
	must(t, "stop", "--time", "1", name)
	client.Equal(t, "exit code", must(t, "wait", name), "137")
}

func TestStopSignal(t *testing.T) {
	t.Parallel()
	name := detached(t, []string{"--stop-signal", "SIGUSR2"}, "sh", "-c", `trap "exit 12" USR2; echo up; while :; do sleep 0.05; done`)
	waitFor(t, name, "up")
	must(t, "stop", name)
	client.Equal(t, "exit code", must(t, "wait", name), "12")
}

func TestCreateAndStart(t *testing.T) {
	t.Parallel()
	name := newName(t)
	must(t, append(append([]string{"create", "--name", name}, options(nil)...), testImage, "sh", "-c", "echo once; exit 3")...)
	client.Equal(t, "status", must(t, "ps", "--all", "--filter", "name="+name, "--format", "{{.Status}}"), "Created")
	r := nerdctl(t, "start", "--attach", name)
	client.Equal(t, "output", r.Stdout, "once\n")
	client.Equal(t, "state", inspect(t, name, "{{.State.Status}} {{.State.ExitCode}}"), "exited 3")
}

// TestRestartPolicy: containerd's monitor restarts what its policy says, with nerdctl's logger. The containers get the policy when they
// run: with nerdctl run --restart the monitor, which looks every 200 ms here instead of every 10 s, may come between create and start.
func TestRestartPolicy(t *testing.T) {
	t.Parallel()
	failing := detached(t, nil, "sh", "-c", "echo try; until [ -e /go ]; do sleep 0.05; done; exit 4")
	always := detached(t, nil, "sh", "-c", "echo try; until [ -e /go ]; do sleep 0.05; done; sleep 0.3")
	restart(t, failing, "on-failure:2")
	restart(t, always, "always")
	must(t, "exec", failing, "touch", "/go")
	must(t, "exec", always, "touch", "/go")
	client.Eventually(t, "the failing one is given up", func() bool {
		return inspect(t, failing, "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}") == "exited 4 2"
	})
	client.Eventually(t, "the failing one has tried three times", func() bool { return strings.Count(must(t, "logs", failing), "try") == 3 })
	client.Eventually(t, "the other is restarted", func() bool { return strings.Count(must(t, "logs", always), "try") >= 4 })
	// The monitor may be about to start it from what it read before, also while nerdctl removes it; then a task stays that has no
	// container, whatever the runtime.
	client.Eventually(t, "the policy is taken away", func() bool { // nerdctl cannot while there is no task
		return nerdctl(t, "update", "--restart", "no", always).Code == 0
	})
	time.Sleep(5 * monitorInterval)
}

// TestRunRestart: the policy of nerdctl run, under a containerd whose monitor comes as seldom as anywhere.
func TestRunRestart(t *testing.T) {
	t.Parallel()
	d, err := startDaemon("restarts", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		left, err := d.Close()
		if err != nil || len(left) > 0 && *runtimeFlag != runcRuntime {
			t.Errorf("stop containerd: %v; left behind: %q", err, left)
		}
	}()
	nerdctl := client.Client{Name: program.Name, Command: commandOf(d)}
	run := append([]string{"run", "--detach", "--name", "again", "--restart", "on-failure:1"}, options(nil)...)
	nerdctl.Must(t, append(run, testImage, "sh", "-c", "echo try; exit 4")...)
	defer nerdctl.Must(t, "rm", "--force", "again")
	client.Eventually(t, "it was started again, once", func() bool {
		return nerdctl.Must(t, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}", "again") == "exited 4 1"
	})
	client.Eventually(t, "it has tried twice", func() bool { return nerdctl.Must(t, "logs", "again") == "try\ntry" })
}

// restart gives a running container a policy, and the monitor its logger, as nerdctl run --restart would have.
func restart(t *testing.T, name, policy string) {
	t.Helper()
	id := inspect(t, name, "{{.ID}}")
	logger := must(t, "inspect", "--mode", "native", "--format", `{{index .Labels "nerdctl/log-uri"}}`, name)
	if out, err := shared.daemon.Ctr(t.Context(), "container", "label", id, "containerd.io/restart.loguri="+logger).CombinedOutput(); err != nil {
		t.Fatalf("label %s: %v: %s", id, err, out)
	}
	must(t, "update", "--restart", policy, name)
}

func TestPause(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sh", "-c", "while :; do date +%s%N >/n; done")
	must(t, "pause", name)
	client.Equal(t, "state", inspect(t, name, "{{.State.Status}} {{.State.Paused}}"), "paused true")
	refused(t, "cannot exec in a paused state", "exec", name, "true")
	must(t, "unpause", name)
	before := must(t, "exec", name, "cat", "/n")
	client.Eventually(t, "it goes on", func() bool { return must(t, "exec", name, "cat", "/n") != before })
	must(t, "pause", name)
	must(t, "rm", "--force", name) // as it is
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	name := detached(t, []string{"--memory", "64m", "--memory-swap", "64m"}, "sleep", "1000")
	must(t, "update", "--memory", "100m", "--memory-swap", "200m", "--pids-limit", "50", "--cpu-quota", "20000", "--cpu-period", "40000", name)
	got := must(t, "exec", name, "sh", "-c", limits)
	if got != "104857600 20000 50" && got != "104857600 20000 40000 50" {
		t.Errorf("limits are %q", got)
	}
	shares := "cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpuset/cpuset.cpus 2>/dev/null"
	if must(t, "exec", name, "sh", "-c", shares+"; true") != "" { // cgroup v1
		must(t, "update", "--cpu-shares", "77", "--cpuset-cpus", "0", name)
		client.Equal(t, "shares and CPUs", must(t, "exec", name, "sh", "-c", shares), "77\n0")
	}
	refused(t, "", "update", "--cpuset-cpus", "4000", name)
}

// TestStats: numbers of the container's cgroup and of its network.
func TestStats(t *testing.T) {
	t.Parallel()
	onRunc(t, "nerdctl stats waits for ever: on a hybrid host the shim finds no cgroup to read")
	name := detached(t, []string{"--memory", "64m"}, "sh", "-c", "sleep 1000 & echo up; exec sleep 1000")
	waitFor(t, name, "up")
	got := must(t, "stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", name)
	f := strings.Fields(got)
	if len(f) != 5 || f[0] != name || f[1] != "2" || f[2] == "0B" || f[4] != "64MiB" {
		t.Errorf("stats are %q", got)
	}
}

func TestTop(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sh", "-c", "sleep 1001 & exec sleep 1002")
	got := must(t, "top", name, "-eo", "pid,args")
	if strings.Count(got, "sleep 1001") != 1 || strings.Count(got, "sleep 1002") != 1 || strings.Count(got, "\n") != 2 {
		t.Errorf("top shows %s", got)
	}
}
