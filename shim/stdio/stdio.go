// Package stdio connects the standard streams of a container's process with what the client asked for: FIFOs, files,
// loggers, or nothing, with or without a terminal.
package stdio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Config says what the standard streams of one process are.
type Config struct {
	// Stdin, Stdout and Stderr are the URIs of the task API; empty is /dev/null. The scheme of Stdout decides: for file,
	// binary and binary-v2 it takes stderr as well. Stdin is the path of a FIFO.
	Stdin, Stdout, Stderr string
	// Terminal: the process has a terminal, which AttachConsole connects, instead of three pipes. Stderr is not used.
	Terminal bool
	// UID and GID own the pipes that the process gets (IoUid and IoGid of the runtime options).
	UID, GID int
	// ContainerID and Namespace are told to loggers.
	ContainerID, Namespace string
	// Start starts loggers; nil is exec.Cmd.Start and Wait.
	Start StartFunc
	// Log is told when output is lost; nil discards that.
	Log *slog.Logger
}

// IO are the connected streams of one process. The process never gets what the client named, only pipes of ours: a client
// that goes away or stops reading must not be able to end it.
type IO struct {
	in   *stream   // nil: no stdin
	outs []*stream // what is to be copied to the client
	ends [3]*os.File

	logger  *logger       // nil: none
	pending atomic.Int32  // output streams that have not ended
	drained chan struct{} // closed when the last one has

	mu      sync.Mutex
	hold    *os.File // write end of the stdin FIFO, which does not end before CloseStdin
	console *os.File // the terminal's master
	closed  bool
}

