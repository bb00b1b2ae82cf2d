package daemon

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// logFIFO is containerd's log in the bundle. containerd reads it and copies it to its own log.
const logFIFO = "log"

// stderr is the file descriptor that the log takes, so that a crash of the Go runtime and what libraries print get there
// too.
const stderr = 2

// openLog opens the FIFO in the working directory for what the shim logs; without one stderr stays as it is.
//
// The FIFO is opened for reading and writing. So there is always a reader: opening it does not fail and writing to it does
// not raise SIGPIPE while containerd is away, and the next containerd gets what was written meanwhile, up to the 64 KiB that
// the kernel keeps.
func openLog() *lossyWriter {
	if fd, err := unix.Open(logFIFO, unix.O_RDWR|unix.O_APPEND|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0); err == nil {
		unix.Dup3(fd, stderr, unix.O_CLOEXEC)
		unix.Close(fd)
	}
	return &lossyWriter{fd: stderr}
}

// lossyWriter writes to a descriptor that does not block, and drops what does not fit: a log that nobody reads must not
// stop a container. It says how much it dropped as soon as it can.
type lossyWriter struct {
	fd int

	mu   sync.Mutex
	lost int // writes
}

var _ io.Writer = (*lossyWriter)(nil)

// Write never fails. The kernel takes up to 4096 bytes whole or not at all; a longer text can be cut short.
func (w *lossyWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := p
	if w.lost > 0 { // together, or the note would fit where no line does, again and again
		text = append(fmt.Appendf(nil, "level=WARN msg=\"shim log was full\" lost=%d\n", w.lost), p...)
	}
	if w.put(text) {
		w.lost = 0
	} else {
		w.lost++
	}
	return len(p), nil
}

func (w *lossyWriter) put(p []byte) bool {
	for len(p) > 0 {
		n, err := unix.Write(w.fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false
		}
		p = p[n:]
	}
	return true
}

// dumpTimeout is how long a dump waits for each part of it to fit, in ms.
const dumpTimeout = 1000

// dump writes the stacks of goroutines, which are longer than the FIFO, one at a time, and gives up when nobody reads.
func (w *lossyWriter) dump(stacks []byte) {
	io.WriteString(w, "=== BEGIN goroutine stack dump ===\n")
	for stack := range bytes.SplitSeq(stacks, []byte("\n\n")) {
		if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLOUT}}, dumpTimeout); n == 0 {
			return
		}
		w.Write(append(stack[:len(stack):len(stack)], "\n\n"...))
	}
	io.WriteString(w, "=== END goroutine stack dump ===\n")
}
