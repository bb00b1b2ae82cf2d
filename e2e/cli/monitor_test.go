package cli

import (
	"errors"
	"os/exec"
	"runtime"
	"time"

	runc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"
)

// lateMonitor reaps a process only when the library waits for it, as containerd's does. The library's own reaps it when
// it ends, which closes the pipe that the statistics or events may still be in: they are lost then, and
// (*runc.Runc).Events reports the closed pipe for ever.
type lateMonitor struct{}

func init() { runc.Monitor = lateMonitor{} }

// Start starts cmd; the channel gets its exit.
func (lateMonitor) Start(cmd *exec.Cmd) (chan runc.Exit, error) {
	started, exit := make(chan error, 1), make(chan runc.Exit, 1)
	go func() {
		runtime.LockOSThread() // the signal of a parent's death comes when the thread dies that started the process
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		for unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
		exit <- runc.Exit{Timestamp: time.Now(), Pid: cmd.Process.Pid}
	}()
	return exit, <-started
}

func (m lateMonitor) StartLocked(cmd *exec.Cmd) (chan runc.Exit, error) { return m.Start(cmd) }

// Wait reaps cmd, when it has ended.
func (lateMonitor) Wait(cmd *exec.Cmd, exit chan runc.Exit) (int, error) {
	<-exit
	var status *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &status) {
		return -1, err
	}
	return cmd.ProcessState.ExitCode(), nil
}
