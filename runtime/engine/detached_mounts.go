package engine

import (
	"context"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// AddMounts makes mounts in the live container as if config.json had them. Relative sources are below the bundle. On an error the
// mounts before the one that it names stay.
func (d *Detached) AddMounts(ctx context.Context, list []specs.Mount) error {
	return d.changeMounts(ctx, func(spec *specs.Spec) (*plan.Plan, error) {
		return plan.CompileMounts(spec, d.record.Bundle, list, d.engine.facts(d.group()))
	})
}

// RemoveMounts takes away the topmost mounts on the destinations of a list, the last first.
func (d *Detached) RemoveMounts(ctx context.Context, list []specs.Mount) error {
	return d.changeMounts(ctx, func(spec *specs.Spec) (*plan.Plan, error) { return plan.CompileUnmounts(spec, list) })
}

// changeMounts runs a plan that ends with plan.End in the container's mount namespace.
func (d *Detached) changeMounts(ctx context.Context, compile func(*specs.Spec) (*plan.Plan, error)) error {
	if !d.engine.host.Mounts {
		return errorf(FailedPrecondition, nil, "change mounts: takes a runtime that may mount, which an ordinary user's may not")
	}
	return d.locked(func() error {
		spec, err := d.Config()
		if err != nil {
			return err
		}
		init, err := d.openInit()
		if err != nil {
			return err
		}
		defer unix.Close(init)
		p, err := compile(spec)
		if err != nil {
			return errorf(InvalidArgument, err, "%v", err)
		}
		d.engine.logRemarks(p, "container", d.id)
		res := d.engine.resources(Stdio{})
		res.ContainerPidfd = init
		if res.InitRoot, err = unix.Open(procRoot(d.record.Pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return errorf(Internal, err, "open %s: %v", procRoot(d.record.Pid), err)
		}
		defer unix.Close(res.InitRoot)
		ch, err := launch.Start(ctx, p, res)
		if err != nil {
			return explain(err)
		}
		if exit, err := waitFor(ch.Process); err != nil || exit.Status != 0 {
			return errorf(Internal, err, "change mounts: exit status %d, %v", exit.Status, err)
		}
		return nil
	})
}
