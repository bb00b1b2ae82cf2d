package launch

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// Network is a network namespace for a child, made while its caller does other things. To make one takes the kernel half a
// millisecond, which is a tenth of a launch.
type Network struct {
	done chan struct{}
	fd   int
	err  error
}

// MakeNetwork begins to make the network namespace that a plan's child is to have. It is nil when the plan has none for the
// host to make: a container with a user namespace owns its network. The caller closes it when the launch is over.
func MakeNetwork(p *plan.Plan) *Network {
	clone, _ := plan.Find[plan.Clone](p)
	if clone.New&plan.NewNet == 0 || clone.New&plan.NewUser != 0 {
		return nil
	}
	n := &Network{done: make(chan struct{})}
	go func() {
		defer close(n.done)
		n.fd, n.err = newNetwork()
	}()
	// The Go scheduler keeps the goroutine that was begun last for this thread, for a while: let that be another one.
	go func() {}()
	return n
}

// newNetwork makes a network namespace on a thread that goes back to its own. One that cannot ends with its goroutine, unless it
// is the process's first, which never ends: so this does not just give up the thread.
func newNetwork() (fd int, err error) {
	const self = "/proc/thread-self/ns/net"
	runtime.LockOSThread()
	own, err := unix.Open(self, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return -1, fmt.Errorf("open the own network namespace: %w", err)
	}
	defer unix.Close(own)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return -1, fmt.Errorf("unshare the network namespace: %w", err)
	}
	if fd, err = unix.Open(self, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		fd, err = -1, fmt.Errorf("open the new network namespace: %w", err)
	}
	if back := unix.Setns(own, unix.CLONE_NEWNET); back != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return -1, fmt.Errorf("go back to the own network namespace: %w", back)
	}
	runtime.UnlockOSThread()
	return fd, err
}

// get waits until the namespace is there, and lends it; -1 for a nil Network.
func (n *Network) get() (fd int, err error) {
	if n == nil {
		return -1, nil
	}
	<-n.done
	return n.fd, n.err
}

// Close gives up the namespace, which lives on in the child.
func (n *Network) Close() {
	if fd, err := n.get(); fd >= 0 && err == nil {
		unix.Close(fd)
	}
}