// Open makes the process's ends and opens the client's. Both ends of a FIFO are opened here, so that the client may go and
// come back; but when Open is called it must be there, as every client of containerd is, or the output would go nowhere: a
// FIFO that nobody has opened for reading within readerTimeout is an UnreadError. Open waits for a logger to be ready, but for
// no longer than ctx. The caller closes the result. An URI that nobody serves is a SchemeError.
func Open(ctx context.Context, cfg Config) (_ *IO, err error) {
	if cfg.Start == nil {
		cfg.Start = startAndWait
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	stdin, stdout, stderr, err := targets(cfg)
	if err != nil {
		return nil, err
	}

	o := &IO{drained: make(chan struct{})}
	defer func() {
		if err != nil {
			o.Close()
		}
	}()
	if err := o.openStdin(cfg, stdin); err != nil {
		return nil, err
	}
	if stdout.isLogger() {
		err = o.openLogger(ctx, cfg, stdout)
	} else {
		err = o.openOutputs(ctx, cfg, stdout, stderr)
	}
	if err != nil {
		return nil, err
	}
	o.begin(cfg.Terminal)
	return o, nil
}

// targets decides what each stream is.
func targets(cfg Config) (stdin, stdout, stderr target, err error) {
	if stdin, err = parseTarget(cfg.Stdin); err != nil {
		return
	}
	if stdin.scheme != schemeNull && stdin.scheme != schemeFIFO {
		return stdin, stdout, stderr, fmt.Errorf("stdin %s: %w", cfg.Stdin, SchemeError(stdin.scheme))
	}
	if stdout, err = parseTarget(cfg.Stdout); err != nil {
		return
	}
	switch {
	case cfg.Terminal || stdout.isLogger():
	case stdout.scheme == schemeFile:
		stderr = stdout
	default:
		stderr, err = parseTarget(cfg.Stderr)
	}
	return
}

// openStdin prepares the way from the client to the process.
func (o *IO) openStdin(cfg Config, t target) error {
	if t.scheme == schemeNull {
		return nil
	}
	src, err := os.OpenFile(t.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return wrapOpen("stdin", err)
	}
	o.in = &stream{src: src, keep: -1, lendsDst: cfg.Terminal}
	info, err := src.Stat()
	if err != nil {
		return wrapOpen("stdin", err)
	}
	if info.Mode().Type() == os.ModeNamedPipe {
		// There is a reader now, so this does not wait.
		if o.hold, err = os.OpenFile(t.path, os.O_WRONLY, 0); err != nil {
			return wrapOpen("stdin", err)
		}
	}
	if cfg.Terminal {
		return nil
	}
	r, w, err := newContainerPipe(cfg)
	if err != nil {
		return wrapOpen("stdin", err)
	}
	o.ends[0] = os.NewFile(uintptr(r), "stdin")
	o.in.dst, err = pollable(w, "stdin")
	return wrapOpen("stdin", err)
}

// openOutputs prepares the ways from the process to FIFOs or files. A terminal has one, which is emptied even to nowhere.
func (o *IO) openOutputs(ctx context.Context, cfg Config, stdout, stderr target) error {
	if cfg.Terminal {
		s := newOutput(cfg, "stdout")
		o.outs = append(o.outs, s)
		return wrapOpen("stdout", s.openDestination(ctx, stdout))
	}
	for i, t := range []target{1: stdout, 2: stderr} {
		if t.scheme == schemeNull {
			continue
		}
		name := [...]string{1: "stdout", 2: "stderr"}[i]
		s := newOutput(cfg, name)
		o.outs = append(o.outs, s)
		if err := s.openDestination(ctx, t); err != nil {
			return wrapOpen(name, err)
		}
		r, w, err := newContainerPipe(cfg)
		if err != nil {
			return wrapOpen(name, err)
		}
		o.ends[i] = os.NewFile(uintptr(w), name)
		if s.src, err = pollable(r, name); err != nil {
			return wrapOpen(name, err)
		}
	}
	return nil
}

func newOutput(cfg Config, name string) *stream {
	return &stream{keep: -1, output: true, gone: make(chan struct{}), onError: func(err error) {
		cfg.Log.Warn("output is lost", "container", cfg.ContainerID, "stream", name, "error", err)
	}}
}

func wrapOpen(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("open %s: %w", name, err)
}

// openLogger starts the logger. It reads the process's pipes itself, or from the shim what a terminal shows.
func (o *IO) openLogger(ctx context.Context, cfg Config, t target) error {
	l, writers, err := startLogger(ctx, t, cfg)
	if err != nil {
		return err
	}
	o.logger = l
	if !cfg.Terminal {
		o.ends[1], o.ends[2] = writers[0], writers[1]
		return chown(cfg, int(writers[0].Fd()), int(writers[1].Fd()))
	}
	defer closeFiles(writers) // a terminal has no stderr: its pipe ends at once
	s := newOutput(cfg, "stdout")
	o.outs = append(o.outs, s)
	s.dst, err = pollableCopy(writers[0])
	return wrapOpen("stdout", err)
}

// openDestination opens the client's side of an output stream.
func (s *stream) openDestination(ctx context.Context, t target) (err error) {
	switch t.scheme {
	case schemeNull:
		return nil
	case schemeFile:
		if err := os.MkdirAll(filepath.Dir(t.path), 0o755); err != nil {
			return err
		}
		s.dst, err = os.OpenFile(t.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		return err
	}
	info, err := os.Stat(t.path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeNamedPipe {
		s.dst, err = os.OpenFile(t.path, os.O_WRONLY|os.O_APPEND, 0)
		return err
	}
	if s.dst, err = openForReader(ctx, t.path); err != nil {
		return err
	}
	// Our own reader, which never reads, keeps what is written while the client is away.
	s.keep, err = unix.Open(t.path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: t.path, Err: err}
	}
	return nil
}

// readerTimeout is how long Open waits for the reader of a FIFO. Clients open theirs before they ask for a process, but often
// in a thread that is only on its way; nobody who is ever going to read needs that long.
const readerTimeout = 3 * time.Second

// UnreadError refuses a FIFO that nobody reads.
type UnreadError string

func (e UnreadError) Error() string {
	return fmt.Sprintf("nobody reads the FIFO %s: open it for reading first", string(e))
}

// openForReader opens a FIFO for writing when somebody has opened it for reading.
func openForReader(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, readerTimeout)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if !errors.Is(err, unix.ENXIO) {
			return f, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, UnreadError(path)
		}
	}
}

