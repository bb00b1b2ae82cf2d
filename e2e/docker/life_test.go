package docker

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/e2e/client"
)

// ask returns what a server says, or what is wrong with it.
func ask(address string) string {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	text, err := io.ReadAll(conn)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

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
	must(t, "restart", "--timeout", "1", name)
	must(t, "rm", "--force", name)
	refused(t, "No such", "inspect", name)
}

func TestStop(t *testing.T) {
	t.Parallel()
	deaf := detached(t, nil, "sleep", "1000") // the init of a pid namespace ignores what it does not handle
	must(t, "stop", "--timeout", "1", deaf)
	client.Equal(t, "exit code", must(t, "wait", deaf), "137")

	other := detached(t, []string{"--stop-signal", "SIGUSR2"}, "sh", "-c", `trap "exit 12" USR2; echo up; while :; do sleep 0.05; done`)
	waitFor(t, other, "up")
	must(t, "stop", other)
	client.Equal(t, "exit code", must(t, "wait", other), "12")
}

func TestCreateAndStart(t *testing.T) {
	t.Parallel()
	name := newName(t)
	must(t, append(append([]string{"create", "--name", name}, options(nil)...), testImage, "sh", "-c", "echo once; exit 3")...)
	client.Equal(t, "state", inspect(t, name, "{{.State.Status}}"), "created")
	r := docker(t, "start", "--attach", name)
	client.Equal(t, "output", r.Stdout, "once\n")
	client.Equal(t, "exit code", r.Code, 3)
	client.Equal(t, "state", inspect(t, name, "{{.State.Status}} {{.State.ExitCode}}"), "exited 3")
}

func TestRestartPolicy(t *testing.T) {
	t.Parallel()
	failing := detached(t, []string{"--restart", "on-failure:2"}, "sh", "-c", "echo try; exit 4")
	client.Eventually(t, "it has tried three times", func() bool {
		return strings.Count(must(t, "logs", failing), "try") == 3 && inspect(t, failing, "{{.State.Status}} {{.RestartCount}}") == "exited 2"
	})
	always := detached(t, []string{"--restart", "always"}, "sh", "-c", "echo try; sleep 0.1; kill -9 $$; exit 5")
	client.Eventually(t, "the other is restarted", func() bool { return strings.Count(must(t, "logs", always), "try") >= 3 })
	must(t, "stop", "--timeout", "0", always)
	client.Equal(t, "state", inspect(t, always, "{{.State.Status}}"), "exited")
}

func TestPause(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sh", "-c", "while :; do date +%s%N >/n; done")
	must(t, "pause", name)
	client.Equal(t, "state", inspect(t, name, "{{.State.Status}} {{.State.Paused}}"), "paused true")
	refused(t, "is paused", "exec", name, "true")
	must(t, "unpause", name)
	before := must(t, "exec", name, "cat", "/n")
	client.Eventually(t, "it goes on", func() bool { return must(t, "exec", name, "cat", "/n") != before })
	must(t, "pause", name)
	must(t, "rm", "--force", name) // as it is
}

func TestStatsAndTop(t *testing.T) {
	t.Parallel()
	name := detached(t, []string{"--memory", "64m"}, "sh", "-c", "sleep 1001 & echo up; exec sleep 1002")
	waitFor(t, name, "up")
	client.Eventually(t, "both processes are counted and shown", func() bool {
		top := must(t, "top", name, "-eo", "pid,args")
		f := strings.Fields(must(t, "stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", name))
		return strings.Count(top, "sleep 1001") == 1 && strings.Count(top, "sleep 1002") == 1 && strings.Count(top, "\n") == 2 &&
			len(f) == 5 && f[0] == name && f[1] == "2" && f[2] != "0B" && f[4] == "64MiB"
	})
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	name := detached(t, []string{"--memory", "64m", "--memory-swap", "64m", "--pids-limit", "30"}, "sleep", "1000")
	must(t, "update", "--memory", "100m", "--memory-swap", "200m", "--pids-limit", "50", "--cpu-quota", "20000", "--cpu-period", "40000", name)
	if got := must(t, "exec", name, "sh", "-c", limits); got != "104857600 20000 50" && got != "104857600 20000 40000 50" {
		t.Errorf("limits are %q", got)
	}
	refused(t, "", "update", "--cpuset-cpus", "4000", name)
}

