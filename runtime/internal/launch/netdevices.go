package launch

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/netdev"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// devices are the network devices that a launch has moved, to be moved back when it fails: they would go with the
// namespace.
type devices struct {
	host  *netdev.Conn
	conns []*netdev.Conn // in the container's namespace
	moved []*netdev.Moved
}

// move moves a device into the network namespace of the child, whose descriptor fd is a netlink socket in there.
func (d *devices) move(c *Child, fd int, a plan.MoveNetDevice) (err error) {
	if d.host == nil {
		if d.host, err = netdev.Dial(); err != nil {
			return err
		}
	}
	own, err := unix.PidfdGetfd(c.FD, fd, 0)
	if err != nil {
		return fmt.Errorf("pidfd_getfd of the netlink socket: %w", err)
	}
	conn := netdev.Adopt(own)
	d.conns = append(d.conns, conn)
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", c.Pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	m, err := netdev.Move(d.host, conn, int(ns.Fd()), a.Name, a.NewName)
	if err == nil {
		d.moved = append(d.moved, m)
	}
	return err
}

// undo moves them back, the last one first.
func (d *devices) undo() error {
	var errs []error
	for _, m := range slices.Backward(d.moved) {
		errs = append(errs, m.Undo())
	}
	return errors.Join(errs...)
}

func (d *devices) close() {
	if d.host != nil {
		d.host.Close()
	}
	for _, c := range d.conns {
		c.Close()
	}
}
