// Package hooks runs the hooks of a config.json: in order, the container's state on their standard input, within their time.
package hooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Process is a hook that runs.
type Process struct {
	Wait func() error // returns when it has ended, how it failed if it did; called once
	Kill func()       // may be called until Wait has returned, or after
}

// Launcher starts the program of a hook. It borrows the two files, which become the standard streams, output twice.
type Launcher func(h *specs.Hook, stdin, output *os.File) (Process, error)

// outputLimit bounds what is kept of a hook's output for its error, in bytes.
const outputLimit = 4 << 10

// grace is how long a hook's grandchild may keep the standard streams open after the hook's end.
const grace = time.Second

// Run runs hooks in order and stops at the first that fails. at names the list in config.json.
func Run(ctx context.Context, at string, list []specs.Hook, state specs.State, launch Launcher) error {
	return each(ctx, at, list, state, launch, false)
}

// RunAll runs every hook, whether those before failed or not, and joins their errors.
func RunAll(ctx context.Context, at string, list []specs.Hook, state specs.State, launch Launcher) error {
	return each(ctx, at, list, state, launch, true)
}

func each(ctx context.Context, at string, list []specs.Hook, state specs.State, launch Launcher, all bool) error {
	if len(list) == 0 {
		return nil
	}
	input, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode the container's state: %w", err)
	}
	var errs []error
	for i := range list {
		if err := run(ctx, &list[i], input, launch); err != nil {
			errs = append(errs, &Error{fmt.Sprintf("hooks.%s[%d]", at, i), list[i].Path, err})
			if !all {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// Error is the failure of one hook.
type Error struct {
	Property string // of config.json
	Path     string // of the program
	Err      error
}

func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.Property, e.Path, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// ErrTimeout says that a hook did not end within hook.timeout.
var ErrTimeout = errors.New("timed out")

func run(ctx context.Context, h *specs.Hook, state []byte, launch Launcher) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if h.Timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(*h.Timeout)*time.Second, fmt.Errorf("%w after %d s", ErrTimeout, *h.Timeout))
		defer cancel()
	}
	streams, err := makeStreams()
	if err != nil {
		return err
	}
	defer streams.close()
	p, err := launch(h, streams.stdin, streams.output)
	streams.closeChildEnds()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, p.Kill)
	streams.serve(state)
	err = p.Wait()
	if !stop() && err != nil { // it was killed
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	text := streams.wait()
	if err != nil && text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// streams are the two pipes of a hook: the child's ends, which block, and ours, which do not.
type streams struct {
	stdin, output *os.File
	feed, tap     *os.File
	done          chan struct{} // one token for each pipe that is done with
	text          bytes.Buffer
}

func makeStreams() (*streams, error) {
	var in, out [2]int
	if err := unix.Pipe2(in[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		unix.Close(in[0])
		unix.Close(in[1])
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	unix.SetNonblock(in[1], true)
	unix.SetNonblock(out[0], true)
	file := func(fd int) *os.File { return os.NewFile(uintptr(fd), "hook") }
	return &streams{stdin: file(in[0]), feed: file(in[1]), tap: file(out[0]), output: file(out[1]), done: make(chan struct{}, 2)}, nil
}

func (s *streams) closeChildEnds() {
	s.stdin.Close()
	s.output.Close()
}

func (s *streams) close() {
	s.closeChildEnds()
	s.feed.Close()
	s.tap.Close()
}

// serve writes the state and reads the output; wait waits for both.
func (s *streams) serve(state []byte) {
	go func() {
		s.feed.Write(state) // a hook need not read it
		s.feed.Close()
		s.done <- struct{}{}
	}()
	go func() {
		io.Copy(&s.text, io.LimitReader(s.tap, outputLimit))
		io.Copy(io.Discard, s.tap)
		s.done <- struct{}{}
	}()
}

// wait returns the output of a hook that has ended.
func (s *streams) wait() string {
	end := time.Now().Add(grace)
	s.feed.SetWriteDeadline(end)
	s.tap.SetReadDeadline(end)
	<-s.done
	<-s.done
	return strings.TrimSpace(s.text.String())
}
