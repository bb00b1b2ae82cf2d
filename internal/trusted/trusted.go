// Package trusted reads and replaces files in places where somebody else may have put another.
//
// A FIFO there would keep the reader waiting for ever, a device could do anything, an endless file would fill the memory, a
// record that another user wrote would have us kill that user's choice of processes, and what is written through a link ends up
// in the file that it names.
package trusted

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The reasons to refuse a file.
var (
	ErrNotRegular = errors.New("is not a regular file")
	ErrTooLarge   = errors.New("is too large")
	ErrNotOurs    = errors.New("is not our own")
)

// ReadRegular reads a regular file of at most limit bytes. Symbolic links are followed.
func ReadRegular(name string, limit int64) ([]byte, error) {
	return read(name, limit, 0, func(*unix.Stat_t) error { return nil })
}

// ReadOwn reads a regular file of at most limit bytes that belongs to this process's user, that nobody else may write to, and
// whose name is no symbolic link.
func ReadOwn(name string, limit int64) ([]byte, error) {
	return read(name, limit, unix.O_NOFOLLOW, func(st *unix.Stat_t) error {
		if uid := os.Geteuid(); int(st.Uid) != uid {
			return fmt.Errorf("%w: it belongs to user %d, and user %d asks", ErrNotOurs, st.Uid, uid)
		}
		if st.Mode&0o022 != 0 {
			return fmt.Errorf("%w: others may write to it (mode %04o)", ErrNotOurs, st.Mode&0o7777)
		}
		return nil
	})
}

func read(name string, limit int64, flags int, check func(*unix.Stat_t) error) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, &os.PathError{Op: "read", Path: name, Err: err} }
	var fd int
	var err error
	for {
		// O_NONBLOCK: a FIFO opens at once, and is refused below.
		if fd, err = unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY|flags, 0); err != unix.EINTR {
			break
		}
	}
	switch {
	case err == unix.ELOOP && flags&unix.O_NOFOLLOW != 0:
		return fail(fmt.Errorf("%w but a symbolic link", ErrNotRegular))
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fail(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fail(ErrNotRegular)
	}
	if err := check(&st); err != nil {
		return fail(err)
	}
	if st.Size > limit {
		return fail(fmt.Errorf("%w: %d bytes, at most %d are read", ErrTooLarge, st.Size, limit))
	}
	// It may grow meanwhile; what is read does not.
	data := make([]byte, st.Size)
	n, err := io.ReadFull(descriptor(fd), data)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return fail(err)
	}
	return data[:n], nil
}

// descriptor reads and writes without the Go poller, which has no use for files.
type descriptor int

func (d descriptor) Write(b []byte) (int, error) {
	for done := 0; ; {
		n, err := unix.Write(int(d), b[done:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, err
		default:
			if done += n; done == len(b) {
				return done, nil
			}
		}
	}
}

func (d descriptor) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(d), b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Replace gives a file new content, mode 0600, in one step: a reader sees all of it or what was there before. What else has the
// name, or that of the file's first form, a link perhaps, goes.
func Replace(name string, data []byte) error {
	replace, err := Prepare(name, data)
	if err != nil {
		return err
	}
	return replace()
}

// Prepare does what takes time of Replace, and returns the rest, which makes the content valid. Until then it is in a hidden file
// beside the other.
func Prepare(name string, data []byte) (replace func() error, err error) {
	tmp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name))
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_CLOEXEC
	fd, err := unix.Open(tmp, flags, 0o600)
	if err == unix.EEXIST {
		if err := os.Remove(tmp); err != nil {
			return nil, err
		}
		fd, err = unix.Open(tmp, flags, 0o600)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: tmp, Err: err}
	}
	_, err = descriptor(fd).Write(data)
	if err = cmp.Or(err, unix.Close(fd)); err != nil {
		os.Remove(tmp)
		return nil, &os.PathError{Op: "write", Path: tmp, Err: err}
	}
	return func() error { return exchange(tmp, name) }, nil
}

// exchange gives a file's name to tmp. The old file, if there is one and the file system can do that, changes places with it and
// is removed: ext4 would write a file that replaces another to the disk at once, for which the one who removes it soon waits.
func exchange(tmp, name string) error {
	if unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, name, unix.RENAME_EXCHANGE) == nil {
		return os.Remove(tmp)
	}
	if err := unix.Rename(tmp, name); err != nil {
		os.Remove(tmp)
		return &os.LinkError{Op: "rename", Old: tmp, New: name, Err: err}
	}
	return nil
}
