package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// DoorName is the socket at which the init of an ordinary user's container gives descriptors to whoever enters the container
// before it is started. A user may not take them: until its program runs, init belongs to nobody but the host's root.
const DoorName = "door"

// doorQueue is how many may wait at a door at once.
const doorQueue = 64

// MakeDoor makes the socket and returns its listening end, which is for the child and does not block. The caller closes it.
func (d Dir) MakeDoor() (int, error) {
	fd, err := d.doorSocket("bind", unix.Bind)
	if err != nil {
		return -1, err
	}
	if err := unix.Listen(fd, doorQueue); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("listen", err)
	}
	return fd, nil
}

// Door connects to the socket. ErrPassed says that nobody listens there any more. The caller closes the connection.
func (d Dir) Door() (*os.File, error) {
	fd, err := d.doorSocket("connect", unix.Connect)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), DoorName), nil
}

// doorSocket makes a socket and gives it the door's address, whose length has a limit that a state directory's has not.
func (d Dir) doorSocket(what string, call func(int, unix.Sockaddr) error) (int, error) {
	fail := func(err error) (int, error) {
		return -1, &os.PathError{Op: what, Path: filepath.Join(string(d), DoorName), Err: err}
	}
	dir, err := unix.Open(string(d), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fail(err)
	}
	if err := call(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/" + DoorName}); err != nil {
		unix.Close(fd)
		if err == unix.ECONNREFUSED {
			err = fmt.Errorf("%w: %w", ErrPassed, err)
		}
		return fail(err)
	}
	return fd, nil
}

// Knock tells an init that waits at its gate something else than to go on. ErrPassed says that none waits.
func (d Dir) Knock(what byte) error {
	fd, err := d.openStart()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return knock(func(b []byte) (int, error) { return unix.Write(fd, b) }, what)
}

// Knock is Dir.Knock of the process that holds the gate.
func (g *Gate) Knock(what byte) error { return knock(g.Start.Write, what) }

func knock(write func([]byte) (int, error), what byte) error {
	if _, err := write([]byte{what}); err != nil {
		return fmt.Errorf("write to the start gate: %w", err)
	}
	return nil
}
