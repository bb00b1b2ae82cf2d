// Package child keeps the table of this process's own children, so that each is waited for by its owner and strangers
// that are reparented to us are reaped.
package child

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/sys"
)

// TimerSlack is the kernel's default, in nanoseconds.
const TimerSlack = 50_000

// Table is the set of children that have an owner. The zero value is ready.
type Table struct {
	mu    sync.Mutex
	known map[int]struct{}
	poke  chan os.Signal
}

// Fork calls f, which makes a child, and remembers the pid that it returns. No sweep sees the child without its owner.
func (t *Table) Fork(f func() (pid int, err error)) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pid, err := f()
	if err == nil {
		t.addLocked(pid)
	}
	return pid, err
}

func (t *Table) addLocked(pid int) {
	if t.known == nil {
		t.known = map[int]struct{}{}
	}
	t.known[pid] = struct{}{}
}

// Add remembers a child that cannot have been swept: it is known to be stopped or waiting for us.
func (t *Table) Add(pid int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(pid)
}

// Forget says that a child was waited for.
func (t *Table) Forget(pid int) {
	t.mu.Lock()
	delete(t.known, pid)
	poke := t.poke
	t.mu.Unlock()
	// A stranger may have been hidden behind it.
	select {
	case poke <- unix.SIGCHLD:
	default:
	}
}

// Start starts a command and returns how to wait for it, which the caller must do once.
func (t *Table) Start(cmd *exec.Cmd) (wait func() error, err error) {
	pid, err := t.Fork(func() (int, error) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		// It inherits that of this thread; ours may be longer.
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, TimerSlack, 0, 0, 0); err != nil {
			return 0, fmt.Errorf("set the timer slack: %w", err)
		}
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	})
	if err != nil {
		return nil, err
	}
	return func() error {
		err := cmd.Wait()
		t.Forget(pid)
		return err
	}, nil
}

// Reap makes this process the reaper of orphaned descendants (PR_SET_CHILD_SUBREAPER, Linux 3.4) and reaps those without
// an owner for as long as the process lives. Call it once.
func (t *Table) Reap() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a child subreaper: %w", err)
	}
	poke := make(chan os.Signal, 1)
	t.mu.Lock()
	t.poke = poke
	t.mu.Unlock()
	signal.Notify(poke, unix.SIGCHLD)
	go func() {
		for range poke {
			t.sweep()
		}
	}()
	return nil
}

// sweep reaps strangers. The kernel shows one zombie at a time, the eldest; behind one with an owner the sweep ends, and
// its owner's Forget starts the next.
func (t *Table) sweep() {
	for {
		t.mu.Lock()
		pid, _, err := sys.PeekChild(0, unix.WEXITED|unix.WNOHANG)
		_, owned := t.known[pid]
		if err == nil && pid != 0 && !owned {
			_, err = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
		t.mu.Unlock()
		if err != nil && !errors.Is(err, unix.EINTR) || pid == 0 || owned {
			return
		}
	}
}

// Process is a child by its pidfd.
type Process struct {
	Pid   int // for printing, and for what has no pidfd form while the process is not yet waited for
	FD    int // the pidfd; valid until Close
	table *Table
	file  *os.File
}

// Adopt takes over the pidfd of a child that the table knows. On an error the child is killed, waited for and forgotten.
func (t *Table) Adopt(pid, pidfd int) (*Process, error) {
	if err := unix.SetNonblock(pidfd, true); err != nil { // for the Go poller
		unix.Kill(pid, unix.SIGKILL)
		unix.Wait4(pid, nil, 0, nil)
		unix.Close(pidfd)
		t.Forget(pid)
		return nil, fmt.Errorf("make pidfd non-blocking: %w", err)
	}
	return &Process{Pid: pid, FD: pidfd, table: t, file: os.NewFile(uintptr(pidfd), "pidfd")}, nil
}

// Close closes the pidfd. The child should have been waited for.
func (p *Process) Close() error { return p.file.Close() }

// Signal sends a signal; ESRCH says that the process has ended.
func (p *Process) Signal(sig unix.Signal) error { return unix.PidfdSendSignal(p.FD, sig, nil, 0) }

// Wait waits until the process has ended, reaps it and returns its status. Call it once.
func (p *Process) Wait() (unix.WaitStatus, error) {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var status unix.WaitStatus
	var waitErr error
	err = conn.Read(func(uintptr) bool {
		for {
			var got int
			got, waitErr = unix.Wait4(p.Pid, &status, unix.WNOHANG, nil)
			if !errors.Is(waitErr, unix.EINTR) {
				return waitErr != nil || got == p.Pid
			}
		}
	})
	p.table.Forget(p.Pid)
	if err == nil {
		err = waitErr
	}
	if err != nil {
		return 0, fmt.Errorf("wait for process %d: %w", p.Pid, err)
	}
	return status, nil
}

// Kill ends the process, waits for it and closes the pidfd.
func (p *Process) Kill() {
	p.Signal(unix.SIGKILL)
	p.Wait()
	p.Close()
}

// ExitCode translates a wait status to the shell's numbering: the code, or 128 plus the signal.
func ExitCode(s unix.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}
