package cli

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// receive listens for one message with one descriptor on a unix socket, as conmon does.
func (r *rig) receive(name string) func() (string, *os.File) {
	r.t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.path(name)})
	r.check(err)
	r.t.Cleanup(func() { l.Close() })
	return func() (string, *os.File) {
		r.t.Helper()
		l.SetDeadline(time.Now().Add(patience))
		conn, err := l.AcceptUnix()
		r.check(err)
		defer conn.Close()
		payload, oob := make([]byte, 100), make([]byte, 100)
		n, m, _, _, err := conn.ReadMsgUnix(payload, oob)
		r.check(err)
		messages, err := unix.ParseSocketControlMessage(oob[:m])
		r.check(err)
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(messages) != 1 || len(fds) != 1 {
			r.t.Fatalf("%d messages, descriptors %v, %v", len(messages), fds, err)
		}
		return string(payload[:n]), os.NewFile(uintptr(fds[0]), "received")
	}
}

// TestConsoleSocket: create sends the terminal's master, whose other end is the container's controlling terminal.
func TestConsoleSocket(t *testing.T) {
	r := newRig(t, "sh", "-c", "tty; stty size; read line; echo got $line")
	r.spec.Process.Terminal = true
	r.spec.Process.ConsoleSize = &specs.Box{Width: 97, Height: 31}
	r.writeConfig()
	r.fails("give --console-socket SOCKET", "create", "c")
	received := r.receive("console")
	r.ok("create", "--console-socket", r.path("console"), "c")
	name, master := received()
	defer master.Close()
	if name != "/dev/ptmx" {
		t.Errorf("payload %q", name)
	}
	if flags, err := unix.FcntlInt(master.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags %#x, %v: the master is not blocking", flags, err)
	}
	r.ok("start", "c")
	_, err := master.WriteString("hello\n")
	r.check(err)
	out, err := io.ReadAll(master)
	if !errors.Is(err, unix.EIO) {
		t.Errorf("read: %v, want EIO at the end", err)
	}
	text := strings.ReplaceAll(string(out), "\r\n", "\n")
	for _, line := range []string{"/dev/pts/0\n", "31 97\n", "got hello\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("terminal: %q without %q", text, line)
		}
	}
	r.stopped("c")
	r.ok("delete", "c")

	r.spec.Process.Terminal = false
	r.writeConfig()
	r.fails("process.terminal is not set", "create", "--console-socket", r.path("console"), "c")
	r.spec.Process.Terminal = true
	r.writeConfig()
	r.fails("connect to "+r.path("none"), "create", "--console-socket", r.path("none"), "c")
}

// TestPidfdSocket: init's and an exec's pidfd.
func TestPidfdSocket(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	received := r.receive("pidfd")
	r.ok("create", "--pidfd-socket", r.path("pidfd"), "c")
	check := func(wantName string, pid int) {
		t.Helper()
		name, f := received()
		defer f.Close()
		info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(int(f.Fd())))
		if err != nil || name != wantName || !strings.Contains(string(info), "Pid:\t"+strconv.Itoa(pid)+"\n") {
			t.Errorf("%q, want %q of %d: %s", name, wantName, pid, info)
		}
	}
	check("standard", r.state("c").Pid)
	r.ok("start", "c")
	r.ok("exec", "-d", "--pidfd-socket", r.path("pidfd"), "--pid-file", r.path("pid"), "c", "sleep", "500")
	pid, err := strconv.Atoi(r.read("pid"))
	r.check(err)
	check("setns", pid)
	r.reapAtEnd(pid)
	r.ok("delete", "-f", "c")
}

// pty is a pseudo terminal for a command to run on.
type pty struct{ master, slave *os.File }

func openPty(t *testing.T) pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(filepath.Join("/dev/pts", strconv.Itoa(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return pty{master, slave}
}

// on starts a command on the terminal and returns what it writes there until it ends.
func (p pty) on(t *testing.T, cmd *exec.Cmd, talk func()) string {
	t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.slave, p.slave, p.slave
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := make(chan string)
	go func() {
		var b bytes.Buffer
		io.Copy(&b, p.master)
		out <- b.String()
	}()
	if talk != nil {
		talk()
	}
	cmd.Wait()
	p.slave.Close() // the last: the copy ends
	select {
	case text := <-out:
		return text
	case <-time.After(patience):
		t.Fatal("the terminal is still open")
		return ""
	}
}

// TestRunTerminal: run -it as people have it: size, resize, raw input, and the caller's terminal as it was.
func TestRunTerminal(t *testing.T) {
	r := newRig(t, "sh", "-c", "stty size; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.01; done")
	r.spec.Process.Terminal = true
	r.writeConfig()
	p := openPty(t)
	r.check(unix.IoctlSetWinsize(int(p.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 20, Col: 70}))
	before, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	r.check(err)
	cmd := r.command("run", "c")
	text := p.on(t, cmd, func() {
		r.eventually("the container's terminal has a size", func() bool {
			res := r.run("exec", "c", "sh", "-c", "stty size < /dev/console")
			return res.out == "20 70\n"
		})
		time.Sleep(50 * time.Millisecond) // the trap is set
		r.check(unix.IoctlSetWinsize(int(p.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 80}))
	})
	if cmd.ProcessState.ExitCode() != 4 || !strings.Contains(text, "20 70\r\n") || !strings.HasSuffix(text, "25 80\r\n") {
		t.Errorf("exit code %d, terminal %q", cmd.ProcessState.ExitCode(), text)
	}
	again, err := unix.IoctlGetTermios(int(p.master.Fd()), unix.TCGETS)
	r.check(err)
	if again.Lflag != before.Lflag || again.Iflag != before.Iflag || again.Oflag != before.Oflag {
		t.Errorf("the terminal was %+v and is %+v", before, again)
	}
}

// TestExecTerminal: output that is written just before the end arrives whole, also when others keep the terminal.
func TestExecTerminal(t *testing.T) {
	r := running(t)
	p := openPty(t)
	text := p.on(t, r.command("exec", "-t", "c", "sh", "-c", "tty; sleep 1000 & seq 1 2000"), nil)
	if !strings.HasPrefix(text, "/dev/pts/") || !strings.HasSuffix(text, "1999\r\n2000\r\n") || strings.Count(text, "\n") != 2001 {
		t.Errorf("terminal: %d lines, ends in %q", strings.Count(text, "\n"), text[max(0, len(text)-40):])
	}
	// Without a terminal of our own.
	if out := r.ok("exec", "--tty", "c", "tty"); !strings.HasPrefix(out, "/dev/pts/") {
		t.Errorf("%q", out)
	}
}

// cgroupDir returns where a cgroup is in the hierarchy of a controller.
func cgroupDir(t *testing.T, cgroup, controller string) string {
	t.Helper()
	for _, dir := range []string{filepath.Join("/sys/fs/cgroup", controller, cgroup), filepath.Join("/sys/fs/cgroup", cgroup)} {
		if exists(dir) {
			return dir
		}
	}
	t.Fatalf("no cgroup %s of %s", cgroup, controller)
	return ""
}
