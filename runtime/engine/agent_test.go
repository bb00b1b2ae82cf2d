package engine_test

import (
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// notification is struct seccomp_notif of linux/seccomp.h, answer struct seccomp_notif_resp.
type (
	notification struct {
		ID         uint64
		PID, Flags uint32
		Nr         int32
		Arch       uint32
		IP         uint64
		Args       [6]uint64
	}
	answer struct {
		ID    uint64
		Val   int64
		Error int32
		Flags uint32
	}
)

const flagContinue = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE

// agent serves seccomp listeners: every directory is answered with EDQUOT, what else it is asked goes on.
type agent struct {
	path   string
	states chan specs.ContainerProcessState
	calls  chan notification // of mkdir(2)
}

func startAgent(t *testing.T) *agent {
	t.Helper()
	a := &agent{path: filepath.Join(t.TempDir(), "agent"), states: make(chan specs.ContainerProcessState, 10), calls: make(chan notification, 100)}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: a.path})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	go func() {
		defer close(done)
		for {
			conn, err := l.AcceptUnix()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			fd := a.receive(t, conn)
			conn.Close()
			go a.serve(fd)
		}
	}()
	return a
}

// receive reads the one message of a connection.
func (a *agent) receive(t *testing.T, conn *net.UnixConn) int {
	text, oob := make([]byte, 1<<16), make([]byte, 1000)
	n, oobn, _, _, err := conn.ReadMsgUnix(text, oob)
	if err != nil {
		t.Error(err)
		return -1
	}
	for {
		more, err := conn.Read(text[n:])
		n += more
		if err != nil {
			break
		}
	}
	var state specs.ContainerProcessState
	if err := json.Unmarshal(text[:n], &state); err != nil {
		t.Errorf("%q: %v", text[:n], err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) != 1 {
		t.Errorf("%d control messages, %v", len(msgs), err)
		return -1
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		t.Errorf("descriptors %v, %v", fds, err)
		return -1
	}
	select {
	case a.states <- state:
	default: // nobody is interested
	}
	return fds[0]
}

// serve answers until the last process of the filter is gone.
func (a *agent) serve(fd int) {
	defer unix.Close(fd)
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil || p[0].Revents&unix.POLLIN == 0 {
			return
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // it was killed meanwhile
		}
		out := answer{ID: n.ID, Flags: flagContinue}
		if slices.Contains(mkdirs, int(n.Nr)) {
			out = answer{ID: n.ID, Error: -int32(unix.EDQUOT)}
			a.calls <- n
		}
		unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&out)))
	}
}

// notified is a profile that asks the agent about directories, and about calls that come between the loading of the filter
// and the program.
func notified(a *agent) *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: a.path, ListenerMetadata: "who:\"me\"",
		Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat", "read", "close", "capset", "execve"}, Action: specs.ActNotify}}}
}

// TestSeccompAgent: the agent gets the listener and the state of init and of execs, and answers for their calls; the
// container does not have the listener.
func TestSeccompAgent(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*specs.Spec)
	}{
		{"no new privileges", func(s *specs.Spec) {}},
		{"privileges", func(s *specs.Spec) { s.Process.NoNewPrivileges = false }},
		{"a user", func(s *specs.Spec) { s.Process.NoNewPrivileges, s.Process.User.UID = false, 1000 }},
		{"a user namespace", func(s *specs.Spec) { addUserNamespace(s) }},
		{"waits for the agent unless killed", func(s *specs.Spec) {
			s.Linux.Seccomp.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv, specs.LinuxSeccompFlagLog}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			testkit.NoLeaks(t)
			a := startAgent(t)
			e, _ := newEngine(t)
			spec := testkit.Spec("sh", "-c", "readlink /proc/self/fd/*; sleep 1000")
			spec.Annotations = map[string]string{"a": "b"}
			spec.Linux.Seccomp = notified(a)
			tc.change(spec)
			c := create(t, e, spec, nil)
			state := <-a.states
			if state.Version != specs.Version || len(state.Fds) != 1 || state.Fds[0] != "seccompFd" || state.Pid != c.Pid() || state.Metadata != "who:\"me\"" {
				t.Errorf("state of init: %+v", state)
			}
			if s := state.State; s.Version != specs.Version || s.ID != c.ID() || s.Status != specs.StateCreating || s.Pid != c.Pid() || s.Bundle == "" || s.Annotations["a"] != "b" {
				t.Errorf("state of the container at create: %+v", s)
			}
			if err := c.Start(timeout(t)); err != nil {
				t.Fatal(err)
			}
			p := *spec.Process
			p.Args = []string{"sh", "-c", "mkdir /tmp/x; readlink /proc/self/fd/* /proc/1/fd/*"}
			out, _ := execProcess(t, c, "x", &p)
			if !strings.Contains(out, "Disk quota exceeded") || strings.Contains(out, "seccomp") {
				t.Errorf("output %q", out)
			}
			state = <-a.states
			if s := state.State; state.Pid == c.Pid() || state.Pid == 0 || s.Pid != c.Pid() || s.Status != specs.StateRunning {
				t.Errorf("state of an exec: %+v", state)
			}
			if n := <-a.calls; n.PID == 0 {
				t.Errorf("a call of nobody: %+v", n)
			}
		})
	}
}

// TestSeccompAgentGone: without an agent there is no container, and the error says which socket.
func TestSeccompAgentGone(t *testing.T) {
	testkit.NoLeaks(t)
	e, ev := newEngine(t)
	spec := testkit.Spec("true")
	spec.Linux.CgroupsPath = "/" + newID()
	spec.Linux.Seccomp = notified(&agent{path: "/no/agent"})
	_, err := e.Create(timeout(t), engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)})
	if want := "linux.seccomp.listenerPath: hand the listener of the seccomp filter to the agent at /no/agent: dial unix /no/agent: connect: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if len(ev.list) > 0 {
		t.Errorf("events: %v", ev.kinds())
	}
}
