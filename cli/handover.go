package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// handover gives parts of a new process to those who asked for them.
type handover struct {
	c              *call
	detach         bool
	exec           bool // the process is not a container's first
	console, pidfd int  // connected sockets, 0 for none
}

// connect connects the sockets before anything is made.
func (h *handover) connect(terminal bool) (err error) {
	socket := h.c.opts.text("console-socket")
	switch {
	case terminal && h.detach && socket == "":
		return usagef("process.terminal is set and nobody would hold the terminal: give --console-socket SOCKET, after "+
			"gosudacon console SOCKET in another terminal, or %s (cannot allocate tty if the runtime will detach without setting "+
			"console socket)", h.otherwise())
	case socket != "" && !h.detach:
		return usagef("cannot use console socket if the runtime will not detach")
	case socket != "" && !terminal:
		return usagef("cannot use console socket if the runtime will not allocate tty: process.terminal is not set")
	case socket != "":
		if h.console, err = dial(socket); err != nil {
			return fmt.Errorf("option --console-socket: %w", err)
		}
	}
	if socket := h.c.opts.text("pidfd-socket"); socket != "" {
		if h.pidfd, err = dial(socket); err != nil {
			return fmt.Errorf("option --pidfd-socket: %w", err)
		}
	}
	return nil
}

// otherwise is what else can be done about a terminal that nobody would hold.
func (h *handover) otherwise() string {
	if h.exec {
		return "leave out --detach"
	}
	return "set process.terminal to false in config.json, or use gosudacon run"
}

// deliver sends the terminal's master, which it owns, and a pidfd, and writes the pid file. It returns the master if nobody
// else got it.
func (h *handover) deliver(console *os.File, pid int, pidfd func() (*os.File, error)) (*os.File, error) {
	err := h.sendConsole(console)
	if err == nil {
		err = h.sendPidfd(pidfd)
	}
	if file := h.c.opts.text("pid-file"); err == nil && file != "" {
		if err = writePidFile(file, pid); err != nil {
			err = fmt.Errorf("option --pid-file: %w", err)
		}
	}
	if console != nil && (err != nil || h.console != 0) {
		console.Close()
		console = nil
	}
	return console, err
}

func (h *handover) sendConsole(console *os.File) error {
	if h.console == 0 || console == nil {
		return nil
	}
	// Whoever gets it decides anew how to read it.
	if err := unix.SetNonblock(int(console.Fd()), false); err != nil {
		return fmt.Errorf("make the terminal's master blocking: %w", err)
	}
	if err := sendFile(h.console, "/dev/ptmx", console); err != nil {
		return fmt.Errorf("option --console-socket: %w", err)
	}
	return nil
}

func (h *handover) sendPidfd(pidfd func() (*os.File, error)) error {
	if h.pidfd == 0 {
		return nil
	}
	f, err := pidfd()
	if err != nil {
		return err
	}
	defer f.Close()
	name := "standard" // runc's words for a container's first process and for others
	if h.exec {
		name = "setns"
	}
	if err := sendFile(h.pidfd, name, f); err != nil {
		return fmt.Errorf("option --pidfd-socket: %w", err)
	}
	return nil
}

func (h *handover) close() {
	for _, fd := range []int{h.console, h.pidfd} {
		if fd != 0 {
			unix.Close(fd)
		}
	}
}

// writePidFile writes the decimal pid, so that whoever sees the file sees all of it.
func writePidFile(name string, pid int) error {
	tmp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name))
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(pid))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}
