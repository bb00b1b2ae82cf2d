package cgroup

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/sys"
)

// OOMKills returns how many processes of the cgroup and of its children the OOM killer has killed so far; 0 without a
// memory controller. v1 forgets those of child cgroups that are removed.
func (c *Cgroup) OOMKills() (uint64, error) {
	kills, _, err := c.oomCounts()
	return kills, err
}

// oomCounts returns, beside OOMKills, how often the cgroup was out of memory, which on v2 is counted before anybody is
// killed; 0 on v1.
func (c *Cgroup) oomCounts() (kills, ooms uint64, err error) {
	if !c.has("memory") {
		return 0, 0, nil
	}
	if c.host.home("memory") != V1 {
		data, err := readFile(c.unified + "/memory.events")
		if os.IsNotExist(err) {
			return 0, 0, nil // the controller is not enabled there
		}
		return lookup(data, "oom_kill"), lookup(data, "oom"), err
	}
	err = walk(c.dir("memory"), func(dir string) error { // v1 counts for the killed process's own cgroup only
		data, err := readFile(dir + "/memory.oom_control")
		kills += lookup(data, "oom_kill")
		return err
	})
	return kills, 0, err
}

// WatchOOM calls fn with the number of processes that the OOM killer has killed since the last call, or since WatchOOM, each
// time that there are some; never for an out-of-memory condition that killed nobody. Calls do not overlap; fn must not
// block and must not call stop.
//
// stop ends that. It looks once more and calls fn itself for kills not yet told of, so that after it no kill is missed: call
// it when the container's last process has ended, before the cgroup is destroyed. killed says that this one died by a SIGKILL
// that nobody is known to have sent: systemd removes a scope at once, with what it has counted, and then that, together
// with a kill counted by the directory above (v2) or an out-of-memory condition just before (v1), has to do as evidence.
func (c *Cgroup) WatchOOM(fn func(kills uint64)) (stop func(killed bool), err error) {
	if !c.has("memory") {
		return func(bool) {}, nil
	}
	w := &oomWatch{cgroup: c, fn: fn, event: -1}
	w.above = w.killsAbove() // of others, before us
	if w.seen, _, err = c.oomCounts(); err != nil {
		return nil, err
	}
	cancel := func() {}
	switch {
	case c.host.home("memory") == V1:
		cancel, err = w.watchV1()
	case c.host.home("memory") == V2:
		cancel, err = c.host.watch.onModify(c.unified+"/memory.events", w.changed)
		if os.IsNotExist(err) {
			return func(bool) {}, nil // the controller is not enabled there
		}
	}
	if err != nil {
		return nil, fmt.Errorf("watch for OOM kills: %w", err)
	}
	// Kills between the first look and now are told with the next, or by stop.
	var once sync.Once
	return func(killed bool) {
		once.Do(func() {
			cancel()
			w.stop(killed)
		})
	}, nil
}

// oomWatch tells of kills.
type oomWatch struct {
	cgroup *Cgroup
	fn     func(uint64)

	mu      sync.Mutex
	seen    uint64 // kills
	ooms    uint64
	above   uint64    // kills that the directory above the scope had counted when we last looked (v2)
	low     time.Time // when the cgroup was last out of memory (v1)
	told    time.Time // when a kill was last told of
	event   int       // eventfd that v1 signals, or -1
	stopped bool
	retry   *time.Timer
}

// changed follows a change of memory.events. The kernel signals the first change and then none for 10 ms, and what comes
// first is that the cgroup is out of memory, not the kill: when that is of the last process, systemd removes the cgroup
// before the kill is signalled. So look again soon.
func (w *oomWatch) changed() {
	w.mu.Lock()
	before := w.ooms
	told, _ := w.checkLocked()
	more := w.ooms > before
	w.mu.Unlock()
	if more && !told {
		w.afterOOM(firstRetry)
	}
}