func TestExec(t *testing.T) {
	t.Parallel()
	name := detached(t, []string{"--env", "FROM=image"}, "sleep", "1000")
	client.Equal(t, "output", must(t, "exec", name, "echo", "hello"), "hello")
	client.Equal(t, "flags", must(t, "exec", "--env", "A=b", "--workdir", "/tmp", "--user", "alice", name, "sh", "-c", "echo $FROM $A $(pwd) $(id -un)"), "image b /tmp alice")
	client.Equal(t, "input", program.RunIn(t, strings.NewReader("in\n"), "exec", "--interactive", name, "cat").Stdout, "in\n")
	client.Equal(t, "errors", docker(t, "exec", name, "sh", "-c", "echo e >&2").Stderr, "e\n")
	client.Equal(t, "exit code", docker(t, "exec", name, "sh", "-c", "exit 9").Code, 9)
	client.Equal(t, "killed", docker(t, "exec", name, "sh", "-c", "kill -9 $$").Code, 137)
	for _, c := range []struct {
		flags, program, want string
		code                 int
	}{
		{"", "nosuch", `exec: "nosuch": executable file not found in $PATH`, 127},
		{"", "/etc/motd", `exec: "/etc/motd": permission denied`, 126},
		{"--workdir /nosuch", "pwd", "/nosuch", 127},
		{"--user nosuch", "id", "nosuch", 1},
	} {
		r := docker(t, append(append([]string{"exec"}, strings.Fields(c.flags)...), name, c.program)...)
		client.Equal(t, c.flags+" "+c.program, r.Code, c.code)
		contains(t, c.flags+" "+c.program, r.Stdout+r.Stderr, c.want)
	}
	caps := []string{"sh", "-c", "grep -E 'Cap(Eff|Bnd)' /proc/self/status | cut -f2"}
	client.Equal(t, "capabilities", must(t, append([]string{"exec", name}, caps...)...), "00000000a80425fb\n00000000a80425fb")
	every := strings.Fields(must(t, append([]string{"exec", "--privileged", name}, caps...)...))
	if len(every) != 2 || !strings.HasPrefix(every[0], "000001ff") || every[0] != every[1] {
		t.Errorf("privileged exec has capabilities %q", every)
	}
	must(t, "exec", "--detach", name, "touch", "/tmp/mark")
	client.Eventually(t, "the detached exec has run", func() bool { return must(t, "exec", name, "ls", "/tmp") == "mark" })
}

// TestHealthcheck: Docker executes the check again and again.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	name := detached(t, []string{"--health-cmd", "test -e /ok", "--health-interval", "100ms", "--health-retries", "2"}, "sleep", "1000")
	health := func(want string) {
		t.Helper()
		client.Eventually(t, "it is "+want, func() bool { return inspect(t, name, "{{.State.Health.Status}}") == want })
	}
	health("unhealthy")
	must(t, "exec", name, "touch", "/ok")
	health("healthy")
}

func TestLogs(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sh", "-c", "echo first; echo second >&2; seq 1 5000; exit 5")
	client.Equal(t, "exit code", must(t, "wait", name), "5")
	r := docker(t, "logs", name)
	client.Equal(t, "errors", r.Stderr, "second\n")
	if !strings.HasPrefix(r.Stdout, "first\n") || !strings.HasSuffix(r.Stdout, "\n5000\n") || strings.Count(r.Stdout, "\n") != 5001 {
		t.Errorf("logs has %d lines of output, from %.40q", strings.Count(r.Stdout, "\n"), r.Stdout)
	}
}

// TestInput hands on what docker reads.
func TestInput(t *testing.T) {
	t.Parallel()
	args := append(append([]string{"run", "--rm", "--interactive"}, options(nil)...), testImage, "cat")
	client.Equal(t, "output", program.RunIn(t, strings.NewReader("in\n"), args...).Stdout, "in\n")
}

// TestCopy moves files between the host and a container, and makes an image of it.
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
	contains(t, "diff", must(t, "diff", name), "A /tmp/g")
	must(t, "commit", "--pause", name, name)
	client.Equal(t, "file of the new image", must(t, "run", "--rm", "--network", "none", name, "cat", "/tmp/g"), "carried")
	must(t, "rmi", name)
}

// TestDaemonRestarts: containers go on without Docker, which finds them, and the end of one that ended meanwhile. It runs before the tests
// that run at the same time.
func TestDaemonRestarts(t *testing.T) {
	dir := t.TempDir()
	living := detached(t, nil, "sh", "-c", patient)
	dying := detached(t, []string{"--volume", dir + ":/host"}, "sh", "-c", "until [ -e /host/go ]; do sleep 0.05; done; exit 9")
	waitFor(t, living, "up")
	pid, other := inspect(t, living, "{{.State.Pid}}"), inspect(t, dying, "{{.State.Pid}}")
	if err := shared.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	client.Eventually(t, "the other has ended", func() bool { _, err := os.Stat("/proc/" + other); return err != nil })
	if err := shared.start(); err != nil {
		t.Fatal(err)
	}
	client.Equal(t, "process", inspect(t, living, "{{.State.Status}} {{.State.Pid}}"), "running "+pid)
	want := "exited 9"
	if *runtimeFlag != shimRuntime {
		want = "exited 255" // containerd takes the task that containerd-shim-runc-v2 has without processes for one that was never made
	}
	client.Equal(t, "state of the other", inspect(t, dying, "{{.State.Status}} {{.State.ExitCode}}"), want)
	must(t, "exec", living, "true")
	must(t, "kill", "--signal", "USR1", living)
	waitFor(t, living, "usr1")
	must(t, "stop", living)
	client.Equal(t, "exit code", must(t, "wait", living), "7")
}
