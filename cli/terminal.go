package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/internal/onecpu"
)

// terminal connects the terminal of a process with that of the caller, until the process has ended.
type terminal struct {
	master *os.File // owned
	host   *os.File // the caller's, nil when none of its streams is one
	saved  *unix.Termios
	copied chan struct{} // closed when the output is written
}

// attach takes over the master. The caller's terminal becomes raw: what is typed goes to the process as it is.
func (s Streams) attach(master *os.File) (*terminal, error) {
	onecpu.Leave() // one of the copying goroutines waits in a system call
	t := &terminal{master: master, copied: make(chan struct{})}
	for _, f := range []*os.File{s.In, s.Out, s.Err} {
		if isTerminal(f) {
			t.host = f
			break
		}
	}
	t.resize()
	if t.host != nil && isTerminal(s.In) {
		saved, err := unix.IoctlGetTermios(int(s.In.Fd()), unix.TCGETS)
		if err == nil {
			raw := *saved
			makeRaw(&raw)
			err = unix.IoctlSetTermios(int(s.In.Fd()), unix.TCSETS, &raw)
		}
		if err != nil {
			master.Close()
			return nil, fmt.Errorf("make the terminal raw: %w", err)
		}
		t.host, t.saved = s.In, saved
	}
	go io.Copy(master, s.In) // ends with this process
	go t.copyOutput(s.Out)
	return t, nil
}

// makeRaw is cfmakeraw(3).
func makeRaw(t *unix.Termios) {
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB
	t.Cflag |= unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
}

// resize gives the process's terminal the size of the caller's.
func (t *terminal) resize() {
	if t == nil || t.host == nil {
		return
	}
	size, err := unix.IoctlGetWinsize(int(t.host.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return
	}
	t.control(func(fd int) { unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) })
}

func (t *terminal) control(f func(fd int)) {
	if conn, err := t.master.SyscallConn(); err == nil {
		conn.Control(func(fd uintptr) { f(int(fd)) })
	}
}

// copyOutput ends when no process has the terminal open any more, or at the deadline that close sets.
func (t *terminal) copyOutput(out io.Writer) {
	defer close(t.copied)
	buf := make([]byte, 32<<10)
	for {
		n, err := t.master.Read(buf)
		out.Write(buf[:n]) // the reader may be gone; the process need not be
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.drain(out, buf)
			return
		}
		if err != nil {
			return
		}
	}
}

// drain writes what is there to be read.
func (t *terminal) drain(out io.Writer, buf []byte) {
	t.control(func(fd int) {
		for {
			n, err := unix.Read(fd, buf)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n <= 0 {
				return
			}
			out.Write(buf[:n])
		}
	})
}

// close writes the rest of the output, restores the caller's terminal and closes the master. The process has ended, others
// may have its terminal open still.
func (t *terminal) close() {
	if t == nil {
		return
	}
	t.master.SetReadDeadline(time.Now())
	<-t.copied
	if t.saved != nil {
		unix.IoctlSetTermios(int(t.host.Fd()), unix.TCSETS, t.saved)
	}
	t.master.Close()
}
