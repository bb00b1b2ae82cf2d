package cli

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestConsole: console is the other end of --console-socket. The container's terminal has the size of the caller's, also when that changes;
// the caller's is as it was when the container has ended; and the socket goes with the command.
func TestConsole(t *testing.T) {
	r := newRig(t, "sh", "-c", "trap 'stty size; exit' WINCH; stty size; echo ready; while :; do sleep 0.01; done")
	r.spec.Process.Terminal = true
	r.writeConfig()
	socket := r.path("console")
	p := openPty(t)
	r.check(unix.IoctlSetWinsize(int(p.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 20, Col: 70}))
	before, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	r.check(err)
	cmd := r.command("console", socket)
	text := p.on(t, cmd, func() {
		r.eventually("the socket is there", func() bool { return exists(socket) })
		r.fails("it exists: remove it first", "console", socket)
		r.ok("create", "--console-socket", socket, "c")
		r.eventually("the socket is gone", func() bool { return !exists(socket) })
		r.eventually("the size has arrived", func() bool { return r.run("exec", "c", "sh", "-c", "stty size < /dev/console").out == "20 70\n" })
		r.ok("start", "c")
		pause(100) // the trap is set
		r.check(unix.IoctlSetWinsize(int(p.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 80}))
	})
	if cmd.ProcessState.ExitCode() != 0 || !strings.Contains(text, "waiting for: gosudacon create --console-socket "+socket+" ID\r\n20 70\r\nready\r\n") ||
		!strings.HasSuffix(text, "25 80\r\n") {
		t.Errorf("exit code %d, terminal %q", cmd.ProcessState.ExitCode(), text)
	}
	if again, err := unix.IoctlGetTermios(int(p.master.Fd()), unix.TCGETS); err != nil || *again != *before {
		t.Errorf("the terminal was %+v and is %+v, %v", before, again, err)
	}
	r.stopped("c")
	r.ok("delete", "c")

	// Nobody sends a terminal.
	waiting := r.command("console", socket)
	r.check(waiting.Start())
	r.eventually("the socket is there", func() bool { return exists(socket) })
	r.check(waiting.Process.Signal(unix.SIGTERM))
	if waiting.Wait(); waiting.ProcessState.ExitCode() != 1 || exists(socket) {
		t.Errorf("interrupted: %v, the socket is there: %t", waiting.ProcessState, exists(socket))
	}
}
