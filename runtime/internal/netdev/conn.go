// Package netdev moves network devices from one network namespace to another, with their addresses.
package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Conn talks to the network of one namespace. It is for one goroutine at a time.
type Conn struct {
	fd  int
	seq uint32
}

// Dial opens a connection to the network namespace of the calling thread. The caller closes it.
func Dial() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("make netlink socket: %w", err)
	}
	return Adopt(fd), nil
}

// Adopt takes over a socket of the family AF_NETLINK and the protocol NETLINK_ROUTE. It talks to the network namespace that
// it was made in.
func Adopt(fd int) *Conn {
	// With a sentence of the kernel's in errors (Linux 4.12); without it they have the errno.
	unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return &Conn{fd: fd}
}

// Close closes the socket.
func (c *Conn) Close() error { return unix.Close(c.fd) }

var order = binary.NativeEndian

// attr is one attribute of a message.
type attr struct {
	kind  uint16
	value []byte
}

func text(kind uint16, s string) attr { return attr{kind, append([]byte(s), 0)} }

func number(kind uint16, n uint32) attr { return attr{kind, order.AppendUint32(nil, n)} }

// message is an answer of the kernel without its header.
type message struct {
	kind uint16
	body []byte
}

// errInterrupted says that what was listed changed meanwhile.
var errInterrupted = errors.New("interrupted")

// request sends a message and returns the answers to it: none for one that changes something.
func (c *Conn) request(kind uint16, flags uint16, header []byte, attrs ...attr) ([]message, error) {
	c.seq++
	b := make([]byte, unix.NLMSG_HDRLEN)
	b = append(b, header...)
	for _, a := range attrs {
		b = appendAttr(b, a)
	}
	order.PutUint32(b[0:], uint32(len(b)))
	order.PutUint16(b[4:], kind)
	order.PutUint16(b[6:], unix.NLM_F_REQUEST|flags)
	order.PutUint32(b[8:], c.seq)
	if _, err := unix.Write(c.fd, b); err != nil {
		return nil, fmt.Errorf("send to netlink: %w", err)
	}
	return c.receive()
}

func appendAttr(b []byte, a attr) []byte {
	b = order.AppendUint16(b, uint16(unix.SizeofRtAttr+len(a.value)))
	b = order.AppendUint16(b, a.kind)
	b = append(b, a.value...)
	return append(b, make([]byte, -len(a.value)&3)...)
}

// receive reads the answers to the last request.
func (c *Conn) receive() (out []message, err error) {
	buf := make([]byte, 64<<10) // larger than what the kernel sends at once (NLMSG_GOODSIZE, 32 KiB in dumps)
	interrupted := false
	for {
		n, err := unix.Read(c.fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("receive from netlink: %w", err)
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(order.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return nil, fmt.Errorf("a netlink message of %d bytes in %d", size, len(b))
			}
			kind, flags, seq := order.Uint16(b[4:]), order.Uint16(b[6:]), order.Uint32(b[8:])
			body := append([]byte(nil), b[unix.NLMSG_HDRLEN:size]...)
			b = b[min(len(b), (size+3)&^3):]
			if seq != c.seq {
				continue // of an earlier request that failed half-way
			}
			interrupted = interrupted || flags&unix.NLM_F_DUMP_INTR != 0
			switch kind {
			case unix.NLMSG_ERROR:
				return out, answerError(body, flags)
			case unix.NLMSG_DONE:
				if interrupted {
					return nil, errInterrupted
				}
				return out, nil
			}
			out = append(out, message{kind, body})
		}
	}
}

// answerError reads an acknowledgement: nil, or an errno with what the kernel says about it.
func answerError(body []byte, flags uint16) error {
	if len(body) < 4+unix.NLMSG_HDRLEN {
		return errors.New("a netlink acknowledgement is too short")
	}
	errno := -int32(order.Uint32(body))
	if errno == 0 {
		return nil
	}
	err := unix.Errno(errno)
	if flags&unix.NLM_F_ACK_TLVS == 0 {
		return err
	}
	rest := body[4+unix.NLMSG_HDRLEN:]
	if flags&unix.NLM_F_CAPPED == 0 { // the request comes first
		size := (int(order.Uint32(body[4:])) + 3) &^ 3
		rest = rest[min(len(rest), max(0, size-unix.NLMSG_HDRLEN)):]
	}
	for kind, value := range parseAttrs(rest) {
		if kind == unix.NLMSGERR_ATTR_MSG {
			return fmt.Errorf("%w (%s)", err, unix.ByteSliceToString(value))
		}
	}
	return err
}

// parseAttrs yields the attributes in b; what is cut off is left out.
func parseAttrs(b []byte) func(yield func(kind uint16, value []byte) bool) {
	const kindMask = 0x3fff // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			size := int(order.Uint16(b))
			if size < unix.SizeofRtAttr || size > len(b) || !yield(order.Uint16(b[2:])&kindMask, b[unix.SizeofRtAttr:size]) {
				return
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}
