package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
)

func create(ctx context.Context, c *call) (int, error) {
	_, _, err := c.create(ctx, true)
	return 0, err
}

// created is what make leaves to its caller beside the container.
type created struct {
	console *os.File // the terminal's master, nil when it was sent away or there is none
}

// create makes the container that the operands and options ask for. detach: this process does not stay with it.
func (c *call) create(ctx context.Context, detach bool) (*engine.Detached, created, error) {
	e, err := c.engine()
	if err != nil {
		return nil, created{}, err
	}
	r, err := c.request()
	if err != nil {
		return nil, created{}, err
	}
	h := handover{c: c, detach: detach}
	defer h.close()
	fds, err := c.inheritedFDs()
	if err != nil {
		return nil, created{}, err
	}
	r.Preserve = fds.count()
	r.Edit = func(s *specs.Spec) error {
		if s.Process == nil {
			return nil
		}
		s.Process.Env = append(s.Process.Env, fds.environment()...)
		return h.connect(s.Process.Terminal)
	}
	d, err := e.CreateDetached(ctx, r)
	if err != nil {
		return nil, created{}, err
	}
	if c.opts.on("trace") {
		fmt.Fprint(c.Err, d.Trace())
	}
	out := created{console: d.TakeConsole()}
	if err := h.deliver(&out.console, d.Pid(), d.Pidfd); err != nil {
		if out.console != nil {
			out.console.Close()
		}
		return nil, created{}, errors.Join(err, d.Delete(ctx, true))
	}
	return d, out, nil
}

// request translates operands and options.
func (c *call) request() (engine.CreateRequest, error) {
	r := engine.CreateRequest{ID: c.args[0], Bundle: c.opts.or("bundle", "."), Config: c.opts.text("config"),
		Stdio:       engine.Stdio{In: c.In, Out: c.Out, Err: c.Streams.Err},
		NoPivotRoot: c.opts.on("no-pivot"), NoNewKeyring: c.opts.on("no-new-keyring"), Trace: c.opts.on("trace")}
	if len(c.args) > 1 {
		if c.opts.has("bundle") {
			return r, usagef("the bundle is given twice: %s and %s", c.opts.text("bundle"), c.args[1])
		}
		r.Bundle = c.args[1]
	}
	var err error
	if r.SystemdCgroup, err = c.systemdCgroup(); err != nil {
		return r, err
	}
	for _, p := range []*string{&r.Bundle, &r.Config} {
		if *p != "" {
			if *p, err = filepath.Abs(*p); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

func (c *call) systemdCgroup() (bool, error) {
	switch manager := c.global.or("cgroup-manager", "cgroupfs"); manager {
	case "cgroupfs":
		return c.global.on("systemd-cgroup"), nil
	case "systemd":
		return true, nil
	default:
		return false, usagef("option --cgroup-manager: %q is not supported; cgroupfs and systemd are", manager)
	}
}

// handover gives parts of a new process to those who asked for them.
type handover struct {
	c              *call
	detach         bool
	console, pidfd int // connected sockets, 0 for none
}

// connect connects the sockets before anything is made.
func (h *handover) connect(terminal bool) (err error) {
	socket := h.c.opts.text("console-socket")
	switch {
	case terminal && h.detach && socket == "":
		return usagef("process.terminal is set and nobody would hold the terminal: give --console-socket SOCKET, or set " +
			"process.terminal to false in config.json (cannot allocate tty if the runtime will detach without setting console socket)")
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

// deliver sends the terminal and the pidfd and writes the pid file. console becomes nil when it was sent.
func (h *handover) deliver(console **os.File, pid int, pidfd func() (*os.File, error)) error {
	if h.console != 0 && *console != nil {
		// Whoever gets it decides anew how to read it.
		if err := unix.SetNonblock(int((*console).Fd()), false); err != nil {
			return fmt.Errorf("make the terminal's master blocking: %w", err)
		}
		if err := sendFile(h.console, "/dev/ptmx", *console); err != nil {
			return fmt.Errorf("option --console-socket: %w", err)
		}
		(*console).Close()
		*console = nil
	}
	if h.pidfd != 0 {
		f, err := pidfd()
		if err != nil {
			return err
		}
		defer f.Close()
		if err := sendFile(h.pidfd, h.pidfdName(), f); err != nil {
			return fmt.Errorf("option --pidfd-socket: %w", err)
		}
	}
	if file := h.c.opts.text("pid-file"); file != "" {
		if err := writePidFile(file, pid); err != nil {
			return fmt.Errorf("option --pid-file: %w", err)
		}
	}
	return nil
}

// pidfdName tells an init from other processes, in runc's words.
func (h *handover) pidfdName() string { return "standard" }

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
