package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Method answers one call. ctx ends with the client's timeout and when the client is gone. An error that is no *Error is
// answered as Unknown. request is the method's to keep.
type Method func(ctx context.Context, request []byte) (answer []byte, err error)

// Service is the methods of a service by name.
type Service map[string]Method

// Server answers calls. Register everything first, then Serve.
type Server struct {
	log      *slog.Logger
	services map[string]Service

	mu       sync.Mutex
	closing  bool
	conns    map[*conn]struct{}
	quiet    chan struct{} // closed when closing and there is no connection; made by Shutdown
	listener net.Listener
}

// NewServer returns a server that logs to log.
func NewServer(log *slog.Logger) *Server {
	return &Server{log: log, services: map[string]Service{}, conns: map[*conn]struct{}{}}
}

// Register adds a service under its full name.
func (s *Server) Register(name string, service Service) { s.services[name] = service }

// ErrClosed is what Serve returns after Shutdown or Close.
var ErrClosed = errors.New("server is closed")

// Serve accepts connections of processes of the same user until Shutdown or Close, or until accept fails for good. Calls that
// are being answered end with ctx. It closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	s.mu.Lock()
	s.listener = l
	closing := s.closing
	s.mu.Unlock()
	if closing {
		return ErrClosed
	}
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			s.adopt(ctx, c)
		case s.isClosing():
			return ErrClosed
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
			s.log.Warn("accept", "error", err) // the connection stays in the backlog
			time.Sleep(acceptPause)
		default:
			return fmt.Errorf("accept: %w", err)
		}
	}
}

// acceptPause is how long Serve waits for memory or a file descriptor.
const acceptPause = 100 * time.Millisecond

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// adopt starts to serve a connection.
func (s *Server) adopt(ctx context.Context, nc net.Conn) {
	if err := sameUser(nc); err != nil {
		s.log.Warn("refuse a connection", "error", err)
		nc.Close()
		return
	}
	c := &conn{server: s, nc: nc}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	go c.serve(ctx)
}

// sameUser refuses peers that are not of our own user and group, as containerd's shims do.
func sameUser(nc net.Conn) error {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T has no peer credentials", nc)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		return cerr
	}
	if err != nil {
		return fmt.Errorf("get peer credentials: %w", err)
	}
	if int(peer.Uid) != os.Geteuid() || int(peer.Gid) != os.Getegid() {
		return fmt.Errorf("process %d is of user %d and group %d", peer.Pid, peer.Uid, peer.Gid)
	}
	return nil
}

// Shutdown stops accepting, closes connections as soon as all their calls are answered, and waits for that until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	quiet := s.stopLocked()
	for c := range s.conns {
		if c.calls == 0 {
			c.nc.Close()
		}
	}
	s.mu.Unlock()
	select {
	case <-quiet:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close stops accepting and closes all connections. Calls that are being answered see their context end.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopLocked()
	for c := range s.conns {
		c.nc.Close()
	}
}

func (s *Server) stopLocked() (quiet chan struct{}) {
	if !s.closing {
		s.closing, s.quiet = true, make(chan struct{})
		if s.listener != nil {
			s.listener.Close()
		}
		s.quietLocked()
	}
	return s.quiet
}

func (s *Server) quietLocked() {
	if s.closing && len(s.conns) == 0 {
		close(s.quiet)
	}
}

// conn is one connection.
type conn struct {
	server *Server
	nc     net.Conn
	calls  int // being answered; guarded by server.mu

	writing sync.Mutex
}

// serve reads calls until the client is gone.
func (c *conn) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := c.read(context.WithValue(ctx, goneKey{}, ctx.Done()))
	c.nc.Close()
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.log.Debug("connection ends", "error", err)
	}
	delete(s.conns, c)
	s.quietLocked()
}

type goneKey struct{}

// Gone returns a channel that is closed when the client of the call that ctx is of has closed its connection, and when Serve is to end.
func Gone(ctx context.Context) <-chan struct{} {
	gone, _ := ctx.Value(goneKey{}).(<-chan struct{})
	return gone
}

// read starts each call. What is wrong with one call is answered to that one; the error is that of the connection.
func (c *conn) read(ctx context.Context) error {
	r := bufio.NewReader(c.nc)
	var last uint32
	for {
		h, message, err := readFrame(r)
		var refused *Error
		switch {
		case errors.As(err, &refused):
		case err != nil:
			return err
		case h.stream%2 != 1:
			refused = &Error{InvalidArgument, "StreamID must be odd for client initiated streams"}
		case h.kind != typeRequest && h.kind != typeResponse: // data of a stream
			refused = &Error{InvalidArgument, "StreamID is no longer active"}
		case h.kind != typeRequest:
			continue // of a later version of the protocol
		case h.stream <= last:
			refused = &Error{InvalidArgument, "StreamID cannot be re-used and must increment"}
		}
		if refused == nil {
			last = h.stream
			refused = c.start(ctx, h.stream, message)
		}
		if refused != nil {
			if err := c.answer(h.stream, nil, refused); err != nil {
				return err
			}
		}
	}
}

// start runs the method that a message asks for in a goroutine of its own.
func (c *conn) start(ctx context.Context, stream uint32, message []byte) *Error {
	r, err := decodeRequest(message)
	if err != nil {
		return &Error{InvalidArgument, "unmarshal request error: " + err.Error()}
	}
	service, ok := c.server.services[r.service]
	if !ok {
		return &Error{Unimplemented, "service " + r.service}
	}
	method, ok := service[r.method]
	if !ok {
		return &Error{Unimplemented, "method " + r.method}
	}
	c.count(1)
	go func() {
		defer c.count(-1)
		ctx, cancel := context.WithCancel(ctx)
		if r.timeout > 0 {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(r.timeout))
		}
		defer cancel()
		answer, failed := c.call(ctx, r, method)
		if err := c.answer(stream, answer, failed); err != nil {
			c.server.log.Debug("answer", "method", r.method, "error", err)
		}
	}()
	return nil
}

// call runs a method. A panic fails the call, not the shim, which supervises every container of a pod.
func (c *conn) call(ctx context.Context, r request, method Method) (answer []byte, failed *Error) {
	defer func() {
		if p := recover(); p != nil {
			c.server.log.Error("panic", "method", r.method, "value", p, "stack", string(debug.Stack()))
			answer, failed = nil, &Error{Internal, fmt.Sprintf("%s: internal error: %v", r.method, p)}
		}
	}()
	answer, err := method(ctx, r.payload)
	return answer, errorOf(err)
}

// count keeps account of the calls; the last one closes the connection of a server that is closing.
func (c *conn) count(n int) {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	c.calls += n
	if s.closing && c.calls == 0 {
		c.nc.Close()
	}
}

func (c *conn) answer(stream uint32, payload []byte, failed *Error) error {
	message := encodeResponse(payload, failed)
	if len(message) > maxMessage {
		message = encodeResponse(nil, errorOf(errTooLong(len(message))))
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	return writeFrame(c.nc, stream, typeResponse, 0, message)
}
