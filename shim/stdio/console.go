package stdio

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// AttachConsole connects the master of the process's terminal, which it owns from here on. The terminal stays as it is:
// cooked, with echo; a client that wants it raw makes its own end raw.
//
// Output ends with EIO, when no process has the terminal open any more; what was written before is read first. The end of
// stdin ends nothing else: hanging up would lose output.
func (o *IO) AttachConsole(master *os.File) error {
	console, err := pollableCopy(master)
	master.Close()
	if err != nil {
		return fmt.Errorf("attach console: %w", err)
	}

	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		console.Close()
		return fmt.Errorf("attach console: %w", os.ErrClosed)
	}
	o.console = console
	for _, s := range o.outs { // one
		s.src = console
	}
	if o.in != nil {
		o.in.dst = console
		go o.in.run()
	}
	o.copyOutputs()
	return nil
}

// Resize sets the terminal's size in characters. Without a terminal, or when it is gone, it does nothing.
func (o *IO) Resize(width, height uint16) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.console == nil || o.closed {
		return nil
	}
	conn, err := o.console.SyscallConn()
	if err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	var ioctlErr error
	if conn.Control(func(fd uintptr) {
		ioctlErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	}) != nil {
		return nil // closed with the end of the output
	}
	if ioctlErr != nil {
		return fmt.Errorf("resize terminal: %w", ioctlErr)
	}
	return nil
}
