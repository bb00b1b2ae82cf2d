package cli

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/internal/catch"
)

// terminating are the signals by which people and supervisors end a command.
var terminating = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT}

// interruption is a context that ends with a terminating signal, so that what is half made is undone.
type interruption struct {
	context.Context
	stop    context.CancelFunc
	signals chan os.Signal // as they come
	passed  chan os.Signal // the same ones, for who passes them on: what was to be interrupted may be there by then
}

func newInterruption(ctx context.Context) *interruption {
	i := &interruption{signals: make(chan os.Signal, 64), passed: make(chan os.Signal, 64)}
	i.Context, i.stop = context.WithCancel(ctx)
	i.notify(terminating)
	go func() {
		for s := range i.signals {
			if slices.Contains(terminating, s) {
				i.stop()
			}
			select {
			case i.passed <- s:
			default: // nobody passes them on
			}
		}
	}()
	return i
}

// notify catches signals.
func (i *interruption) notify(list []os.Signal) {
	list = notIgnored(list)
	if err := catch.To(i.signals, list...); err != nil { // no descriptors are left
		signal.Notify(i.signals, list...)
	}
}

// cancelledBySignal returns a context that ends with a terminating signal.
func cancelledBySignal(ctx context.Context) (context.Context, context.CancelFunc) {
	i := newInterruption(ctx)
	return i, i.stop
}

// notIgnored leaves out what the caller has this process ignore (nohup(1)).
func notIgnored(list []os.Signal) []os.Signal {
	var out []os.Signal
	for _, s := range list {
		if !signal.Ignored(s) {
			out = append(out, s)
		}
	}
	return out
}

// common are the signals that people and supervisors send.
var common = append([]os.Signal{unix.SIGUSR1, unix.SIGUSR2}, terminating...)

// rareAfter is how long a process has to live before the other signals are passed on to it: some of them are the Go runtime's, whom to
// catch one by costs a hand-shake between two threads, and for fifty of them that is a quarter of the life of `true`.
const rareAfter = 100 * time.Millisecond

// rare are the other signals that the process in the foreground gets when this process does: all that have no meaning for
// this process itself.
func rare() []os.Signal {
	var out []os.Signal
	for n := unix.Signal(1); n <= 64; n++ {
		switch n {
		case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE, unix.SIGWINCH:
		case 32, 33: // the C library's own
		default:
			if !slices.Contains(common, os.Signal(n)) {
				out = append(out, n)
			}
		}
	}
	return out
}
