package cli

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
)

func start(ctx context.Context, c *call) (int, error) {
	d, err := c.open()
	if err != nil {
		return 0, err
	}
	return 0, startAndNotify(ctx, d)
}

// startAndNotify starts a container and, where a supervisor wants to know, waits until it is ready.
func startAndNotify(ctx context.Context, d *engine.Detached) error {
	n, err := listenForReady(d)
	if err != nil {
		return err
	}
	defer n.close()
	if err := d.Start(ctx); err != nil {
		return err
	}
	return n.wait(ctx, d, d.Pid())
}

func kill(ctx context.Context, c *call) (int, error) {
	d, err := c.open()
	if err != nil {
		return 0, err
	}
	sig := unix.SIGTERM
	if len(c.args) > 1 {
		if sig, err = parseSignal(c.args[1]); err != nil {
			return 0, err
		}
	}
	all := c.opts.on("all")
	err = d.Kill(ctx, sig, all)
	if all && errors.Is(err, engine.ErrNotRunning) {
		return 0, nil // as with runc: callers make sure that nothing is left
	}
	return 0, err
}

// parseSignal takes a number or a name with or without SIG.
func parseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, usagef("unknown signal %q", s)
}

func remove(ctx context.Context, c *call) (int, error) {
	e, err := c.engine()
	if err != nil {
		return 0, err
	}
	force := c.opts.on("force")
	err = e.DeleteDetached(ctx, c.args[0], force)
	var not *engine.Error
	if force && errors.As(err, &not) && not.Kind == engine.NotFound {
		return 0, nil
	}
	return 0, err
}
