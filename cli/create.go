package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/engine"
)

func create(ctx context.Context, c *call) (int, error) {
	var r engine.CreateRequest
	if err := c.begin(&r); err != nil {
		return 0, err
	}
	defer r.Begun.Close()
	i := newInterruption(ctx)
	defer i.stop()
	e, err := c.engine()
	if err != nil {
		return 0, err
	}
	_, _, err = c.create(i, e, r, true)
	return 0, err
}

// begin begins with the container that the operands and options ask for.
func (c *call) begin(r *engine.CreateRequest) error {
	if err := c.request(r); err != nil {
		return err
	}
	return engine.Begin(r)
}

// create makes the container that was begun with. detach: this process does not stay with it. The caller
// owns the master of its terminal, nil if that was sent away or there is none.
func (c *call) create(ctx *interruption, e *engine.Engine, r engine.CreateRequest, detach bool) (*engine.Detached, *os.File, error) {
	fds, err := c.inheritedFDs()
	if err != nil {
		return nil, nil, err
	}
	h := handover{c: c, detach: detach}
	defer h.close()
	r.Preserve = fds.count()
	r.Notify = os.Getenv(notifySocketEnv) != ""
	look := r.Edit
	r.Edit = func(s *specs.Spec) error {
		if look != nil {
			if err := look(s); err != nil {
				return err
			}
		}
		if s.Process == nil {
			return h.connect(false)
		}
		s.Process.Env = append(s.Process.Env, fds.environment()...)
		return h.connect(s.Process.Terminal)
	}
	d, err := e.CreateDetached(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	if c.opts.on("trace") {
		fmt.Fprint(c.Err, d.Trace())
	}
	if r.Trace {
		c.log.debug(d.Trace())
	}
	console, err := h.deliver(d.TakeConsole(), d.Pid(), d.Pidfd)
	if err != nil {
		return nil, nil, errors.Join(err, d.Delete(context.WithoutCancel(ctx), true))
	}
	return d, console, nil
}

// request fills in what operands and options say.
func (c *call) request(r *engine.CreateRequest) (err error) {
	r.ID, r.Bundle, r.Config = c.args[0], c.opts.or("bundle", "."), c.opts.text("config")
	if len(c.args) > 1 {
		if c.opts.has("bundle") {
			return usagef("the bundle is given twice: %s and %s", r.Bundle, c.args[1])
		}
		r.Bundle = c.args[1]
	}
	r.Stdio = engine.Stdio{In: c.In, Out: c.Out, Err: c.Streams.Err}
	r.NoPivotRoot, r.NoNewKeyring, r.Trace = c.opts.on("no-pivot"), c.opts.on("no-new-keyring"), c.opts.on("trace") || c.log.debugs()
	for _, p := range []*string{&r.Bundle, &r.Config} {
		if *p != "" {
			if *p, err = filepath.Abs(*p); err != nil {
				return err
			}
		}
	}
	return c.cgroupManager(r)
}

// cgroupManager fills in who makes the cgroup, and whether one is made.
func (c *call) cgroupManager(r *engine.CreateRequest) error {
	switch v := c.global.or("rootless", "auto"); v {
	case "auto":
	case "true":
		r.Cgroups = engine.CgroupsOptional
	case "false":
		r.Cgroups = engine.CgroupsRequired
	default:
		return usagef("option --rootless: %q is none of true, false and auto", v)
	}
	switch manager := c.global.or("cgroup-manager", "cgroupfs"); manager {
	case "cgroupfs":
		r.SystemdCgroup = c.global.on("systemd-cgroup")
	case "systemd":
		r.SystemdCgroup = true
	case "disabled":
		r.Cgroups = engine.CgroupsDisabled
	default:
		return usagef("option --cgroup-manager: %q is not supported; cgroupfs, systemd and disabled are", manager)
	}
	return nil
}
