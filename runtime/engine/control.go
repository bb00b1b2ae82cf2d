package engine

import (
	"context"
	"errors"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/lifecycle"
)

// Kill sends a signal to init (execID "") or an exec; all: to every process of the container's cgroup.
//
// It does not wait for the driver: a container can be killed whatever else is going on.
func (c *Container) Kill(ctx context.Context, execID string, signal uint32, all bool) error {
	sig := unix.Signal(signal)
	if sig == unix.SIGKILL {
		c.killed.Store(true)
	}
	if signal > 64 {
		return errorf(InvalidArgument, nil, "signal %d: there is none of that number", signal)
	}
	if all && execID == "" {
		if err := refuse(c.currentState(), lifecycle.KillAll); err != nil {
			return err
		}
		if c.cgroup.None() {
			return explain(c.members().signal(sig))
		}
		if sig == unix.SIGKILL {
			return explain(c.cgroup.Kill(ctx))
		}
		return explain(c.cgroup.Signal(sig))
	}
	c.mu.RLock()
	err := c.killLocked(execID, sig)
	paused := c.state == lifecycle.Paused
	c.mu.RUnlock()
	if err == nil && paused && sig == unix.SIGKILL {
		// On cgroup v1 a frozen process does not even die.
		return explain(c.cgroup.Thaw())
	}
	return err
}

func (c *Container) killLocked(execID string, sig unix.Signal) error {
	p := c.init
	if execID == "" {
		if err := refuse(c.state, lifecycle.Kill); err != nil {
			return err
		}
	} else if p = c.execs[execID]; p == nil {
		return noProcess(execID)
	}
	switch {
	case p.status == StatusStopped:
		return errorf(NotFound, nil, "process already finished")
	case p.child == nil:
		return errorf(FailedPrecondition, nil, "process not created")
	}
	if err := p.child.Signal(sig); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return errorf(NotFound, err, "process already finished")
		}
		return errorf(Internal, err, "signal %d to process %d: %v", sig, p.pid, err)
	}
	return nil
}

func noProcess(execID string) error {
	return errorf(NotFound, nil, "process does not exist %s", execID)
}

// Pause freezes every process of the container; Resume thaws them.
func (c *Container) Pause(ctx context.Context) error {
	return c.mail.ask(ctx, func(answer func(error)) {
		if err := refuse(c.currentState(), lifecycle.Pause); err != nil {
			answer(err)
			return
		}
		c.publish(func() { c.pausing = true })
		err := c.cgroup.Freeze(ctx)
		c.publish(func() {
			c.pausing = false
			if err == nil {
				c.state = lifecycle.Paused
			}
		})
		if err != nil {
			answer(errorf(Internal, errors.Join(err, c.cgroup.Thaw()), "pause: %v", err))
			return
		}
		c.engine.emit(Event{Kind: Paused, Container: c.id, Pid: c.init.pid})
		answer(nil)
	})
}

// Resume thaws the processes of a paused container.
func (c *Container) Resume(ctx context.Context) error {
	return c.mail.ask(ctx, func(answer func(error)) {
		if err := refuse(c.currentState(), lifecycle.Resume); err != nil {
			answer(err)
			return
		}
		if err := c.cgroup.Thaw(); err != nil {
			answer(errorf(Internal, err, "resume: %v", err))
			return
		}
		c.publish(func() { c.state = lifecycle.Running })
		c.engine.emit(Event{Kind: Resumed, Container: c.id, Pid: c.init.pid})
		answer(nil)
	})
}

// Update changes resource limits of the live container; nil fields stay.
func (c *Container) Update(ctx context.Context, r *specs.LinuxResources) error {
	return c.mail.ask(ctx, func(answer func(error)) {
		err := refuse(c.currentState(), lifecycle.Update)
		if err == nil {
			err = explain(c.cgroup.Set(r))
		}
		answer(err)
	})
}