// checkLocked tells of kills not told of before, and reports whether there were any, and whether there can be no more
// because the cgroup is gone.
func (w *oomWatch) checkLocked() (told, gone bool) {
	if w.stopped {
		return false, true
	}
	if w.cgroup.removed() {
		return false, true // and what was signalled is for stop to see
	}
	if w.signals() > 0 {
		w.low = time.Now()
	}
	above := w.killsAbove() // before the others: what is counted between the two is not to be missed
	kills, ooms, err := w.cgroup.oomCounts()
	if err != nil || w.cgroup.removed() {
		return false, true
	}
	before := w.seen
	w.seen, w.ooms, w.above = kills, ooms, above // kills is less than before when a child cgroup was removed (v1)
	if kills <= before {
		return false, false
	}
	w.fn(kills - before)
	w.above, w.told = w.killsAbove(), time.Now() // these are told
	return true, false
}

// removed reports whether systemd has taken the cgroup away.
func (c *Cgroup) removed() bool { return c.unit != "" && !exists(c.reference().path) }

// killsAbove returns how many kills the directory above a scope has counted, which include the scope's also when that is
// gone. v1 counts for each directory alone.
func (w *oomWatch) killsAbove() uint64 {
	if w.cgroup.unit == "" || w.cgroup.host.home("memory") != V2 {
		return 0
	}
	data, err := readFile(filepath.Dir(w.cgroup.unified) + "/memory.events")
	if err != nil {
		return 0
	}
	return lookup(data, "oom_kill")
}

func (w *oomWatch) stop(killed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, gone := w.checkLocked()
	w.stopped = true
	if w.retry != nil {
		w.retry.Stop()
	}
	if gone && killed && w.cgroup.unit != "" && (w.killsAbove() > w.above || w.lowLocked()) {
		w.fn(1)
	}
	if w.event >= 0 {
		unix.Close(w.event) // ends the registration
	}
}

// lowLocked reports whether the cgroup of v1, which is gone, was out of memory just before, and not for a kill that was
// told of: there are several signals for one kill. The removal is signalled as well, some time later.
func (w *oomWatch) lowLocked() bool {
	if w.event < 0 || time.Since(w.told) < time.Second {
		return false
	}
	if time.Since(w.low) < time.Second {
		return true
	}
	n := w.signals()
	if n == 1 {
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(w.event), Events: unix.POLLIN}}, removalMillis)
		n += w.signals()
	}
	return n > 1
}

// removalMillis is how long the signal of a removal is waited for.
const removalMillis = 100

// signals returns how often v1 has signalled since the last call.
func (w *oomWatch) signals() uint64 {
	var n [8]byte
	if w.event < 0 {
		return 0
	}
	if _, err := unix.Read(w.event, n[:]); err != nil {
		return 0 // not at all
	}
	return binary.NativeEndian.Uint64(n[:])
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
	control, err := sys.Open(path+"/memory.oom_control", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(control) // the registration keeps it
	if err := writeFile(path+"/cgroup.event_control", fmt.Sprintf("%d %d", event, control)); err != nil {
		return nil, err
	}
	// Each signal is an edge, whether or not the counter was read since the last.
	w.event = event
	unwatch, err := w.cgroup.host.watch.onReadable(event, func() { w.afterOOM(firstRetry) })
	if err != nil {
		return nil, err
	}
	return unwatch, nil
}

// The kernel signals before it chooses whom to kill, if anybody, and v1 nothing afterwards: look again, for half a second in
// all.
const (
	firstRetry = time.Millisecond
	lastRetry  = 256 * time.Millisecond
)

func (w *oomWatch) afterOOM(delay time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if told, gone := w.checkLocked(); told || gone || delay > lastRetry {
		return
	}
	if w.retry != nil {
		w.retry.Stop()
	}
	w.retry = time.AfterFunc(delay, func() { w.afterOOM(2 * delay) })
}
