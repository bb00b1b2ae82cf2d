package podman

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/client"
)

// patient ends with code 7 when it is asked to.
const patient = `trap "exit 7" TERM; trap "echo usr1" USR1; echo up; while :; do sleep 0.05; done`

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
	must(t, "rm", "--force", "--time", "1", name)
	refused(t, "no such", "inspect", name)
}

// TestStop: a signal of the container's, and the kill of what does not listen.
func TestStop(t *testing.T) {
	t.Parallel()
	deaf := detached(t, nil, "sleep", "1000") // the init of a pid namespace ignores what it does not handle
	must(t, "stop", "--time", "1", deaf)
	client.Equal(t, "exit code", must(t, "wait", deaf), "137")

	other := detached(t, []string{"--stop-signal", "SIGUSR2"}, "sh", "-c", `trap "exit 12" USR2; echo up; while :; do sleep 0.05; done`)
	waitFor(t, other, "up")
	must(t, "stop", other)
	client.Equal(t, "exit code", must(t, "wait", other), "12")

	// Without a pid namespace the runtime must find every process of the container.
	host := detached(t, []string{"--pid", "host"}, "sh", "-c", "sleep 1003 & echo up; exec sleep 1003")
	waitFor(t, host, "up")
	must(t, "kill", host)
	client.Equal(t, "exit code", must(t, "wait", host), "137")
	must(t, "rm", "--force", "--time", "0", host)
	client.Eventually(t, "the container's processes are gone", func() bool { return !runs("sleep\x001003") })
}

// runs tells whether a process has a command line that contains text.
func runs(text string) bool {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		if got, _ := os.ReadFile(line); strings.Contains(string(got), text) {
			return true
		}
	}
	return false
}

func TestCreateAndStart(t *testing.T) {
	t.Parallel()
	name := newName(t)
	must(t, append(append([]string{"create", "--name", name}, options(nil)...), testImage, "sh", "-c", "echo once; exit 3")...)
	client.Equal(t, "state", inspect(t, name, "{{.State.Status}}"), "created")
	must(t, "init", name) // what the runtime calls create
	client.Equal(t, "state", inspect(t, name, "{{.State.Status}}"), "initialized")
	r := podman(t, "start", "--attach", name)
	client.Equal(t, "output", r.Stdout, "once\n")
	client.Equal(t, "exit code", r.Code, 3)
	client.Eventually(t, "podman has cleaned up", func() bool { return inspect(t, name, "{{.State.Status}} {{.State.ExitCode}}") == "exited 3" })

	never := newName(t)
	must(t, append(append([]string{"create", "--name", never}, options(nil)...), testImage, "true")...)
	must(t, "init", never)
	must(t, "rm", never) // without a start
}

// TestRestartPolicy: what podman does when conmon tells it of the end.
func TestRestartPolicy(t *testing.T) {
	t.Parallel()
	failing := detached(t, []string{"--restart", "on-failure:2"}, "sh", "-c", "echo try; exit 4")
	client.Eventually(t, "it has tried three times", func() bool {
		return strings.Count(must(t, "logs", failing), "try") == 3 && inspect(t, failing, "{{.State.Status}} {{.RestartCount}}") == "exited 2"
	})
	always := detached(t, []string{"--restart", "always"}, "sh", "-c", "echo try; sleep 0.1")
	client.Eventually(t, "the other is restarted", func() bool { return strings.Count(must(t, "logs", always), "try") >= 3 })
	must(t, "stop", "--time", "0", always)
}

// TestPause freezes a container: it does nothing, cannot be executed in, and can be removed.
func TestPause(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sh", "-c", "while :; do date +%s%N >/n; done")
	must(t, "pause", name)
	client.Equal(t, "state", inspect(t, name, "{{.State.Status}} {{.State.Paused}}"), "paused true")
	refused(t, "", "exec", name, "true")
	must(t, "unpause", name)
	before := must(t, "exec", name, "cat", "/n")
	client.Eventually(t, "it goes on", func() bool { return must(t, "exec", name, "cat", "/n") != before })
	must(t, "pause", name)
	must(t, "rm", "--force", "--time", "0", name) // as it is
}

