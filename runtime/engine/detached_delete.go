package engine

import (
	"context"

	"github.com/gosuda/gosudacon/runtime/internal/lifecycle"
	"github.com/gosuda/gosudacon/runtime/internal/store"
)

// DeleteDetached removes a detached container: one that is stopped or was never started, with force also one that lives.
// Whatever is left in its cgroup is killed first, and the poststop hooks run last. It works on what a dead creator left
// behind; after an error it can be called again. NotFound says that there is nothing.
func (e *Engine) DeleteDetached(ctx context.Context, id string, force bool) error {
	dir, err := store.Find(e.opts.Root, id)
	if err != nil {
		return errorf(InvalidArgument, err, "%v", err)
	}
	d := &Detached{engine: e, id: id, dir: dir}
	if err := d.takeLock(); err != nil {
		return err
	}
	defer d.release()
	if err := d.read(); isKind(err, NotFound) {
		// Nothing was recorded, so nothing was made but the directory.
		if err := dir.RemoveDir(); err != nil {
			return errorf(Internal, err, "delete: remove state: %v", err)
		}
		return errGone
	} else if err != nil {
		return err
	}
	return d.delete(ctx, force)
}

func (d *Detached) delete(ctx context.Context, force bool) error {
	if !force {
		state, err := d.state()
		if err != nil {
			return err
		}
		if lifecycle.Decide(state, lifecycle.Delete) != lifecycle.Allowed {
			return errorf(FailedPrecondition, nil, "cannot delete container %s that is not stopped: %s", d.id, state)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupTime)
	defer cancel()
	if err := removeRecorded(ctx, d.record, d.engine.hostCgroups); err != nil {
		return errorf(Internal, err, "delete: %v", err)
	}
	if d.child != nil && !d.waited {
		d.Wait() // killed: it is ours to reap
	}
	d.child = nil
	d.closeGate()
	if f := d.TakeConsole(); f != nil {
		f.Close()
	}
	if err := poststop(context.WithoutCancel(ctx), d.record, d.engine.StartChild); err != nil {
		d.engine.opts.Log.Warn("hook failed", "container", d.id, "error", err)
	}
	if err := d.dir.RemoveDir(); err != nil {
		return errorf(Internal, err, "delete: remove state: %v", err)
	}
	return nil
}

// Delete removes the container; see Engine.DeleteDetached.
func (d *Detached) Delete(ctx context.Context, force bool) error {
	return d.locked(func() error { return d.delete(ctx, force) })
}
