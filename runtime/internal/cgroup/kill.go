package cgroup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Kill kills every process of the cgroup and of its children, frozen or not and however fast they fork, and returns when
// none is left. That the cgroup is gone is no error.
func (c *Cgroup) Kill(ctx context.Context) error {
	if err := c.refuseOwn(); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	if err := c.kill(ctx); err != nil {
		return fmt.Errorf("kill cgroup %s: %w", c.reference().path, err)
	}
	return nil
}

func (c *Cgroup) kill(ctx context.Context) error {
	if c.unified != "" && !c.empty() {
		switch err := c.killUnified(ctx); {
		case errors.Is(err, unix.EOPNOTSUPP): // the container made it threaded
			if err := c.killByOne(ctx, c.reference()); err != nil {
				return err
			}
		case err != nil && !gone(err):
			return err
		}
	}
	if len(c.dirs) == 0 {
		return nil
	}
	// Without a cgroup2 tree these are all processes; with one, those that were moved by hand.
	return c.killByOne(ctx, c.referenceV1())
}

// empty reports whether the cgroup2 directory has no processes, as most do that are killed only to make sure.
func (c *Cgroup) empty() bool {
	events, err := readFile(c.unified + "/cgroup.events")
	return gone(err) || err == nil && lookup(events, "populated") == 0
}

// killUnified has the kernel kill all at once (Linux 5.14).
func (c *Cgroup) killUnified(ctx context.Context) error {
	if err := writeFile(c.unified+"/cgroup.kill", "1"); err != nil {
		return err
	}
	if err := c.thawV1(); err != nil && !gone(err) {
		return err
	}
	return c.waitEvents(ctx, func(events string) bool { return lookup(events, "populated") == 0 })
}

