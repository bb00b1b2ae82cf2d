package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
)

// notifySocketEnv is where this process is to send sd_notify(3) messages; whoever supervises us sets it.
const notifySocketEnv = "NOTIFY_SOCKET"

// notifier passes on that a container's process is ready. Nothing else that the process says reaches the supervisor: it is not
// the container's business to name processes or to store descriptors there.
type notifier struct {
	host   string // the supervisor's socket
	socket *net.UnixConn
}

// listenForReady listens for a container that is about to be started; nil when nobody wants to know, or it was created so that
// it cannot say.
func listenForReady(d *engine.Detached) (*notifier, error) {
	host := os.Getenv(notifySocketEnv)
	if host == "" {
		return nil, nil
	}
	path, err := d.NotifySocket()
	if err != nil || path == "" {
		return nil, err
	}
	if s, err := d.Snapshot(); err != nil || s.Status != engine.StatusCreated {
		return nil, err // start says what is wrong
	}
	// The path may be longer than a socket's address: go by a descriptor.
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	name := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listen for the container's notifications: %w", err)
	}
	if err := os.Chmod(name, 0o777); err != nil { // for every user of the container
		socket.Close()
		return nil, err
	}
	return &notifier{host: host, socket: socket}, nil
}

func (n *notifier) close() {
	if n != nil {
		n.socket.Close()
	}
}

// wait returns when the container has said that it is ready and its supervisor knows, with pid for the main process; or when
// the container has ended.
func (n *notifier) wait(ctx context.Context, d *engine.Detached, pid int) error {
	if n == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		d.AwaitEnd(ctx)
		n.socket.SetReadDeadline(time.Unix(1, 0))
	}()
	ready, err := n.readReady()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil // it has ended, and whoever waits for it learns that
	}
	if err != nil {
		return fmt.Errorf("read the container's notifications: %w", err)
	}
	if err := n.tell(ready, pid); err != nil {
		return fmt.Errorf("notify %s: %w", n.host, err)
	}
	return nil
}

// readReady reads datagrams until one has the line that says so.
func (n *notifier) readReady() ([]byte, error) {
	buf := make([]byte, 4096)
	for {
		size, err := n.socket.Read(buf)
		if err != nil {
			return nil, err
		}
		for line := range bytes.SplitSeq(buf[:size], []byte{'\n'}) {
			if bytes.HasPrefix(line, []byte("READY=")) {
				return line, nil
			}
		}
	}
}

// barrierTimeout is how long a supervisor may take to work off what it was told.
const barrierTimeout = 30 * time.Second

// tell sends the message and the pid, and waits until the supervisor has read both (sd_notify_barrier(3)): the sender must not
// be gone before it is looked up.
func (n *notifier) tell(ready []byte, pid int) error {
	host, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(host)
	to := &unix.SockaddrUnix{Name: n.host}
	for _, msg := range []string{string(ready) + "\n", "MAINPID=" + strconv.Itoa(pid) + "\n"} {
		if err := unix.Sendto(host, []byte(msg), unix.MSG_NOSIGNAL, to); err != nil {
			return os.NewSyscallError("sendto", err)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	err = unix.Sendmsg(host, []byte("BARRIER=1"), unix.UnixRights(int(w.Fd())), to, unix.MSG_NOSIGNAL)
	w.Close()
	if err != nil {
		return os.NewSyscallError("sendmsg", err)
	}
	r.SetReadDeadline(time.Now().Add(barrierTimeout))
	r.Read(make([]byte, 1)) // its end, or the deadline: a supervisor that knows no barriers
	return nil
}
