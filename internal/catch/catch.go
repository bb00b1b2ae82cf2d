// Package catch catches signals as package os/signal does, without the three threads that os/signal begins for the first: they are a
// twentieth of what a short container costs. The handler writes the signal's number into a pipe, which a goroutine reads.
//
// It is for signals that somebody sends. Those that a fault of the program raises are the Go runtime's.
package catch

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// writer is the descriptor that the handler writes to.
var writer int32

// handle gives a signal the handler that writes its number to writer.
func handle(signal uintptr) (errno uintptr)

// faults are raised by the program's own instructions, or are the runtime's.
var faults = []unix.Signal{unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS, unix.SIGURG,
	unix.SIGPROF, unix.SIGKILL, unix.SIGSTOP}

var pipe struct {
	sync.Mutex
	made bool
	to   []chan<- os.Signal
}

// To makes the signals go to c for the rest of the process's life, as signal.Notify does: one that c has no room for is lost. The
// error names the signal that cannot be caught.
func To(c chan<- os.Signal, signals ...os.Signal) error {
	if err := listen(c); err != nil {
		return err
	}
	for _, sig := range signals {
		s := sig.(unix.Signal)
		if slices.Contains(faults, s) {
			return fmt.Errorf("catch %s: it is not sent but raised (this is a bug)", unix.SignalName(s))
		}
		if errno := handle(uintptr(s)); errno != 0 {
			return fmt.Errorf("catch signal %d: rt_sigaction: %w", s, unix.Errno(errno))
		}
	}
	return nil
}

// listen adds c to those who get what the handler writes.
func listen(c chan<- os.Signal) error {
	pipe.Lock()
	defer pipe.Unlock()
	if !slices.Contains(pipe.to, c) {
		pipe.to = append(pipe.to, c)
	}
	if pipe.made {
		return nil
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("make a pipe for signals: %w", err)
	}
	writer = int32(ends[1])
	pipe.made = true
	go deliver(os.NewFile(uintptr(ends[0]), "signals"))
	return nil
}

func deliver(r *os.File) {
	var buf [64]byte
	for {
		n, err := r.Read(buf[:])
		if err != nil && !errors.Is(err, unix.EINTR) {
			return // there is always a writer
		}
		pipe.Lock()
		for _, s := range buf[:n] {
			for _, c := range pipe.to {
				select {
				case c <- unix.Signal(s):
				default:
				}
			}
		}
		pipe.Unlock()
	}
}
