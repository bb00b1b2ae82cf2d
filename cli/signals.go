package cli

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// terminating are the signals by which people and supervisors end a command.
var terminating = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT}

// cancelledBySignal returns a context that ends with a terminating signal, so that what is half made is undone.
func cancelledBySignal(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, notIgnored(terminating)...)
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
var common = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGTERM, unix.SIGCONT,
	unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU}

// rareAfter is how long a process has to live before the other signals are passed on to it: to catch one costs Go a hand-shake
// between two threads, and for fifty of them that is a quarter of the life of `true`.
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
