package task

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/config"
	api "github.com/gosuda/gosudacon/shim/internal/taskapi"
	"github.com/gosuda/gosudacon/shim/stdio"
)

// Create makes a container as far as `created`. After an error nothing is left of it, and no event tells of it.
func (s *Service) Create(ctx context.Context, r *api.CreateTaskRequest) (*api.PidResponse, error) {
	options, err := decodeOptions(r)
	if err != nil {
		return nil, err
	}
	t := &task{
		id:      r.ID,
		bundle:  r.Bundle,
		options: options,
		created: encodeCreate(r),
		settled: make(chan struct{}),
		init:    &process{stdin: r.Stdin, stdout: r.Stdout, stderr: r.Stderr, terminal: r.Terminal},
	}
	if err := s.reserve(t); err != nil {
		return nil, err
	}
	defer close(t.settled)
	c, err := s.create(ctx, t, r)
	if err != nil {
		s.abandon(t)
		return nil, neverNotImplemented(err)
	}
	s.keep()
	t.setReady(c, func(e engine.Event) { s.publishLocked(t, e) })
	return &api.PidResponse{Pid: uint32(c.Pid())}, nil
}

func decodeOptions(r *api.CreateTaskRequest) (config.Options, error) {
	if len(r.Options.Value) == 0 {
		return config.Options{}, nil
	}
	o, err := config.Decode(r.Options.TypeURL, r.Options.Value)
	if err != nil {
		return config.Options{}, &engine.Error{Kind: engine.InvalidArgument, Msg: err.Error(), Err: err}
	}
	return o, nil
}

// create makes the container and connects its stdio, or undoes what it did.
func (s *Service) create(ctx context.Context, t *task, r *api.CreateTaskRequest) (_ *engine.Container, err error) {
	t.engine, err = s.engineAt(t.options.StateRoot(s.cfg.Namespace))
	if err != nil {
		return nil, err
	}
	if t.options != (config.Options{}) { // `delete` assumes the defaults
		if err := config.WriteBundle(t.bundle, t.options); err != nil {
			return nil, err
		}
	}
	o, err := stdio.Open(ctx, t.init.config(t, &s.cfg))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			o.Close()
		}
	}()
	request := engine.CreateRequest{
		ID:            t.id,
		Bundle:        t.bundle,
		Stdio:         ends(o),
		Terminal:      t.init.terminal,
		NoPivotRoot:   t.options.NoPivotRoot,
		NoNewKeyring:  t.options.NoNewKeyring,
		SystemdCgroup: t.options.SystemdCgroup,
		Trace:         t.options.Trace != "",
		Restore:       restoreFrom(t, r.Checkpoint),
		Edit:          s.podEdit(),
	}
	for _, m := range r.Rootfs {
		request.Rootfs = append(request.Rootfs, engine.RootfsMount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	c, err := t.engine.Create(ctx, request)
	if err != nil {
		return nil, ofRuntime("OCI runtime create failed", err)
	}
	o.CloseContainerEnds()
	if t.init.terminal && request.Restore == nil {
		if err := o.AttachConsole(c.TakeConsole()); err != nil {
			_, undoErr := c.Delete(context.WithoutCancel(ctx))
			return nil, errors.Join(err, undoErr)
		}
	}
	t.init.attach(o)
	s.trace(t, c)
	return c, nil
}

// trace appends the launch plan to the file that the runtime options name.
func (s *Service) trace(t *task, c *engine.Container) {
	if t.options.Trace == "" {
		return
	}
	f, err := os.OpenFile(t.options.Trace, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(f, "container %s\n%s\n", t.id, c.Trace())
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		s.cfg.Log.Warn("write trace", "container", t.id, "error", err)
	}
}

// neverNotImplemented turns that code into another one, with the same text. containerd takes it for an older API.
func neverNotImplemented(err error) error {
	var e *engine.Error
	if errors.As(err, &e) && e.Kind == engine.NotImplemented {
		return &engine.Error{Kind: engine.FailedPrecondition, Msg: err.Error(), Err: err}
	}
	return err
}
