package launch

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
)

// A caller takes a descriptor from the child by its number (pidfd_getfd(2)). One without rights over an undumpable child is sent
// it, beside the report (plan.Plan.SendsFiles).

// lend reports with a descriptor for the caller, and goes on.
func (l *lowering) lend(kind rawchild.ReportKind, fd rawchild.Arg) {
	l.store32(at(l.gateMsg, 8), fd)
	l.send(kind, fd)
}

// send reports, with a descriptor for those who cannot take it. Its value is whatever was stored at l.gateMsg+8.
func (l *lowering) send(kind rawchild.ReportKind, fd rawchild.Arg) {
	if !l.plan.SendsFiles {
		l.message(kind)
		return
	}
	msg, control := l.rights()
	l.store32(at(control, cmsgData), fd)
	l.head(kind)
	l.call(unix.SYS_SENDMSG, regReport.arg(), msg, imm(unix.MSG_NOSIGNAL)).exactly(rawchild.ReportSize)
}

const (
	msghdrSize = 56 // struct msghdr, and of its members: iov, control
	msghdrIov  = 16
	msghdrCtl  = 32
	cmsgData   = unix.SizeofCmsghdr
	cmsgSize   = unix.SizeofCmsghdr + 8 // with one descriptor, padded
)

// rights returns a struct msghdr that sends the report, and its control message, of one descriptor.
func (l *lowering) rights() (msg, control rawchild.Arg) {
	const key = "rights"
	w := binary.NativeEndian
	if msg, ok := l.shared[key]; ok {
		return msg, l.shared[key+"control"]
	}
	cmsg := make([]byte, cmsgSize)
	w.PutUint64(cmsg, unix.SizeofCmsghdr+4)
	w.PutUint32(cmsg[8:], unix.SOL_SOCKET)
	w.PutUint32(cmsg[12:], unix.SCM_RIGHTS)
	control = l.bytes(cmsg)
	iov := l.words(0, rawchild.ReportSize)
	header := make([]byte, msghdrSize)
	w.PutUint64(header[msghdrIov+8:], 1)
	w.PutUint64(header[msghdrCtl+8:], cmsgSize)
	msg = l.bytes(header)
	for at, target := range map[int]rawchild.Arg{int(iov.Word): l.gateMsg, int(msg.Word) + msghdrIov: iov, int(msg.Word) + msghdrCtl: control} {
		l.p.Relocs = append(l.p.Relocs, rawchild.Reloc{At: at, Target: int(target.Word)})
	}
	l.shared[key], l.shared[key+"control"] = msg, control
	return msg, control
}

// borrow returns the caller's own copy of the descriptor of a report, which the caller closes.
func (f *flight) borrow(fd int) (int, error) {
	if !f.plan.SendsFiles {
		own, err := unix.PidfdGetfd(f.child.FD, fd, 0)
		if err != nil {
			return -1, fmt.Errorf("pidfd_getfd: %w", err)
		}
		return own, nil
	}
	if f.sent < 0 {
		return -1, fmt.Errorf("the child has sent no descriptor (this is a bug)")
	}
	own := f.sent
	f.sent = -1
	return own, nil
}

// dropSent closes what was sent and nobody has borrowed.
func (f *flight) dropSent() {
	if f.sent >= 0 {
		unix.Close(f.sent)
		f.sent = -1
	}
}

// receive reads one report, into buf, and the descriptor beside it, which is -1 when there is none.
func receive(reports *os.File, buf []byte) (n, fd int, err error) {
	conn, err := reports.SyscallConn()
	if err != nil {
		return 0, -1, err
	}
	control := make([]byte, cmsgSize)
	var size int
	var recvErr error
	if err := conn.Read(func(s uintptr) bool {
		for {
			n, size, _, _, recvErr = unix.Recvmsg(int(s), buf, control, unix.MSG_CMSG_CLOEXEC)
			if recvErr != unix.EINTR {
				return recvErr != unix.EAGAIN
			}
		}
	}); err != nil {
		return 0, -1, err
	}
	if recvErr != nil || size == 0 {
		return n, -1, recvErr
	}
	list, err := unix.ParseSocketControlMessage(control[:size])
	if err != nil || len(list) != 1 {
		return 0, -1, fmt.Errorf("parse the child's message: %w", err)
	}
	fds, err := unix.ParseUnixRights(&list[0])
	if err != nil || len(fds) != 1 {
		return 0, -1, fmt.Errorf("parse the child's message: %d descriptors: %w", len(fds), err)
	}
	return n, fds[0], nil
}
