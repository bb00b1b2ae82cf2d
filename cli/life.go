package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/internal/pattern"
	"github.com/gosuda/gosudacon/runtime/engine"
)

func start(ctx context.Context, c *call) (int, error) {
	d, err := c.open()
	if err != nil {
		return 0, err
	}
	if d.StartForks() {
		if err := c.seal(); err != nil {
			return 0, err
		}
	}
	if err := startAndNotify(ctx, d); err != nil || !c.opts.on("trace") && !c.log.debugs() {
		return 0, err
	}
	text, err := d.TraceStart()
	if err != nil {
		return 0, err
	}
	c.log.debug(text)
	if c.opts.on("trace") {
		return 0, write(c.Err, text)
	}
	return 0, nil
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
	return 0, c.each(func(e *engine.Engine, id string) error {
		d, err := e.Open(id)
		if err != nil {
			return err
		}
		sig := unix.SIGTERM
		if len(c.args) > 1 {
			if sig, err = parseSignal(c.args[1]); err != nil {
				return err
			}
		}
		all := c.opts.on("all")
		err = d.Kill(ctx, sig, all)
		if all && errors.Is(err, engine.ErrNotRunning) {
			return nil // as with runc: callers make sure that nothing is left
		}
		return err
	})
}

// each does something with the container of the first operand or, with --regex, with all whose id that matches, also when
// it fails for one.
func (c *call) each(do func(e *engine.Engine, id string) error) error {
	var ids *pattern.Pattern
	if c.opts.on("regex") {
		var err error
		if ids, err = pattern.Compile(c.args[0]); err != nil {
			return usagef("option --regex: %v", err)
		}
	}
	e, err := c.engine()
	if err != nil {
		return err
	}
	if ids == nil {
		return do(e, c.args[0])
	}
	list, err := e.List()
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range list {
		if ids.Match(d.ID()) {
			if err := do(e, d.ID()); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", d.ID(), err))
			}
		}
	}
	return errors.Join(errs...)
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
	force := c.opts.on("force")
	return 0, c.each(func(e *engine.Engine, id string) error {
		err := e.DeleteDetached(ctx, id, force)
		var not *engine.Error
		if force && errors.As(err, &not) && not.Kind == engine.NotFound {
			return nil
		}
		return err
	})
}
