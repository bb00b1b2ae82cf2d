package cgroup

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// OOMKills returns how many processes of the cgroup and of its children the OOM killer has killed so far; 0 without a
// memory controller. v1 forgets those of child cgroups that are removed.
func (c *Cgroup) OOMKills() (uint64, error) {
	if c.host.home("memory") != V1 {
		data, err := readFile(c.unified + "/memory.events")
		if os.IsNotExist(err) {
			return 0, nil // the controller is not enabled there
		}
		return lookup(data, "oom_kill"), err
	}
	var kills uint64
	err := walk(c.dir("memory"), func(dir string) error { // v1 counts for the killed process's own cgroup only
		data, err := readFile(dir + "/memory.oom_control")
		kills += lookup(data, "oom_kill")
		return err
	})
	return kills, err
}

// WatchOOM calls fn with the number of processes that the OOM killer has killed since the last call, or since WatchOOM, each
// time that there are some; never for an out-of-memory condition that killed nobody. Calls do not overlap; fn must not
// block and must not call stop.
//
// stop ends that. It looks once more and calls fn itself for kills not yet told of, so that after it no kill is missed: call
// it when the container's last process has ended, before the cgroup is destroyed.
func (c *Cgroup) WatchOOM(fn func(kills uint64)) (stop func(), err error) {
	w := &oomWatch{cgroup: c, fn: fn}
	if w.seen, err = c.OOMKills(); err != nil {
		return nil, err
	}
	cancel := func() {}
	switch {
	case c.host.home("memory") == V1:
		cancel, err = w.watchV1()
	case c.host.home("memory") == V2:
		cancel, err = c.host.watch.onModify(c.unified+"/memory.events", w.check)
		if os.IsNotExist(err) {
			return func() {}, nil // the controller is not enabled there
		}
	}
	if err != nil {
		return nil, fmt.Errorf("watch for OOM kills: %w", err)
	}
	w.check() // what was between the first look and now
	return sync.OnceFunc(func() {
		cancel()
		w.stop()
	}), nil
}

// oomWatch tells of kills.
type oomWatch struct {
	cgroup *Cgroup
	fn     func(uint64)

	mu      sync.Mutex
	seen    uint64
	stopped bool
	retry   *time.Timer // v1 only
}

func (w *oomWatch) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checkLocked()
}

// checkLocked tells of kills not told of before. It reports whether there were any, or cannot be any more.
func (w *oomWatch) checkLocked() bool {
	if w.stopped {
		return true
	}
	kills, err := w.cgroup.OOMKills()
	if err != nil {
		return true // the cgroup is gone
	}
	before := w.seen
	w.seen = kills // less than before when a child cgroup was removed
	if kills <= before {
		return false
	}
	w.fn(kills - before)
	return true
}

func (w *oomWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checkLocked()
	w.stopped = true
	if w.retry != nil {
		w.retry.Stop()
	}
}

// watchV1 has the kernel signal an eventfd when the cgroup is out of memory.
func (w *oomWatch) watchV1() (cancel func(), err error) {
	path := w.cgroup.dir("memory")
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	defer func() {
		if err != nil {
			unix.Close(event)
		}
	}()
	control, err := open(path+"/memory.oom_control", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(control) // the registration keeps it
	if err := writeFile(path+"/cgroup.event_control", fmt.Sprintf("%d %d", event, control)); err != nil {
		return nil, err
	}
	// Each signal is an edge, whether or not the counter was read since the last.
	unwatch, err := w.cgroup.host.watch.onReadable(event, func() { w.afterOOM(firstRetry) })
	if err != nil {
		return nil, err
	}
	return func() {
		unwatch()
		unix.Close(event) // ends the registration
	}, nil
}

// v1 signals before it chooses whom to kill, if anybody, and nothing afterwards: look again, for half a second in all.
const (
	firstRetry = time.Millisecond
	lastRetry  = 256 * time.Millisecond
)

func (w *oomWatch) afterOOM(delay time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.checkLocked() || delay > lastRetry {
		return
	}
	if w.retry != nil {
		w.retry.Stop()
	}
	w.retry = time.AfterFunc(delay, func() { w.afterOOM(2 * delay) })
}