// killByOne kills what a directory lists until it lists nothing. Between two lists the v1 freezer, if there is one, keeps
// processes from forking away.
func (c *Cgroup) killByOne(ctx context.Context, d dir) error {
	for {
		pids, err := pidsBelow(d.path)
		if gone(err) || err == nil && len(pids) == 0 {
			return nil
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		freezer := c.dir("freezer")
		if freezer != "" {
			_ = writeFile(freezer+"/freezer.state", "FROZEN") // if it fails, more rounds are needed
		}
		err = c.signalAll(d, unix.SIGKILL)
		if thawErr := c.thawV1(); thawErr != nil && !gone(thawErr) {
			return thawErr
		}
		if err != nil && !gone(err) {
			return err
		}
		if err := c.waitExit(ctx, d, pids[0]); err != nil {
			return fmt.Errorf("%d processes left: %w", len(pids), err)
		}
	}
}

// Signal sends a signal to every process of the cgroup and of its children. SIGKILL reaches frozen ones as well.
func (c *Cgroup) Signal(sig unix.Signal) error {
	if err := cmp.Or(c.ask(), c.refuseOwn()); err != nil {
		return fmt.Errorf("signal: %w", err)
	}
	err := c.signal(sig)
	if err != nil {
		return fmt.Errorf("signal cgroup %s: %w", c.reference().path, err)
	}
	return nil
}

func (c *Cgroup) signal(sig unix.Signal) error {
	if sig != unix.SIGKILL {
		return c.signalAll(c.reference(), sig)
	}
	err := error(unix.EOPNOTSUPP) // also of a cgroup that the container made threaded
	if c.unified != "" {
		err = writeFile(c.unified+"/cgroup.kill", "1")
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = c.signalAll(c.reference(), sig)
	}
	return errors.Join(err, c.thawV1())
}

// signalRounds bounds how often signalAll looks for processes that were forked meanwhile.
const signalRounds = 64

// signalAll signals what a directory lists, and what it lists then, until there is nothing new.
func (c *Cgroup) signalAll(d dir, sig unix.Signal) error {
	signalled := make(map[int]bool)
	for range signalRounds {
		pids, err := pidsBelow(d.path)
		if err != nil {
			return err
		}
		before := len(signalled)
		for _, pid := range pids {
			if signalled[pid] {
				continue
			}
			signalled[pid] = true
			if err := c.signalOne(d, pid, sig); err != nil {
				return err
			}
		}
		if len(signalled) == before {
			return nil
		}
	}
	return nil
}

// signalOne signals a process if it is still the one that the directory listed.
func (c *Cgroup) signalOne(d dir, pid int, sig unix.Signal) error {
	fd, err := c.member(d, pid)
	if fd < 0 || err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if err != nil && err != unix.ESRCH {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	return nil
}

// member opens a process by its pidfd, owned by the caller, and -1 if it is not, or no more, below the directory: a
// pid that was read may be another process's by now.
func (c *Cgroup) member(d dir, pid int) (int, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH || err == unix.EINVAL { // ended, or the id of a thread
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("open process %d: %w", pid, err)
	}
	path, err := c.host.dirOf(pid, d.mount)
	if err != nil || !within(path, d.path) {
		unix.Close(fd)
		return -1, nil
	}
	return fd, nil
}

// waitExit waits until a process of the directory has ended.
func (c *Cgroup) waitExit(ctx context.Context, d dir, pid int) error {
	fd, err := c.member(d, pid)
	if fd < 0 || err != nil {
		return err
	}
	defer unix.Close(fd)
	ended := make(chan struct{}, 1)
	cancel, err := c.host.watch.onReadable(fd, notify(ended))
	if err != nil {
		return err
	}
	defer cancel()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Remove kills every process of the cgroup and of its children, removes them all, and releases what Close does; see Kill and
// Destroy.
func (c *Cgroup) Remove(ctx context.Context) error {
	if c.removeEmpty() {
		return nil
	}
	if err := c.Kill(ctx); err != nil {
		return err
	}
	return c.Destroy(ctx)
}

// removeEmpty removes the cgroup's directories if nothing is in them, as mostly: it takes less time than to look. It reports
// whether all are gone.
func (c *Cgroup) removeEmpty() bool {
	if c.unit != "" || c.refuseOwn() != nil {
		return false
	}
	c.Close()
	return !slices.ContainsFunc(c.all(), func(path string) bool { return rmdir(path) != nil })
}

// Destroy removes the cgroup, its children too, and returns when it is gone; what keeps it busy is waited for until ctx
// ends. It can be repeated, and that nothing is there is no error. Directories above the cgroup stay: others may be about
// to use them.
func (c *Cgroup) Destroy(ctx context.Context) error {
	c.Close()
	var errs []error
	if c.unit != "" {
		errs = append(errs, c.stopUnit(ctx))
	}
	if c.unified != "" { // first, since it can tell when the processes are gone
		errs = append(errs, c.remove(ctx, dir{mount: c.host.Unified, path: c.unified}))
	}
	for _, d := range c.dirs {
		errs = append(errs, c.remove(ctx, d))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("destroy cgroup: %w", err)
	}
	return nil
}

// remove removes one directory and those below it.
func (c *Cgroup) remove(ctx context.Context, d dir) error {
	for delay := time.Millisecond; ; delay = min(2*delay, 100*time.Millisecond) {
		err := rmdir(d.path)
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		names, err := children(d.path)
		if err != nil && !gone(err) {
			return err
		}
		for _, name := range names {
			if err := c.remove(ctx, dir{mount: d.mount, path: d.path + "/" + name}); err != nil {
				return err
			}
		}
		if len(names) > 0 {
			continue
		}
		if err := c.waitIdle(ctx, d, delay); err != nil {
			return fmt.Errorf("remove %s: %w", d.path, err)
		}
	}
}

// waitIdle waits for a reason to try again to remove a busy directory.
func (c *Cgroup) waitIdle(ctx context.Context, d dir, delay time.Duration) error {
	if d.path == c.unified {
		if err := c.waitEvents(ctx, func(events string) bool { return lookup(events, "populated") == 0 }); err != nil {
			return err
		}
	}
	pids, err := pidsBelow(d.path)
	if err != nil || len(pids) == 0 {
		// Processes that have ended, but are not yet out of the way, are not listed.
		return sleep(ctx, delay)
	}
	return c.waitExit(ctx, d, pids[0])
}
