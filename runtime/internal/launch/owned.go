package launch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// NamespacesIn makes namespaces that belong to the user namespace that the descriptor is of, and returns a descriptor of each, which
// the caller closes.
//
// No thread of this process may enter a user namespace: it has others. A child does, and waits until its namespaces are taken.
func NamespacesIn(user int, types ...plan.Namespaces) (fds []int, err error) {
	var flags plan.Namespaces
	for _, t := range types {
		flags |= t
	}
	made, child, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer made.Close()
	gate, hold, err := os.Pipe()
	if err != nil {
		child.Close()
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer hold.Close() // ends the child
	defer gate.Close()
	a := newAsm()
	a.call(unix.SYS_PRCTL, imm(unix.PR_SET_DUMPABLE), imm(0), imm(0), imm(0), imm(0))
	a.call(unix.SYS_CLOSE, imm(int(hold.Fd())))
	a.call(unix.SYS_SETNS, imm(user), imm(unix.CLONE_NEWUSER))
	a.call(unix.SYS_UNSHARE, imm(uint64(flags)))
	byte1 := a.scratch("answer", 8)
	a.call(unix.SYS_WRITE, imm(int(child.Fd())), byte1, imm(1))
	a.call(unix.SYS_READ, imm(int(gate.Fd())), byte1, imm(1))
	a.call(unix.SYS_EXIT_GROUP, imm(0))
	a.p.Init[regReport] = uint64(child.Fd())
	pid, pidfd, err := rawchild.Start(a.finish(), rawchild.Clone{PidNS: -1})
	child.Close()
	if err != nil {
		return nil, err
	}
	defer unix.Close(pidfd)
	defer func() {
		unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED, nil) // unless the reaper of orphans was faster
	}()
	report := make([]byte, rawchild.ReportSize)
	switch n, err := io.ReadAtLeast(made, report, 1); {
	case err != nil:
		return nil, fmt.Errorf("the child that makes namespaces: %w", err)
	case n == rawchild.ReportSize:
		return nil, fmt.Errorf("make %s namespaces in the user namespace: %w", flags, unix.Errno(binary.NativeEndian.Uint32(report[8:])))
	}
	defer func() {
		if err != nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
			fds = nil
		}
	}()
	for _, t := range types {
		fd, err := openNamespace(fmt.Sprintf("/proc/%d/ns/%s", pid, t.ProcFile()), t)
		if err != nil {
			return fds, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// OpenNamespace opens the file of a namespace; the error says when it is of another type. The caller closes the descriptor.
func OpenNamespace(path string, want plan.Namespaces) (fd int, err error) {
	return openNamespace(path, want)
}

// UserOf opens the user namespace that owns the namespace of the descriptor. It refuses the caller's own, in which a pod's
// containers would be whoever the host has under their ids.
func UserOf(ns int) (fd int, err error) {
	fd, err = unix.IoctlRetInt(ns, unix.NS_GET_USERNS)
	if err != nil {
		return -1, fmt.Errorf("find the user namespace that owns it: %w", err)
	}
	unix.CloseOnExec(fd)
	var theirs, ours unix.Stat_t
	if err = errors.Join(unix.Fstat(fd, &theirs), unix.Stat("/proc/self/ns/user", &ours)); err == nil && theirs.Dev == ours.Dev && theirs.Ino == ours.Ino {
		err = errors.New("it belongs to this process's own user namespace")
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
