package cgroup

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errNoFreezer says that nothing on this host can freeze the cgroup.
var errNoFreezer = errors.New("neither the freezer cgroup nor cgroup2 is mounted")

// Freeze stops every process of the cgroup and returns when all have stopped. When ctx ends before, it thaws them.
//
// It uses the cgroup2 tree on hybrid hosts too: that freezer says when it is done, and leaves its processes killable.
func (c *Cgroup) Freeze(ctx context.Context) error {
	var err error
	switch {
	case c.None():
		return ErrNone
	case c.unified != "":
		err = c.freezeV2(ctx)
	case c.dir("freezer") != "":
		err = freezeV1(ctx, c.dir("freezer")+"/freezer.state")
	default:
		err = errNoFreezer
	}
	if err != nil {
		_ = c.Thaw() // half a container must not stay frozen; the first error is the one to tell
		return fmt.Errorf("freeze cgroup %s: %w", c.reference().path, err)
	}
	return nil
}

// FreezerDir returns the directory by which Freeze stops the processes, "" when nothing can.
func (c *Cgroup) FreezerDir() string {
	if c.unified != "" {
		return c.unified
	}
	return c.dir("freezer")
}

func (c *Cgroup) freezeV2(ctx context.Context) error {
	if err := writeFile(c.unified+"/cgroup.freeze", "1"); err != nil {
		return err
	}
	return c.waitEvents(ctx, func(events string) bool { return lookup(events, "frozen") == 1 })
}

// freezeV1 freezes by the v1 controller, which does not tell when it is done and, while processes appear in the cgroup, may
// have to be asked again.
func freezeV1(ctx context.Context, file string) error {
	for delay := 20 * time.Microsecond; ; delay = min(2*delay, 10*time.Millisecond) {
		if err := writeFile(file, "FROZEN"); err != nil {
			return err
		}
		state, err := readFile(file)
		if err != nil || state == "FROZEN" {
			return err
		}
		if err := sleep(ctx, delay); err != nil {
			return err
		}
	}
}

// sleep is for the few states that the kernel does not signal.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Thaw lets the processes of the cgroup go on. That they are not frozen, or the cgroup is gone, is no error.
func (c *Cgroup) Thaw() error {
	var errs []error
	if c.unified != "" {
		errs = append(errs, writeFile(c.unified+"/cgroup.freeze", "0"))
	}
	errs = append(errs, c.thawV1())
	for i, err := range errs {
		if gone(err) {
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// thawV1 thaws the v1 freezer, in which SIGKILL has no effect until then.
func (c *Cgroup) thawV1() error {
	path := c.dir("freezer")
	if path == "" {
		return nil
	}
	return writeFile(path+"/freezer.state", "THAWED")
}

// Frozen reports whether the cgroup itself (not one above it) is frozen, or is about to be.
func (c *Cgroup) Frozen() (bool, error) {
	if c.unified != "" {
		state, err := readFile(c.unified + "/cgroup.freeze")
		if err != nil || state == "1" {
			return state == "1", err
		}
	}
	path := c.dir("freezer")
	if path == "" {
		return false, nil
	}
	state, err := readFile(path + "/freezer.self_freezing")
	return state == "1", err
}

// removalCheck is how often waitEvents looks whether the directory is gone.
const removalCheck = 200 * time.Millisecond

// waitEvents waits until cgroup.events of the cgroup2 directory satisfies done, or the directory is gone.
func (c *Cgroup) waitEvents(ctx context.Context, done func(events string) bool) error {
	path := c.unified + "/cgroup.events"
	check := func() (bool, error) {
		events, err := readFile(path)
		if gone(err) {
			return true, nil
		}
		return err == nil && done(events), err
	}
	if ok, err := check(); ok || err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	cancel, err := c.host.watch.onModify(path, notify(changed))
	if err != nil {
		if gone(err) {
			return nil
		}
		return err
	}
	defer cancel()
	for {
		if ok, err := check(); ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-time.After(removalCheck): // nothing tells of that
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// notify returns a function that leaves one token in a channel.
func notify(ch chan<- struct{}) func() {
	return func() {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
