package stdio

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// startOnTerminal runs a program on a new terminal, without echo and translation so that bytes can be compared, and attaches
// the master.
func startOnTerminal(t *testing.T, o *IO, args ...string) *exec.Cmd {
	t.Helper()
	master, slave := newTerminal(t)
	cmd := exec.Command("/proc/self/exe", append([]string{"program"}, args...)...)
	cmd.Stdin, cmd.Stdout = slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	o.CloseContainerEnds()
	if err := o.AttachConsole(master); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func newTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	term.Oflag &^= unix.OPOST
	term.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, term); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "/dev/ptmx"), slave
}

// Everything that was on the terminal when the process ended arrives, in each kind of destination.
func TestTerminalOutput(t *testing.T) {
	const n = 3 << 20
	t.Run("fifo", func(t *testing.T) {
		out := mkfifo(t, "out")
		r := reader(t, out)
		o := open(t, Config{Stdout: out, Terminal: true})
		cmd := startOnTerminal(t, o, "emit", fmt.Sprint(n))
		if got, n, err := sum(r); err != nil || got != emitted(1, int(n)) {
			t.Errorf("%d bytes, %v, or not the right ones", n, err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		drain(t, o)
	})
	t.Run("file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		o := open(t, Config{Stdout: "file://" + path, Terminal: true})
		if err := startOnTerminal(t, o, "emit", fmt.Sprint(n)).Wait(); err != nil {
			t.Error(err)
		}
		drain(t, o)
		if got := contents(t, filepath.Dir(path), "log"); got != terminalOutput(n) {
			t.Errorf("%d bytes, or not the right ones", len(got))
		}
	})
	t.Run("nothing", func(t *testing.T) {
		o := open(t, Config{Terminal: true})
		if err := startOnTerminal(t, o, "emit", fmt.Sprint(n)).Wait(); err != nil {
			t.Error(err)
		}
		drain(t, o)
	})
}

func TestTerminalInput(t *testing.T) {
	in, out := mkfifo(t, "in"), mkfifo(t, "out")
	r := reader(t, out)
	o := open(t, Config{Stdin: in, Stdout: out, Terminal: true})
	cmd := startOnTerminal(t, o, "cat")
	if err := os.WriteFile(in, []byte("hello\n"), 0); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 6)
	if _, err := io.ReadFull(r, b); err != nil || string(b) != "hello\n" {
		t.Fatalf("got %q, %v", b, err)
	}
	w, err := os.OpenFile(in, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.WriteString("\x04") // VEOF ends a cooked terminal's input
	w.Close()
	o.CloseStdin()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) != 0 {
		t.Errorf("got %q, %v", rest, err)
	}
	drain(t, o)
}

// The end of stdin is not the end of the terminal.
func TestTerminalOutlivesStdin(t *testing.T) {
	in, out := mkfifo(t, "in"), mkfifo(t, "out")
	r := reader(t, out)
	o := open(t, Config{Stdin: in, Stdout: out, Terminal: true})
	o.CloseStdin()
	startOnTerminal(t, o, "emit", "1000000")
	if got, n, err := sum(r); err != nil || got != emitted(1, 1000000) {
		t.Errorf("%d bytes, %v, or not the right ones", n, err)
	}
}

func TestResize(t *testing.T) {
	checkLeaks(t)
	o := open(t, Config{Terminal: true})
	master, slave := newTerminal(t)
	defer slave.Close()
	if err := o.AttachConsole(master); err != nil {
		t.Fatal(err)
	}
	if err := o.Resize(132, 43); err != nil {
		t.Fatal(err)
	}
	size, err := unix.IoctlGetWinsize(int(slave.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col != 132 || size.Row != 43 {
		t.Errorf("got %+v, %v", size, err)
	}
	o.Close()
	if err := o.Resize(80, 25); err != nil {
		t.Errorf("resize after close: %v", err)
	}
}

func TestAttachAfterClose(t *testing.T) {
	o := open(t, Config{Stdout: mkfifo(t, "out"), Stdin: mkfifo(t, "in"), Terminal: true})
	master, slave := newTerminal(t)
	slave.Close()
	o.Close()
	if err := o.AttachConsole(master); err == nil || !strings.Contains(err.Error(), "attach console") {
		t.Errorf("got %v", err)
	}
}