// begin starts to copy. With a terminal that waits for AttachConsole.
func (o *IO) begin(terminal bool) {
	if len(o.outs) == 0 {
		close(o.drained)
	}
	o.pending.Store(int32(len(o.outs)))
	if terminal {
		return
	}
	if o.in != nil {
		go o.in.run()
	}
	o.copyOutputs()
}

func (o *IO) copyOutputs() {
	for _, s := range o.outs {
		go func() {
			defer s.close()
			s.move()
			if o.pending.Add(-1) == 0 {
				close(o.drained)
			}
			s.awaitReader()
		}()
	}
}

// ContainerEnds lends the files that the process gets as its stdin, stdout and stderr; nil is /dev/null. With a terminal all
// are nil.
func (o *IO) ContainerEnds() (in, out, err *os.File) { return o.ends[0], o.ends[1], o.ends[2] }

// CloseContainerEnds must be called once the process has its ends: output ends when nobody holds them any more.
func (o *IO) CloseContainerEnds() { closeFiles(o.ends[:]) }

// CloseStdin makes stdin end, once the client has closed its end too. Without stdin it does nothing.
func (o *IO) CloseStdin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.hold != nil {
		o.hold.Close()
		o.hold = nil
	}
}

// Drain waits until everything that the process wrote has reached its destination, that is until nobody holds its output any
// more, or ctx ends. A logger gets a moment more, to end by itself.
func (o *IO) Drain(ctx context.Context) error {
	select {
	case <-o.drained:
	case <-ctx.Done():
		return fmt.Errorf("drain output: %w", ctx.Err())
	}
	if o.logger != nil {
		o.logger.linger(ctx)
	}
	return nil
}

// Settle waits until the client has read what the process has written so far, for as long as ctx lasts. A client of
// containerd closes its ends when it is told of the exit: what it has not read by then, it never will. Nothing tells when a
// FIFO has been emptied, so this looks again, at first after a tenth of a millisecond.
func (o *IO) Settle(ctx context.Context) {
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		if !slices.ContainsFunc(o.outs, func(s *stream) bool { return !s.delivered() }) {
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// Close ends all streams, drained or not, and the logger, which may take as long as that needs to write what it has read:
// 12 seconds at most. It can be called at any time and again.
func (o *IO) Close() {
	o.mu.Lock()
	closed := o.closed
	o.closed = true
	o.mu.Unlock()
	if closed {
		return
	}
	o.CloseContainerEnds()
	o.CloseStdin()
	if o.in != nil {
		o.in.close()
	}
	for _, s := range o.outs {
		s.close()
		s.release()
	}
	if o.console != nil {
		o.console.Close()
	}
	if o.logger != nil {
		o.logger.stop()
	}
}

// newContainerPipe makes a pipe that its user in the container may also open by its name in /proc.
func newContainerPipe(cfg Config) (r, w int, err error) {
	r, w, err = newPipe()
	if err != nil {
		return -1, -1, err
	}
	if err := chown(cfg, r); err != nil { // the two ends are one inode
		unix.Close(r)
		unix.Close(w)
		return -1, -1, err
	}
	return r, w, nil
}

// chown gives pipes to the user of the process. What the shim makes already belongs to the shim's user.
func chown(cfg Config, fds ...int) error {
	if cfg.UID == os.Geteuid() && cfg.GID == os.Getegid() {
		return nil
	}
	for _, fd := range fds {
		if err := unix.Fchown(fd, cfg.UID, cfg.GID); err != nil {
			return fmt.Errorf("chown pipe to %d:%d: %w", cfg.UID, cfg.GID, err)
		}
	}
	return nil
}
