package cli

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// dial connects to a unix stream socket. The caller closes the descriptor.
func dial(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("connect to %s: %w", path, err)
	}
	return fd, nil
}

// sendFile sends one message with one descriptor, the framing of runc's console and pidfd sockets.
func sendFile(socket int, name string, f *os.File) error {
	if err := unix.Sendmsg(socket, []byte(name), unix.UnixRights(int(f.Fd())), nil, unix.MSG_NOSIGNAL); err != nil {
		return os.NewSyscallError("sendmsg", err)
	}
	return nil
}
