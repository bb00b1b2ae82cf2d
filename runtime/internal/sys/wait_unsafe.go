// Package sys has the few system calls that golang.org/x/sys/unix does not offer in a usable form.
package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// siginfoChild is siginfo_t as waitid(2) fills it, on 64-bit machines.
type siginfoChild struct {
	signo, errno, code, _ int32
	pid                   int32
	uid                   uint32
	status                int32
}

// PeekChild looks for a child in one of the states of options (WEXITED, WSTOPPED) without changing it. Pid 0 is any child.
// It returns pid 0 when there is none yet and options contain WNOHANG. Without WNOHANG it blocks a thread.
func PeekChild(pid int, options int) (found int, status unix.WaitStatus, err error) {
	var info unix.Siginfo
	kind := unix.P_PID
	if pid == 0 {
		kind = unix.P_ALL
	}
	for {
		err = unix.Waitid(kind, pid, &info, options|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return 0, 0, err
	}
	// Sound: unix.Siginfo is the kernel's siginfo_t, 128 bytes, and waitid fills the SIGCHLD form of its union.
	c := (*siginfoChild)(unsafe.Pointer(&info))
	switch c.code {
	case 1: // CLD_EXITED
		status = unix.WaitStatus(c.status & 0xff << 8)
	case 2, 3: // CLD_KILLED, CLD_DUMPED
		status = unix.WaitStatus(c.status & 0x7f)
	case 5: // CLD_STOPPED
		status = unix.WaitStatus(c.status<<8 | 0x7f)
	}
	return int(c.pid), status, nil
}
