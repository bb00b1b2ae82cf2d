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
	msg, its := l.rights()
	l.store32(its, fd)
	l.head(kind)
	l.call(unix.SYS_SENDMSG, regReport.arg(), msg, imm(unix.MSG_NOSIGNAL)).exactly(rawchild.ReportSize)
}

const (
	msghdrSize = 56 // struct msghdr, and of its members: iov, control
	msghdrIov  = 16
	msghdrCtl  = 32
)

// rights returns a struct msghdr that sends the report with one descriptor, and where that is to be.
func (l *lowering) rights() (msg, fd rawchild.Arg) {
	const key = "rights"
	if msg, ok := l.shared[key]; ok {
		return msg, l.shared[key+" fd"]
	}
	msg, fd = l.rightsOf(1, rawchild.ReportSize)
	l.shared[key], l.shared[key+" fd"] = msg, fd
	return msg, fd
}

// rightsOf returns a struct msghdr that sends the first size bytes of the report with n descriptors, and where those are to be.
func (l *lowering) rightsOf(n, size int) (msg, fds rawchild.Arg) {
	w := binary.NativeEndian
	cmsg := make([]byte, unix.CmsgSpace(4*n))
	w.PutUint64(cmsg, uint64(unix.CmsgLen(4*n)))
	w.PutUint32(cmsg[8:], unix.SOL_SOCKET)
	w.PutUint32(cmsg[12:], unix.SCM_RIGHTS)
	control := l.bytes(cmsg)
	iov := l.words(0, uint64(size))
	header := make([]byte, msghdrSize)
	w.PutUint64(header[msghdrIov+8:], 1)
	w.PutUint64(header[msghdrCtl+8:], uint64(len(cmsg)))
	msg = l.bytes(header)
	for place, target := range map[int]rawchild.Arg{int(iov.Word): l.gateMsg, int(msg.Word) + msghdrIov: iov, int(msg.Word) + msghdrCtl: control} {
		l.p.Relocs = append(l.p.Relocs, rawchild.Reloc{At: place, Target: int(target.Word)})
	}
	return msg, at(control, unix.SizeofCmsghdr)
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
	n, fds, err := receiveFiles(reports, buf, 1)
	if err != nil || len(fds) == 0 {
		return n, -1, err
	}
	return n, fds[0], nil
}

// receiveFiles reads one message, into buf, and the descriptors beside it, at most so many, which the caller closes.
func receiveFiles(socket *os.File, buf []byte, most int) (n int, fds []int, err error) {
	conn, err := socket.SyscallConn()
	if err != nil {
		return 0, nil, err
	}
	control := make([]byte, unix.CmsgSpace(4*most))
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
		return 0, nil, err
	}
	if recvErr != nil || size == 0 {
		return n, nil, recvErr
	}
	list, err := unix.ParseSocketControlMessage(control[:size])
	if err != nil || len(list) != 1 {
		return 0, nil, fmt.Errorf("parse the child's message: %w", err)
	}
	if fds, err = unix.ParseUnixRights(&list[0]); err != nil {
		return 0, nil, fmt.Errorf("parse the child's message: %w", err)
	}
	return n, fds, nil
}