// TestStats: numbers of the cgroup that the runtime made where podman asked for it.
func TestStats(t *testing.T) {
	t.Parallel()
	name := detached(t, []string{"--memory", "64m"}, "sh", "-c", "sleep 1000 & echo up; exec sleep 1000")
	waitFor(t, name, "up")
	got := must(t, "stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", name)
	f := strings.Fields(got)
	if len(f) != 5 || f[0] != name || f[1] != "2" || f[2] == "0B" || f[4] != "67.11MB" {
		t.Errorf("stats are %q", got)
	}
}

func TestTop(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sh", "-c", "sleep 1001 & echo up; exec sleep 1002")
	waitFor(t, name, "up")
	client.Eventually(t, "top shows both", func() bool {
		got := must(t, "top", name, "pid", "args")
		return strings.Count(got, "sleep 1001") == 1 && strings.Count(got, "sleep 1002") == 1 && strings.Count(got, "\n") == 2
	})
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	name := detached(t, []string{"--memory", "64m", "--memory-swap", "64m", "--pids-limit", "50"}, "sleep", "1000")
	must(t, "update", "--memory-swap", "200m", "--memory", "100m", "--cpus", "0.2", name)
	if got := must(t, "exec", name, "sh", "-c", limits); got != "104857600 20000 50" && got != "104857600 20000 100000 50" {
		t.Errorf("limits are %q", got)
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sh", "-c", "echo first; echo second >&2; seq 1 5000; exit 5")
	client.Equal(t, "exit code", must(t, "wait", name), "5")
	r := podman(t, "logs", name)
	client.Equal(t, "errors", r.Stderr, "second\n")
	if !strings.HasPrefix(r.Stdout, "first\n") || !strings.HasSuffix(r.Stdout, "\n5000\n") || strings.Count(r.Stdout, "\n") != 5001 {
		t.Errorf("logs has %d lines of output, from %.40q", strings.Count(r.Stdout, "\n"), r.Stdout)
	}
}

// TestCopy moves files between the host and a container, which podman pauses meanwhile.
func TestCopy(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("carried\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	name := detached(t, nil, "sleep", "1000")
	must(t, "cp", file, name+":/tmp/g")
	client.Equal(t, "inside", must(t, "exec", name, "cat", "/tmp/g"), "carried")
	must(t, "cp", name+":/etc/motd", file)
	if got, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(got), "hello from a container") {
		t.Errorf("copied from the container: %q, %v", got, err)
	}
	must(t, "exec", name, "touch", "/added")
	contains(t, "diff", must(t, "diff", name), "A /added")
	image := "localhost/" + name
	must(t, "commit", "--pause", name, image)
	client.Equal(t, "file of the new image", must(t, "run", "--rm", "--network", "none", image, "ls", "/added"), "/added")
	must(t, "rmi", image)
}

// TestHooks: podman adds hooks from a directory to the container's config.
func TestHooks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, stage := range []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"} {
		hook := `{"version": "1.0.0", "hook": {"path": "/bin/sh", "args": ["sh", "-c", "{ echo ` + stage + `; cat; echo; } >>` + dir + `/seen"]}, "when": {"always": true}, "stages": ["` + stage + `"]}`
		if stage == "createContainer" || stage == "startContainer" {
			continue // they run where that directory is not
		}
		if err := os.WriteFile(filepath.Join(dir, stage+".json"), []byte(hook), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := podman(t, append(append([]string{"--hooks-dir", dir, "run", "--rm"}, options(nil)...), testImage, "true")...)
	client.Equal(t, "exit code", r.Code, 0)
	seen, err := os.ReadFile(filepath.Join(dir, "seen"))
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for line := range strings.Lines(string(seen)) {
		if !strings.HasPrefix(line, "{") && line != "\n" {
			order = append(order, strings.TrimSpace(line))
		}
	}
	slices.Sort(order[:min(2, len(order))]) // podman may make prestart one of createRuntime
	client.Equal(t, "hooks", strings.Join(order, " "), "createRuntime prestart poststart poststop")
}

// TestInterrupt: a signal to podman in the foreground is the container's.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	name := newName(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := command(ctx, append(append([]string{"run", "--name", name}, options(nil)...), testImage, "sh", "-c", patient)...)
	var out client.Screen
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client.Eventually(t, "the container is up", func() bool { return strings.Contains(out.String(), "up\n") })
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	client.Equal(t, "exit code", cmd.ProcessState.ExitCode(), 7)
}
