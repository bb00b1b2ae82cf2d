package netdev

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Moved is a device that was moved, for moving it back.
type Moved struct {
	from, to *Conn
	name     string // in from
	index    int32  // in to
	up       bool   // in from
	addrs    []address
}

// Move moves the device name of the network of from into the network of to, whose namespace toNS is open on, calls it newName
// there ("" keeps the name; a "%d" in it becomes a free number), gives it its permanent global addresses back, which the kernel
// takes away, and sets it up. When it fails, the device is where and what it was.
//
// The connections must stay open for as long as Moved is used; toNS is needed for the call only.
func Move(from, to *Conn, toNS int, name, newName string) (*Moved, error) {
	if newName == "" {
		newName = name
	}
	link, err := from.link(name)
	if err != nil {
		return nil, fmt.Errorf("find the device: %w", err)
	}
	// A name without %d that exists is an error of the request's; with it the kernel looks for a free one.
	if _, err := to.link(newName); err == nil {
		return nil, fmt.Errorf("%w: the container's network has a device %s", unix.EEXIST, newName)
	}
	m := &Moved{from: from, to: to, name: name, up: link.flags&unix.IFF_UP != 0}
	if m.addrs, err = from.addresses(link.index); err != nil { // before it is set down: that takes the IPv6 ones
		return nil, fmt.Errorf("list the addresses: %w", err)
	}
	if m.index, err = relocate(from, to, toNS, link.index); err != nil {
		return nil, errors.Join(err, from.arrange(link.index, name, m.addrs, m.up))
	}
	if err := to.arrange(m.index, newName, m.addrs, true); err != nil {
		return nil, errors.Join(err, m.Undo())
	}
	return m, nil
}

// Undo moves the device back, with its name, its addresses and whether it was up.
func (m *Moved) Undo() error {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	index, err := relocate(m.to, m.from, int(home.Fd()), m.index)
	if err == nil {
		err = m.from.arrange(index, m.name, m.addrs, m.up)
	}
	if err != nil {
		return fmt.Errorf("move the device %s back: %w", m.name, err)
	}
	return nil
}

// relocate moves a device, set down, under a name that nobody else uses, and returns its index there.
func relocate(from, to *Conn, ns int, index int32) (int32, error) {
	if err := from.setUp(index, false); err != nil {
		return 0, fmt.Errorf("set the device down: %w", err)
	}
	passing := fmt.Sprintf("moved%d", index)
	_, err := from.request(unix.RTM_NEWLINK, unix.NLM_F_ACK, ifinfomsg(index, 0, 0), text(unix.IFLA_IFNAME, passing), number(unix.IFLA_NET_NS_FD, uint32(ns)))
	if err != nil {
		return 0, fmt.Errorf("move the device into the network namespace: %w", err)
	}
	link, err := to.link(passing)
	if err != nil {
		return 0, fmt.Errorf("find the moved device: %w", err)
	}
	return link.index, nil
}

// arrange names a device that is down, gives it addresses and, if it shall be, sets it up.
func (c *Conn) arrange(index int32, name string, addrs []address, up bool) error {
	if _, err := c.request(unix.RTM_NEWLINK, unix.NLM_F_ACK, ifinfomsg(index, 0, 0), text(unix.IFLA_IFNAME, name)); err != nil {
		return fmt.Errorf("name the device %s: %w", name, err)
	}
	for _, a := range addrs {
		if err := c.add(index, a); err != nil {
			return fmt.Errorf("add the address %s: %w", a, err)
		}
	}
	if !up {
		return nil
	}
	if err := c.setUp(index, true); err != nil {
		return fmt.Errorf("set the device up: %w", err)
	}
	return nil
}

// link is what RTM_GETLINK tells of a device.
type link struct {
	index int32
	flags uint32
}

// link returns the device of that name. A pattern with % is the name of none.
func (c *Conn) link(name string) (link, error) {
	if strings.Contains(name, "%") {
		return link{}, unix.ENODEV
	}
	list, err := c.request(unix.RTM_GETLINK, unix.NLM_F_ACK, ifinfomsg(0, 0, 0), text(unix.IFLA_IFNAME, name))
	if err != nil {
		return link{}, err
	}
	for _, m := range list {
		if m.kind == unix.RTM_NEWLINK && len(m.body) >= unix.SizeofIfInfomsg {
			return link{int32(order.Uint32(m.body[4:])), order.Uint32(m.body[8:])}, nil
		}
	}
	return link{}, unix.ENODEV
}

func (c *Conn) setUp(index int32, up bool) error {
	flags := uint32(0)
	if up {
		flags = unix.IFF_UP
	}
	_, err := c.request(unix.RTM_NEWLINK, unix.NLM_F_ACK, ifinfomsg(index, flags, unix.IFF_UP))
	return err
}

// ifinfomsg is struct ifinfomsg of linux/rtnetlink.h.
func ifinfomsg(index int32, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	order.PutUint32(b[4:], uint32(index))
	order.PutUint32(b[8:], flags)
	order.PutUint32(b[12:], change)
	return b
}
