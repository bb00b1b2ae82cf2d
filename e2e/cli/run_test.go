package cli

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestRun: the process has our standard streams, its status is ours, and nothing stays.
func TestRun(t *testing.T) {
	r := newRig(t, "sh", "-c", "cat; echo problem >&2; exit 7")
	cmd := r.command("run", "c")
	cmd.Stdin = strings.NewReader("from outside\n")
	if res := r.finish(cmd); res.code != 7 || res.out != "from outside\n" || res.err != "problem\n" {
		t.Errorf("%+v", res)
	}
	r.fails("container does not exist", "state", "c")

	r.spec.Process.Args = []string{"sh", "-c", "kill -TERM $$"}
	r.spec.Linux.Namespaces = r.spec.Linux.Namespaces[1:] // pid 1 of a namespace does not die of its own signals
	r.writeConfig()
	if res := r.run("run", "c"); res.code != 128+int(unix.SIGTERM) {
		t.Errorf("killed by SIGTERM: %+v", res)
	}
	r.spec.Process.Args = []string{"nothing"}
	r.writeConfig()
	r.fails("executable file not found in $PATH", "run", "c")
	r.fails("container does not exist", "state", "c")
}

// TestRunConfig: crun's -f.
func TestRunConfig(t *testing.T) {
	r := newRig(t, "echo", "other")
	r.check(os.Rename(filepath.Join(r.bundle, "config.json"), r.path("other.json")))
	if out := r.ok("run", "-f", r.path("other.json"), "c"); out != "other\n" {
		t.Errorf("%q", out)
	}
}

// TestRunSignals: signals go to the container, whose end is ours; one that it handles is its business.
func TestRunSignals(t *testing.T) {
	r := newRig(t, "sh", "-c", "trap 'echo got HUP' HUP; trap 'echo got 37' 37; trap 'echo got TERM; exit 5' TERM; echo ready; while :; do sleep 0.01; done")
	cmd := r.command("run", "c")
	pipe, w, err := os.Pipe()
	r.check(err)
	cmd.Stdout = w
	r.check(cmd.Start())
	w.Close()
	r.check(pipe.SetReadDeadline(time.Now().Add(time.Minute)))
	lines := bufio.NewScanner(pipe)
	expect := func(want string) {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("output %q, want %q", lines.Text(), want)
		}
	}
	expect("ready")
	r.check(cmd.Process.Signal(unix.SIGHUP))
	expect("got HUP")
	// A rare one is passed on when the process has lived for a moment.
	rare, sent := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sent)
		for every := time.Tick(20 * time.Millisecond); ; {
			select {
			case <-every:
				cmd.Process.Signal(unix.Signal(37))
			case <-rare:
				return
			}
		}
	}()
	expect("got 37")
	close(rare)
	<-sent
	r.check(cmd.Process.Signal(unix.SIGTERM))
	for lines.Scan() && lines.Text() == "got 37" {
	}
	if lines.Text() != "got TERM" {
		t.Errorf("output %q, want got TERM", lines.Text())
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("exit code %d", code)
	}
}

// TestInterruptedCreation: a signal during the creation undoes it.
func TestInterruptedCreation(t *testing.T) {
	for _, command := range []string{"create", "run"} {
		t.Run(command, func(t *testing.T) {
			r := newRig(t, "true")
			gate := r.path("gate")
			r.hook("createRuntime", "touch "+gate+"; exec sleep 1000")
			r.writeConfig()
			cmd := r.command(command, "c")
			r.check(cmd.Start())
			r.eventually("the hook runs", func() bool { return exists(gate) })
			r.check(cmd.Process.Signal(unix.SIGINT))
			if err := cmd.Wait(); err == nil {
				t.Error("no error")
			}
			r.fails("container does not exist", "state", "c")
		})
	}
}

// TestRunKeep and TestRunDetached: what stays.
func TestRunKeep(t *testing.T) {
	r := newRig(t, "true")
	r.ok("run", "--keep", "c")
	r.expect("c", specs.StateStopped)
	r.ok("delete", "c")
}

