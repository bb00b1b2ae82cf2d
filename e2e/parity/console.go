package main

import (
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// consoleSocket is where a runtime sends the master of a container's terminal.
type consoleSocket struct {
	path     string
	dir      string
	listener *net.UnixListener
}

// listenConsole listens on a socket in a directory of its own, whose path is short enough.
func listenConsole() (*consoleSocket, error) {
	dir, err := os.MkdirTemp("/tmp", "gc")
	if err != nil {
		return nil, err
	}
	path := dir + "/s"
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	return &consoleSocket{path, dir, l}, nil
}

func (c *consoleSocket) close() {
	c.listener.Close()
	os.RemoveAll(c.dir)
}

// accept receives the master, or nil.
func (c *consoleSocket) accept() *os.File {
	_ = c.listener.SetDeadline(time.Now().Add(5 * time.Second))
	conn, err := c.listener.AcceptUnix()
	if err != nil {
		return nil
	}
	defer conn.Close()
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(name, oob)
	if err != nil {
		return nil
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return nil
	}
	return os.NewFile(uintptr(fds[0]), "terminal")
}
