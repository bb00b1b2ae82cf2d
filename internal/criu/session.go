package criu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Session is a criu that waits for its request. Close it in any case.
type Session struct {
	Pid  int
	conn *os.File
	cmd  *exec.Cmd
	wait func() error
}

// Setup says how a session's criu is started.
type Setup struct {
	Program string
	// Stdio are criu's standard streams, and those of processes that it restores as far as Options.InheritFDs say so; nil is
	// /dev/null.
	Stdin, Stdout, Stderr *os.File
	// Files are further descriptors of criu, from FirstFile on.
	Files []*os.File
	// Start starts criu and returns how to wait for it.
	Start func(*exec.Cmd) (wait func() error, err error)
}

// socketFD and FirstFile are numbers of descriptors in criu.
const (
	socketFD  = 3
	FirstFile = 4
)

// Start starts criu. What it is to do comes with Session.Do: until then it does nothing, so that it can be moved to another
// cgroup. The files are borrowed for the call.
func Start(s Setup) (*Session, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "criu's end")
	defer theirs.Close()
	unix.SetNonblock(fds[0], true) // for the Go poller
	ours := os.NewFile(uintptr(fds[0]), "criu")
	cmd := exec.Command(s.Program, "swrk", fmt.Sprint(socketFD))
	for _, f := range []struct {
		dst *io.Reader
		out *io.Writer
		src *os.File
	}{{&cmd.Stdin, nil, s.Stdin}, {nil, &cmd.Stdout, s.Stdout}, {nil, &cmd.Stderr, s.Stderr}} {
		switch {
		case f.src == nil: // /dev/null; a nil *os.File in the interface would be none
		case f.dst != nil:
			*f.dst = f.src
		default:
			*f.out = f.src
		}
	}
	cmd.ExtraFiles = append([]*os.File{theirs}, s.Files...)
	wait, err := s.Start(cmd)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start criu: %w", err)
	}
	return &Session{Pid: cmd.Process.Pid, conn: ours, cmd: cmd, wait: wait}, nil
}

// Close ends criu, if it is still there, and waits for it.
func (s *Session) Close() error {
	if s.wait == nil {
		return nil
	}
	s.conn.Close()
	s.cmd.Process.Kill()
	err := s.wait()
	s.wait = nil
	return err
}

// Notification is what criu tells while it works, and waits for the answer to. The scripts are described in criu(8), "action
// scripts", but for these: "status-ready" (a page server listens) and "orphan-pts-master" (File is the master of the processes'
// terminal, owned by who is told).
type Notification struct {
	Script string
	Pid    int // of the first process, as this process sees it; 0 where there is none
	File   *os.File
}

// Do has criu carry out the one request of the session, and waits for its end. tell answers notifications; its error ends the
// work and is Do's. When ctx ends, criu is killed: a dump should not be interrupted like that, the processes would be left as
// criu has changed them.
func (s *Session) Do(ctx context.Context, k Kind, o *Options, tell func(Notification) error) error {
	defer context.AfterFunc(ctx, func() {
		s.cmd.Process.Kill()
		s.conn.SetReadDeadline(time.Unix(1, 0)) // what criu has made holds its end of the connection
	})()
	r, err := s.exchange(EncodeRequest(k, o), tell)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		err = r.check(k)
	}
	if err != nil {
		return err
	}
	s.conn.Close()
	err = s.wait()
	s.wait = nil
	if err != nil {
		return fmt.Errorf("criu: %w", err)
	}
	return nil
}

// exchange sends a request and returns the response, having answered what criu asks in between.
func (s *Session) exchange(request []byte, tell func(Notification) error) (*Response, error) {
	for {
		if _, err := s.conn.Write(request); err != nil {
			return nil, s.gone(fmt.Errorf("write to criu: %w", err))
		}
		r, file, err := s.read()
		switch {
		case err != nil:
			return nil, s.gone(err)
		case r.Kind != notify || tell == nil:
			closeFile(file)
			return r, nil
		}
		err = tell(Notification{r.Script, r.Pid, file})
		if err != nil {
			s.conn.Write(EncodeAnswer(false))
			s.read() // criu undoes what it has done before it answers
			return nil, err
		}
		request = EncodeAnswer(true)
	}
}

// gone explains an error of the connection by the end of criu.
func (s *Session) gone(err error) error {
	s.conn.Close()
	s.cmd.Process.Kill()
	end := s.wait()
	s.wait = nil
	if end != nil {
		return fmt.Errorf("%w: criu has ended: %w", err, end)
	}
	return err
}

// check makes an error of a request that was not carried out.
func (r *Response) check(k Kind) error {
	switch {
	case r.Success && r.Kind == k:
		return nil
	case r.Success:
		return fmt.Errorf("criu answers a %s with a %s", k, r.Kind)
	}
	return &Error{Message: strings.TrimSpace(r.Message), Errno: r.Errno}
}

// Error is criu's answer to a request that it could not carry out. Its log tells more.
type Error struct {
	Message string     // the first error of its log; "" if it says nothing
	Errno   unix.Errno // 0 if it has none
}

func (e *Error) Error() string {
	switch {
	case e.Errno != 0:
		return "criu failed: " + e.Errno.Error()
	case e.Message != "":
		return "criu failed: " + e.Message
	}
	return "criu failed"
}

func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Limits of a message, in bytes.
const (
	messageLimit = 64 << 10
	rightsLimit  = 128
)

// read reads one message, and the file that may come with it.
func (s *Session) read() (*Response, *os.File, error) {
	conn, err := s.conn.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	buf, rights := make([]byte, messageLimit), make([]byte, rightsLimit)
	var n, nr, flags int
	var readErr error
	err = conn.Read(func(fd uintptr) bool {
		for {
			n, nr, flags, _, readErr = unix.Recvmsg(int(fd), buf, rights, unix.MSG_CMSG_CLOEXEC)
			if !errors.Is(readErr, unix.EINTR) {
				return !errors.Is(readErr, unix.EAGAIN)
			}
		}
	})
	if err = errors.Join(err, readErr); err != nil {
		return nil, nil, fmt.Errorf("read from criu: %w", err)
	}
	file, err := fileOf(rights[:nr])
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("read from criu: %w", err)
	case n == 0:
		err = io.ErrUnexpectedEOF
	case flags&unix.MSG_TRUNC != 0:
		err = fmt.Errorf("a message has more than %d bytes", messageLimit)
	}
	r := &Response{}
	if err == nil {
		err = r.Decode(buf[:n])
	}
	if err != nil {
		closeFile(file)
		return nil, nil, fmt.Errorf("read from criu: %w", err)
	}
	return r, file, nil
}

// fileOf returns the file that came with a message, nil for none. There is never more than one.
func fileOf(rights []byte) (*os.File, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var file *os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // credentials
		}
		for _, fd := range fds {
			if file != nil {
				unix.Close(fd)
				continue
			}
			file = os.NewFile(uintptr(fd), "from criu")
		}
	}
	return file, nil
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}

// Check returns which of the wanted features criu has on this kernel.
func (s *Session) Check(want Features) (Features, error) {
	r, err := s.exchange(EncodeFeatures(want), nil)
	if err == nil {
		err = r.check(checkFeature)
	}
	if err != nil {
		return Features{}, fmt.Errorf("ask criu for its features: %w", err)
	}
	return r.Features, nil
}
