package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	// loggerReady is how long a logger may take until it is ready.
	loggerReady = 30 * time.Second
	// loggerLinger is how long a logger may go on by itself after the process has ended: time to read the rest of the
	// pipes, reach end of file and leave.
	loggerLinger = 2 * time.Second
	// loggerTerm is what a logger gets between SIGTERM and SIGKILL, the same as from containerd-shim-runc-v2.
	loggerTerm = 12 * time.Second
)

// StartFunc starts a helper process and returns how to wait for it and reap it. A process that also reaps strangers uses it
// to know its own.
type StartFunc func(*exec.Cmd) (wait func() error, err error)

func startAndWait(cmd *exec.Cmd) (func() error, error) { return cmd.Wait, cmd.Start() }

// logger is a program that takes the output: stdout on fd 3, stderr on fd 4; its readiness goes to fd 5.
//
// The shim keeps the read ends too. Should the logger die, the shim empties them, so that the container neither waits nor
// gets SIGPIPE.
type logger struct {
	process *os.Process
	done    chan struct{} // closed when it is gone and reaped

	lingers, terms time.Duration // loggerLinger and loggerTerm

	mu      sync.Mutex
	readers []*os.File // stdout's and stderr's read ends
	stopped bool
}

// startLogger starts the logger t and returns when it is ready. The files are the blocking write ends of its stdout and
// stderr pipes, owned by the caller.
func startLogger(ctx context.Context, t target, cfg Config) (_ *logger, writers []*os.File, err error) {
	l := &logger{done: make(chan struct{}), lingers: loggerLinger, terms: loggerTerm}
	defer func() {
		if err == nil {
			return
		}
		if l.process != nil {
			l.process.Kill()
			<-l.done
		}
		l.closeReaders()
		closeFiles(writers)
		writers, err = nil, fmt.Errorf("start logger %s: %w", t.path, err)
	}()

	for range 2 {
		r, w, err := newPipe()
		if err != nil {
			return nil, writers, err
		}
		l.readers = append(l.readers, os.NewFile(uintptr(r), "logger pipe"))
		writers = append(writers, os.NewFile(uintptr(w), "logger pipe"))
	}
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return nil, writers, err
	}
	defer readyR.Close()

	pidfd := -1
	cmd := exec.Command(t.path, t.args...)
	cmd.Env = []string{"CONTAINER_ID=" + cfg.ContainerID, "CONTAINER_NAMESPACE=" + cfg.Namespace}
	cmd.ExtraFiles = []*os.File{l.readers[0], l.readers[1], readyW}
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	wait, err := cfg.Start(cmd)
	readyW.Close()
	if err != nil {
		return nil, writers, err
	}
	l.process = cmd.Process
	go l.reap(pidfd, wait)

	if err := awaitReady(ctx, readyR, t.scheme == schemeBinaryV2); err != nil {
		return nil, writers, err
	}
	return l, writers, nil
}

// awaitReady returns when the logger at the other end of r is ready. A strict one has to say so; otherwise it is enough that
// it closes the pipe.
func awaitReady(ctx context.Context, r *os.File, strict bool) error {
	r.SetReadDeadline(time.Now().Add(loggerReady))
	stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	var b [1]byte
	_, err := r.Read(b[:])
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		if strict {
			return errors.New("it ended or closed fd 5 without a byte in it")
		}
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("wait until it is ready: %w", ctx.Err())
	}
	return fmt.Errorf("wait until it is ready: %w", err)
}

// reap waits for the end of the logger, then for that of its pipes.
func (l *logger) reap(pidfd int, wait func() error) {
	if end, err := pollable(pidfd, "pidfd of logger"); err == nil {
		await(end)
		end.Close()
	}
	wait() // how a logger ends is nobody's business
	close(l.done)

	for _, r := range l.takeOver() {
		go func() {
			defer r.Close()
			copyAll(r, nil, nil)
		}()
	}
}

// takeOver replaces the read ends by pollable ones. That had to wait for the logger's end: a pipe is non-blocking for all who
// share its end.
func (l *logger) takeOver() []*os.File {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return nil
	}
	var taken []*os.File
	for _, r := range l.readers {
		if p, err := pollableCopy(r); err == nil {
			taken = append(taken, p)
		}
		r.Close()
	}
	l.readers = taken
	return taken
}

// linger waits until the logger has ended by itself, a little while.
func (l *logger) linger(ctx context.Context) {
	timer := time.NewTimer(l.lingers)
	defer timer.Stop()
	select {
	case <-l.done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// stop ends the logger and closes its pipes.
func (l *logger) stop() {
	l.closeReaders()
	l.process.Signal(syscall.SIGTERM) // fails if it is gone
	timer := time.NewTimer(l.terms)
	defer timer.Stop()
	select {
	case <-l.done:
		return
	case <-timer.C:
	}
	l.process.Kill()
	<-l.done
}

func (l *logger) closeReaders() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	closeFiles(l.readers)
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
