package netdev

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// address is an address of a device, in the kernel's terms.
type address struct {
	family, prefix byte
	flags          uint32
	attrs          []attr
}

// String prints the address with the length of its prefix.
func (a address) String() string {
	for _, kind := range []uint16{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
		for _, at := range a.attrs {
			if ip, ok := netip.AddrFromSlice(at.value); ok && at.kind == kind {
				return fmt.Sprintf("%s/%d", ip, a.prefix)
			}
		}
	}
	return fmt.Sprintf("of family %d", a.family)
}

// What of an address goes along: what its owner has set, not what the kernel found out or what has the device's name in it.
const keptFlags = unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MCAUTOJOIN

func kept(kind uint16) bool {
	switch kind {
	case unix.IFA_ADDRESS, unix.IFA_LOCAL, unix.IFA_BROADCAST, unix.IFA_RT_PRIORITY:
		return true
	}
	return false
}

// addresses returns the permanent addresses of global scope that a device has: those the runtime-spec wants kept.
func (c *Conn) addresses(index int32) ([]address, error) {
	for range 10 {
		list, err := c.request(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg))
		if errors.Is(err, errInterrupted) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var out []address
		for _, m := range list {
			if a, ok := parseAddress(m, index); ok {
				out = append(out, a)
			}
		}
		return out, nil
	}
	return nil, errors.New("they keep changing")
}

// parseAddress reads struct ifaddrmsg with its attributes; ok is false for an address that is not to be kept.
func parseAddress(m message, index int32) (a address, ok bool) {
	if m.kind != unix.RTM_NEWADDR || len(m.body) < unix.SizeofIfAddrmsg || int32(order.Uint32(m.body[4:])) != index {
		return a, false
	}
	a.family, a.prefix, a.flags = m.body[0], m.body[1], uint32(m.body[2])
	scope := m.body[3]
	for kind, value := range parseAttrs(m.body[unix.SizeofIfAddrmsg:]) {
		switch {
		case kind == unix.IFA_FLAGS && len(value) == 4:
			a.flags = order.Uint32(value)
		case kept(kind):
			a.attrs = append(a.attrs, attr{kind, value})
		}
	}
	return a, a.flags&unix.IFA_F_PERMANENT != 0 && scope == unix.RT_SCOPE_UNIVERSE
}

// add gives a device an address, which it may have.
func (c *Conn) add(index int32, a address) error {
	header := make([]byte, unix.SizeofIfAddrmsg)
	header[0], header[1] = a.family, a.prefix
	order.PutUint32(header[4:], uint32(index))
	attrs := append([]attr{number(unix.IFA_FLAGS, a.flags&keptFlags)}, a.attrs...)
	_, err := c.request(unix.RTM_NEWADDR, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_REPLACE, header, attrs...)
	return err
}
