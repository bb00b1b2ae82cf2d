package bootstrap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// errServed is the error of listen when somebody listens on the path already.
var errServed = errors.New("socket is served")

// listen returns a socket that listens on path, with mode 0600, owned by the caller. When a shim listens there already the
// error is errServed; a socket that a dead shim left is replaced. dir is the path's directory.
//
// Another start for the same group, or a delete, may be at the same point. The lock makes one of them see a socket either
// listening or dead, never between bind and listen, and never removed after somebody found it dead and replaced it.
func listen(dir *os.File, path string) (fd int, err error) {
	unlock, err := lock(dir)
	if err != nil {
		return -1, err
	}
	defer unlock()

	fd, err = bind(path)
	if !errors.Is(err, unix.EADDRINUSE) {
		return fd, err
	}
	if served(path) {
		return -1, errServed
	}
	if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
		return -1, fmt.Errorf("remove stale socket %s: %w", path, err)
	}
	return bind(path)
}

// removeDead removes the socket at path when nobody listens on it any more.
func removeDead(path string) error {
	if err := unix.Access(path, unix.F_OK); err == unix.ENOENT {
		return nil // the common case: the shim removed it
	}
	if served(path) {
		return nil // also common, and cheaper without the lock: a shim of other containers of the group
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("open socket directory: %w", err)
	}
	defer dir.Close()
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if served(path) {
		return nil
	}
	if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove socket %s: %w", path, err)
	}
	return nil
}

// lock takes the directory's lock. It is held for some microseconds at a time, and freed by the kernel.
func lock(dir *os.File) (unlock func(), err error) {
	fd := int(dir.Fd())
	for {
		err = unix.Flock(fd, unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock socket directory %s: %w", dir.Name(), err)
	}
	return func() { unix.Flock(fd, unix.LOCK_UN) }, nil
}

func bind(path string) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make socket: %w", err)
	}
	// bind gives the file the mode of the socket: there is no moment at which the umask's would do.
	if err = unix.Fchmod(fd, 0o600); err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind socket %s: %w", path, err)
	}
	if err = unix.Listen(fd, backlog); err != nil {
		unix.Unlink(path)
		unix.Close(fd)
		return -1, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	return fd, nil
}

// backlog is as much as the kernel allows by default (net.core.somaxconn): clients connect before the daemon accepts.
const backlog = 4096

// served reports whether a process listens on path. It does not wait: connect to a unix socket succeeds at once, is refused
// at once, or finds the backlog full, which only a listener has.
func served(path string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return true // cannot tell: leave it alone
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err {
	case unix.ECONNREFUSED, unix.ENOENT:
		return false
	default:
		return true
	}
}
