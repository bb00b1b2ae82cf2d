package client

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

// Screen keeps what is written to it, by several at once.
type Screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *Screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ReplaceAll(s.text.String(), "\r\n", "\n")
}

// Terminal is one in which a client runs.
type Terminal struct {
	Screen
	t      *testing.T
	master console.Console
	cmd    *exec.Cmd
	ended  chan struct{}
}

// Terminal runs the program in a terminal of 33 lines and 77 columns, at most for a minute and until the test's end.
func (c Client) Terminal(t *testing.T, args ...string) *Terminal {
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
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	term := &Terminal{t: t, master: master, cmd: c.Command(ctx, args...), ended: make(chan struct{})}
	t.Cleanup(func() { cancel(); <-term.ended; master.Close() })
	Note(t, c.Name, 0, args)
	term.Resize(33, 77)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, slave
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		close(term.ended)
		t.Fatal(err)
	}
	copied := make(chan struct{})
	go func() { io.Copy(&term.Screen, master); close(copied) }() // until the last slave is closed
	go func() { term.cmd.Wait(); <-copied; close(term.ended) }()
	return term
}

// Resize gives the terminal another size.
func (s *Terminal) Resize(lines, columns uint16) {
	s.t.Helper()
	if err := s.master.Resize(console.WinSize{Height: lines, Width: columns}); err != nil {
		s.t.Fatal(err)
	}
}

// Types writes keys as a user would.
func (s *Terminal) Types(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.master, keys); err != nil {
		s.t.Fatal(err)
	}
}

// Shows waits until a text is on the screen.
func (s *Terminal) Shows(text string) {
	s.t.Helper()
	for end := time.Now().Add(30 * time.Second); !strings.Contains(s.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("the screen does not show %q within thirty seconds:\n%s", text, s.String())
		}
	}
}

// HasSize waits until the program in the terminal, a shell, sees a size; it is set after the program has started.
func (s *Terminal) HasSize(size string) {
	s.t.Helper()
	Eventually(s.t, "the size is "+size, func() bool { s.Types("stty size\n"); return strings.Contains(s.String(), "\n"+size+"\n") })
}

// ExitCode waits for the client's end.
func (s *Terminal) ExitCode() int {
	<-s.ended
	return s.cmd.ProcessState.ExitCode()
}
