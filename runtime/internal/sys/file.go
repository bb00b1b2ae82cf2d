package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// ReadFile is os.ReadFile for the kernel's files, in /proc and /sys. They never keep a reader waiting, so the Go poller is not
// told of them, which takes more calls than to read one.
func ReadFile(name string) ([]byte, error) {
	fd, err := Open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 0, 2048)
	for {
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: name, Err: err}
		case n == 0:
			return buf, nil
		default:
			if buf = buf[:len(buf)+n]; len(buf) == cap(buf) {
				buf = append(buf, 0)[:len(buf)]
			}
		}
	}
}

// OpenFile is os.OpenFile for what the Go poller is not to be told of.
func OpenFile(name string, flags int) (*os.File, error) {
	fd, err := Open(name, flags)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Open opens a file, close-on-exec; the caller closes it.
func Open(name string, flags int) (int, error) {
	for {
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0)
		switch err {
		case nil:
			return fd, nil
		case unix.EINTR:
		default:
			return -1, &os.PathError{Op: "open", Path: name, Err: err}
		}
	}
}
