package cli

import (
	"context"
	"os"
	"os/signal"

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

// firstRealtime is SIGRTMIN of the kernel; C libraries keep the first two for themselves.
const firstRealtime = unix.Signal(34)

// forwarded are the signals that the process in the foreground gets when this process does: all that have no meaning for
// this process itself.
func forwarded() (common, realtime []os.Signal) {
	for n := unix.Signal(1); n <= 64; n++ {
		switch n {
		case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE, unix.SIGWINCH, 32, 33:
		default:
			if n < firstRealtime {
				common = append(common, n)
			} else {
				realtime = append(realtime, n)
			}
		}
	}
	return common, realtime
}
