package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// MakeDetachedGate makes the FIFOs of an init that outlives its creator, and opens the child's ends only.
//
// The child holds each of its ends open for reading and for writing. So it is itself a writer of its start gate, and goes on
// waiting when its creator, in NewGate the only one, is gone: whoever opens the FIFO by its name can let it go later.
// And it is a reader of its own verdict: telling it never raises SIGPIPE, should the process that asked have died. What ends
// such a child is a signal, and, until its creator has recorded it, the end of the control pipe.
func (d Dir) MakeDetachedGate() (*Gate, error) {
	g := &Gate{StartRead: -1, VerdictWrite: -1}
	for _, f := range []struct {
		name string
		fd   *int
	}{{GateName, &g.StartRead}, {VerdictName, &g.VerdictWrite}} {
		p := filepath.Join(string(d), f.name)
		if err := unix.Mkfifo(p, 0o600); err != nil {
			g.Close()
			return nil, &os.PathError{Op: "mkfifo", Path: p, Err: err}
		}
		fd, err := unix.Open(p, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			g.Close()
			return nil, &os.PathError{Op: "open", Path: p, Err: err}
		}
		*f.fd = fd
	}
	return g, nil
}

// ErrPassed says that nobody waits at a gate: init has gone through it, or has ended.
var ErrPassed = errors.New("nobody waits at the start gate")

// OpenGate opens the caller's ends of the FIFOs of a detached init.
func (d Dir) OpenGate() (*Gate, error) {
	start, err := d.openStart()
	if err != nil {
		return nil, err
	}
	g := &Gate{StartRead: -1, VerdictWrite: -1, Start: os.NewFile(uintptr(start), GateName)}
	p := filepath.Join(string(d), VerdictName)
	verdict, err := openFIFO(p, unix.O_RDONLY)
	if err != nil {
		g.Close()
		return nil, err
	}
	g.Verdict = os.NewFile(uintptr(verdict), VerdictName)
	return g, nil
}

// Waiting reports whether init waits at its gate. The kernel knows: only a process that waits there has the FIFO open for
// reading.
func (d Dir) Waiting() (bool, error) {
	fd, err := d.openStart()
	if errors.Is(err, ErrPassed) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	unix.Close(fd)
	return true, nil
}

func (d Dir) openStart() (int, error) {
	p := filepath.Join(string(d), GateName)
	fd, err := openFIFO(p, unix.O_WRONLY)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOENT) {
		return -1, ErrPassed
	}
	return fd, err
}

// openFIFO opens a FIFO without waiting for its other end, and nothing but a FIFO: in a link's place the byte that lets init go
// would be written to whatever the link names.
func openFIFO(p string, flags int) (int, error) {
	fail := func(err error) (int, error) { return -1, &os.PathError{Op: "open", Path: p, Err: err} }
	fd, err := unix.Open(p, flags|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fail(err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFIFO {
		err = fmt.Errorf("%w: it is no FIFO", ErrUntrusted)
	}
	if err != nil {
		unix.Close(fd)
		return fail(err)
	}
	return fd, nil
}
