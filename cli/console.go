package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// console is the other end of --console-socket, for people: it waits for one terminal and connects the caller's with it, until no
// process has it open any more.
func console(ctx context.Context, c *call) (int, error) {
	path := c.args[0]
	ctx, stop := cancelledBySignal(ctx) // before there is a socket to be removed
	defer stop()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if errors.Is(err, unix.EADDRINUSE) {
		return 0, fmt.Errorf("listen on %s: it exists: remove it first", path)
	}
	if err != nil {
		return 0, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	if isTerminal(c.Streams.Err) {
		fmt.Fprintf(c.Streams.Err, "waiting for: gosudacon create --console-socket %s ID\n", path)
	}
	master, err := receiveMaster(l)
	l.Close() // which removes the socket
	if ctx.Err() != nil {
		return 0, fmt.Errorf("console %s: interrupted", path)
	}
	if err != nil {
		return 0, fmt.Errorf("receive a terminal from %s: %w", path, err)
	}
	winch := make(chan os.Signal, 1)
	signal.Notify(winch, unix.SIGWINCH)
	t, err := c.attach(master)
	if err != nil {
		return 0, err
	}
	defer t.close()
	for {
		select {
		case <-winch:
			t.resize()
		case <-ctx.Done(): // not by a key: those go to the container
			return 0, nil
		case <-t.copied:
			return 0, nil
		}
	}
}

// receiveMaster takes one connection and the one descriptor that is sent over it.
func receiveMaster(l *net.UnixListener) (*os.File, error) {
	conn, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	n, m, _, _, err := conn.ReadMsgUnix(name, oob)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:m])
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, fmt.Errorf("%d control messages, want 1", len(messages))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	if len(fds) != 1 {
		return nil, fmt.Errorf("%d descriptors, want 1", len(fds))
	}
	unix.CloseOnExec(fds[0])
	// A terminal can be polled: reads of it then end at a deadline.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), filepath.Base(string(name[:n]))), nil
}
