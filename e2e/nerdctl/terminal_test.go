package nerdctl

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/console"
)

// screen keeps what is written to it, by several at once.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ReplaceAll(s.text.String(), "\r\n", "\n")
}

// terminal is one in which nerdctl runs.
type terminal struct {
	screen
	t      *testing.T
	master console.Console
	cmd    *exec.Cmd
	ended  chan struct{}
}

// newTerminal runs nerdctl with args in a terminal of 33 lines and 77 columns.
func newTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	master, path, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	term := &terminal{t: t, master: master, cmd: command(ctx, args...), ended: make(chan struct{})}
	t.Cleanup(func() { cancel(); <-term.ended; master.Close() })
	term.resize(33, 77)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, slave
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		close(term.ended)
		t.Fatal(err)
	}
	copied := make(chan struct{})
	go func() { io.Copy(&term.screen, master); close(copied) }() // until the last slave is closed
	go func() { term.cmd.Wait(); <-copied; close(term.ended) }()
	return term
}

func (s *terminal) resize(lines, columns uint16) {
	s.t.Helper()
	if err := s.master.Resize(console.WinSize{Height: lines, Width: columns}); err != nil {
		s.t.Fatal(err)
	}
}

// types writes keys as a user would.
func (s *terminal) types(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.master, keys); err != nil {
		s.t.Fatal(err)
	}
}

// shows waits until a text is on the screen.
func (s *terminal) shows(text string) {
	s.t.Helper()
	for end := time.Now().Add(30 * time.Second); !strings.Contains(s.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("the screen does not show %q within thirty seconds:\n%s", text, s.String())
		}
	}
}

// exitCode waits for nerdctl's end.
func (s *terminal) exitCode() int {
	<-s.ended
	return s.cmd.ProcessState.ExitCode()
}

// interactive are the arguments of nerdctl that run a container in a terminal.
func interactive(flags ...string) []string {
	return append(append([]string{"run", "--interactive", "--tty"}, options(flags)...), testImage)
}

// hasSize waits until the program in the terminal, a shell, sees a size; it is set after the program has started.
func (s *terminal) hasSize(size string) {
	s.t.Helper()
	eventually(s.t, "the size is "+size, func() bool { s.types("stty size\n"); return strings.Contains(s.String(), "\n"+size+"\n") })
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	term := newTerminal(t, append(interactive("--name", newName(t)), "sh")...)
	term.hasSize("33 77")
	term.types("tty; test -t 2 && echo $((40+2))\n")
	term.shows("\n/dev/pts/0\n42\n")
	term.resize(20, 40)
	term.hasSize("20 40")
	term.types("sh -c 'echo rea''dy; exec sleep 1000'\n")
	term.shows("\nready\n")
	term.types("\x03")
	term.shows("^C")
	term.types("echo code $?\n")
	term.shows("\ncode 130\n")
	term.types("exit 3\n")
	equal(t, "exit code", term.exitCode(), 3)
}

func TestExecTerminal(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sleep", "1000")
	term := newTerminal(t, "exec", "--interactive", "--tty", name, "sh")
	term.hasSize("33 77")
	term.types("tty; exit 4\n")
	term.shows("\n/dev/pts/0\n")
	equal(t, "exit code", term.exitCode(), 1) // nerdctl's for every failed exec
	term.shows("exec failed with exit code 4")
}

// TestAttach leaves a container by the detach keys, comes back, and sees its end.
func TestAttach(t *testing.T) {
	t.Parallel()
	name := newName(t)
	term := newTerminal(t, append(interactive("--name", name), "sh", "-c", "echo up; while read a; do echo got $a; done; exit 6")...)
	term.shows("up\n")
	term.types("one\n")
	term.shows("got one\n")
	term.types("\x10\x11") // ctrl-p ctrl-q
	term.exitCode()
	equal(t, "state", inspect(t, name, "{{.State.Status}}"), "running")

	term = newTerminal(t, "attach", name)
	eventually(t, "the terminal is attached", func() bool { term.types("two\n"); return strings.Contains(term.String(), "got two\n") })
	term.types("\x04")
	equal(t, "exit code of attach", term.exitCode(), 6)
	equal(t, "exit code", must(t, "wait", name), "6")
}