func TestRunDetached(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	r.ok("run", "-d", "--pid-file", r.path("pid"), "c")
	c := r.expect("c", specs.StateRunning)
	if got := r.read("pid"); got != strconv.Itoa(c.Pid) {
		t.Errorf("the pid file has %q", got)
	}
	r.ok("kill", "c", "SIGKILL")
	r.stopped("c")
	r.ok("delete", "c")
}

// TestRunOrphans: in a shared pid namespace, what outlives its parent is reaped by run, and ends with the container.
func TestRunOrphans(t *testing.T) {
	r := newRig(t, "sh", "-c", "(sleep 1000 &) ; (true &) ; exit 3")
	r.spec.Linux.Namespaces = r.spec.Linux.Namespaces[1:]
	r.writeConfig()
	if res := r.run("run", "c"); res.code != 3 {
		t.Errorf("%+v", res)
	}
}

// TestTrace prints every step with its time.
func TestTrace(t *testing.T) {
	r := newRig(t, "true")
	res := r.run("run", "--trace", "c")
	if res.code != 0 || !strings.Contains(res.err, " µs    1  beside") || !strings.Contains(res.err, `execute ["true"]`) {
		t.Errorf("%+v", res)
	}
	if res := r.run("create", "--trace", "c"); res.code != 0 || strings.Count(res.err, " µs ") < 20 || !strings.Contains(res.err, "at start  ") {
		t.Errorf("create: %+v", res)
	}
	if res := r.run("start", "--trace", "c"); res.code != 0 || strings.Count(res.err, "\n") != 1 || !strings.Contains(res.err, ` µs  `) ||
		!strings.Contains(res.err, `execute ["true"]`) {
		t.Errorf("start: %+v", res)
	}
	r.stopped("c")
	r.ok("delete", "c")
}

// TestInheritedFDs, beside runc: --preserve-fds and socket activation hand descriptors down under their numbers, and no others.
func TestInheritedFDs(t *testing.T) {
	script := `cat <&3; cat <&4; echo fds $LISTEN_FDS pid $LISTEN_PID; ls /proc/self/fd | wc -l`
	r := newRig(t, "sh", "-c", script)
	file := func(text string) *os.File {
		name := r.path(text)
		r.check(os.WriteFile(name, []byte(text+"\n"), 0o600))
		f, err := os.Open(name)
		r.check(err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	for _, tc := range []struct {
		env, out string
		args     []string
	}{
		{"", "three\nfour\nfds pid\n6\n", []string{"run", "--preserve-fds", "2", "c"}},
		{"LISTEN_FDS=2", "three\nfour\nfds 2 pid 1\n6\n", []string{"run", "c"}},
		{"LISTEN_FDS=1", "three\nfour\nfds 1 pid 1\n6\n", []string{"run", "--preserve-fds=1", "c"}},
	} {
		for _, r := range []*rig{r, r.withRunc()} {
			cmd := r.command(tc.args...)
			cmd.ExtraFiles = []*os.File{file("three"), file("four"), file("five")}
			if tc.env != "" {
				// LISTEN_PID is the pid that the command has: a shell knows it before it becomes the command.
				cmd.Args = append([]string{"sh", "-c", `export LISTEN_PID=$$; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
				cmd.Path = "/bin/sh"
				cmd.Env = append(cmd.Env, tc.env)
			}
			if res := r.finish(cmd); res.code != 0 || res.out != tc.out {
				t.Errorf("%s %s %q: %+v, want %q", r.program, tc.env, tc.args, res, tc.out)
			}
		}
	}
	r.fails("is not open", "run", "--preserve-fds", "2", "c")
}

// TestMuchOutput: what a container writes on our streams comes through a pipe whole, also much of it.
func TestMuchOutput(t *testing.T) {
	const size = 8 << 20
	r := newRig(t, "head", "-c", strconv.Itoa(size), "/dev/zero")
	cmd := r.command("run", "c")
	pipe, err := cmd.StdoutPipe()
	r.check(err)
	r.check(cmd.Start())
	n, err := io.Copy(io.Discard, pipe)
	if err != nil || n != size {
		t.Errorf("%d bytes, %v", n, err)
	}
	r.check(cmd.Wait())
}
