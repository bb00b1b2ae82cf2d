package store

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Lock is the right to change a container that no process owns. The kernel takes it back when its holder dies.
type Lock struct {
	dir Dir
	fd  int
}

// Lock waits until nobody else has the container's directory locked and locks it (flock on the directory itself: there is no
// file that could be left over). os.ErrNotExist says that the container is gone, perhaps only since the wait began.
func (d Dir) Lock() (*Lock, error) { return d.lock(unix.LOCK_EX) }

// Busy reports that somebody has the directory locked now: it is being created, started or deleted.
func (d Dir) Busy() bool {
	l, err := d.lock(unix.LOCK_SH | unix.LOCK_NB)
	if err == nil {
		l.Unlock()
	}
	return errors.Is(err, unix.EWOULDBLOCK)
}

func (d Dir) lock(how int) (*Lock, error) {
	fd, err := unix.Open(string(d), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "lock", Path: string(d), Err: err}
	}
	l := &Lock{d, fd}
	if err := l.take(how); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return l, nil
}

// take locks the directory that is open.
func (l *Lock) take(how int) error {
	var err error
	for {
		if err = unix.Flock(l.fd, how); err != unix.EINTR {
			break
		}
	}
	if err == nil {
		// What we waited for may have been its deletion, and another container may have the name by now.
		var locked, named unix.Stat_t
		if err = unix.Fstat(l.fd, &locked); err == nil {
			err = unix.Stat(string(l.dir), &named)
		}
		if err == nil && (locked.Ino != named.Ino || locked.Dev != named.Dev) {
			err = unix.ENOENT
		}
	}
	if err != nil {
		return &os.PathError{Op: "lock", Path: string(l.dir), Err: err}
	}
	return nil
}

// Release gives the lock back, until Again: others may change the container, or remove it, meanwhile.
func (l *Lock) Release() {
	unix.Flock(l.fd, unix.LOCK_UN) // fails for nothing that is open
}

// Again takes a lock that was released, as Dir.Lock does. os.ErrNotExist says that the container is gone, whoever has its name
// now: the directory, which was open all the time, is not the one that the name leads to.
func (l *Lock) Again() error { return l.take(unix.LOCK_EX) }

// Unlock gives the lock back. A nil lock is nobody's.
func (l *Lock) Unlock() {
	if l != nil {
		unix.Close(l.fd)
	}
}

// Owner returns the user who owns the container's directory: the one who made the container.
func (d Dir) Owner() (uid uint32, err error) {
	var st unix.Stat_t
	if err := unix.Stat(string(d), &st); err != nil {
		return 0, fmt.Errorf("stat %s: %w", d, err)
	}
	return st.Uid, nil
}
