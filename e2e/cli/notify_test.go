package cli

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// supervisor listens as systemd does and returns what it is told up to the barrier.
func (r *rig) supervisor() (messages func() []string) {
	r.t.Helper()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: r.path("notify"), Net: "unixgram"})
	r.check(err)
	r.t.Cleanup(func() { l.Close() })
	return func() (got []string) {
		r.t.Helper()
		l.SetReadDeadline(time.Now().Add(patience))
		for {
			buf, oob := make([]byte, 1000), make([]byte, 100)
			n, m, _, _, err := l.ReadMsgUnix(buf, oob)
			if err != nil {
				r.t.Fatalf("%v after %q", err, got)
			}
			got = append(got, string(buf[:n]))
			if m > 0 {
				messages, err := unix.ParseSocketControlMessage(oob[:m])
				r.check(err)
				fds, err := unix.ParseUnixRights(&messages[0])
				r.check(err)
				unix.Close(fds[0])
				return got
			}
		}
	}
}

// TestNotify, beside runc: start returns when the container has said that it is ready and its supervisor knows the container's pid; nothing else that
// the container says gets through.
func TestNotify(t *testing.T) {
	r := newRig(t, "/dev/ready/ready", "STATUS=starting", "READY=1\nFDSTORE=1")
	build := exec.Command("go", "build", "-o", r.path("ready"), "./testdata/ready")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.spec.Mounts = append(r.spec.Mounts,
		specs.Mount{Destination: "/run", Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: "/dev/ready", Type: "bind", Source: r.dir, Options: []string{"bind", "ro"}})
	r.writeConfig()
	messages := r.supervisor()
	notify := func(args ...string) *exec.Cmd {
		cmd := r.command(args...)
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+r.path("notify"))
		return cmd
	}
	expect := func(pid int) {
		t.Helper()
		got := messages()
		if len(got) != 3 || got[0] != "READY=1\n" || got[1] != "MAINPID="+strconv.Itoa(pid)+"\n" || got[2] != "BARRIER=1" {
			t.Errorf("the supervisor was told %q, want pid %d", got, pid)
		}
	}

	// As with runc, whose every message is the same.
	for _, r := range []*rig{r, r.withRunc()} {
		notify := func(args ...string) *exec.Cmd {
			cmd := r.command(args...)
			cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+r.path("notify"))
			return cmd
		}
		if res := r.finish(notify("create", "c")); res.code != 0 {
			t.Fatalf("%s create: %+v", r.program, res)
		}
		pid := r.state("c").Pid
		start := notify("start", "c")
		r.check(start.Start())
		expect(pid)
		r.check(start.Wait())
		r.reapAtEnd(pid)
		r.ok("delete", "--force", "c")
	}

	// In the foreground it is the runtime that is supervised. (runc overlooks a READY that is not the first line of its datagram.)
	r.spec.Process.Args[2] = "MAINPID=1\nREADY=1\nFDSTORE=1"
	r.writeConfig()
	run := notify("run", "c")
	r.check(run.Start())
	expect(run.Process.Pid)
	r.ok("kill", "c", "KILL")
	run.Wait()

	// A container that ends without having said anything does not block start.
	r.spec.Process.Args = []string{"true"}
	r.writeConfig()
	r.finish(notify("create", "c"))
	if res := r.finish(notify("start", "c")); res.code != 0 {
		t.Errorf("start: %+v", res)
	}
	r.stopped("c")
	r.ok("delete", "c")
}
