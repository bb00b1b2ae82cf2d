package engine

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/cgroup"
	"github.com/gosuda/gosudacon/runtime/internal/child"
	"github.com/gosuda/gosudacon/runtime/internal/lifecycle"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/store"
)

// Detached is a container that no process owns: whoever knows the state root and the id can act on it, also when its creator
// is gone. Where it is in its life is read from its record and from the kernel each time. What changes it runs under a lock
// of its directory, one after the other among all processes.
//
// A Detached is for one goroutine.
type Detached struct {
	engine *Engine
	id     string
	dir    store.Dir
	record *store.Record
	cgroup *cgroup.Cgroup // loaded when needed
	took   time.Duration  // from the opening of the gate to init's verdict
	lock   *store.Lock    // of the directory; nil while others may change the container

	// In the process that made it:
	stays   bool        // until it is deleted: CreateRequest.Hold
	own     *store.Lock // of the directory while it does not hold it, if it stays
	child   *child.Process
	waited  bool        // for child: Wait has returned
	gate    *store.Gate // while it holds the lock
	console *os.File
	plan    *plan.Plan
	trace   string
}

// Snapshot is what the record and the kernel tell of a detached container.
type Snapshot struct {
	ID, Bundle  string
	Root        string // absolute path of the root file system
	Pid         int    // 0 when stopped
	Status      Status // creating, created, running, paused or stopped
	Created     time.Time
	Annotations map[string]string
	Owner       uint32 // user id
}

// CreateDetached makes a container as far as `created`, as Create does, that goes on without this process. No event is
// emitted. On any error whatever was made is undone.
func (e *Engine) CreateDetached(ctx context.Context, r CreateRequest) (*Detached, error) {
	if err := store.CheckID(r.ID); err != nil {
		return nil, errorf(InvalidArgument, err, "%v", err)
	}
	c := &Container{engine: e, id: r.ID, bundle: r.Bundle, state: lifecycle.Creating, detached: true}
	d := &Detached{engine: e, id: r.ID, stays: r.Hold}
	err := c.create(ctx, r, func() {
		d.dir, d.lock, d.record, d.cgroup = c.dir, c.lock, c.record, c.cgroup
		d.child, d.console, d.plan, d.trace = c.init.child, c.console, c.plan, c.trace
		d.gate = c.gate
	})
	if err != nil {
		return nil, explain(err)
	}
	if !r.Hold {
		d.closeGate()
		d.release()
	}
	return d, nil
}

// detachedRecord is what of the config must outlive it.
func (c *Container) detachedRecord(r CreateRequest) *store.Detached {
	d := &store.Detached{Config: r.Config, Root: c.root, NoProcess: c.spec.Process == nil, SharedPID: c.needsReaping}
	if h := c.spec.Hooks; h != nil {
		d.Poststart = h.Poststart
		if len(h.StartContainer) > 0 {
			d.Spec = c.spec
		}
	}
	return d
}

// Open returns a container that CreateDetached made, in whatever process. NotFound says that there is none.
func (e *Engine) Open(id string) (*Detached, error) {
	dir, err := store.Find(e.opts.Root, id)
	if err != nil {
		return nil, errorf(InvalidArgument, err, "%v", err)
	}
	d := &Detached{engine: e, id: id, dir: dir}
	if err := d.read(); err != nil {
		return nil, err
	}
	return d, nil
}

// read reads the record anew.
func (d *Detached) read() error {
	rec, err := d.dir.Read()
	switch {
	case errors.Is(err, os.ErrNotExist):
		return errGone
	case errors.Is(err, store.ErrUntrusted):
		return errorf(FailedPrecondition, err, "container %s: %v", d.id, err)
	case err != nil:
		return errorf(Internal, err, "container %s: %v", d.id, err)
	case d.record != nil && !rec.Created.Equal(d.record.Created):
		return errGone // another has its name
	case rec.Detached == nil:
		return errorf(FailedPrecondition, nil, "container %s belongs to the shim that made it", d.id)
	}
	if err := d.engine.cgroups.CheckPaths(rec.CgroupPaths); err != nil {
		return errorf(FailedPrecondition, err, "container %s: %v", d.id, err)
	}
	d.record = rec
	return nil
}

// List returns the containers under the state root, by id; what is being created, or was left by a creator that died before
// it recorded anything, is not among them.
func (e *Engine) List() ([]*Detached, error) {
	entries, err := os.ReadDir(e.opts.Root)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errorf(Internal, err, "list containers: %v", err)
	}
	var list []*Detached
	for _, entry := range entries {
		if !entry.IsDir() || store.CheckID(entry.Name()) != nil {
			continue
		}
		d, err := e.Open(entry.Name())
		if isKind(err, NotFound) || isKind(err, FailedPrecondition) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}

// ID returns the container's id.
func (d *Detached) ID() string { return d.id }

// Pid returns init's process id, whether it lives or not.
func (d *Detached) Pid() int { return d.record.Pid }

// TakeConsole returns the master of init's terminal, owned by the caller from then on; nil without a terminal, when it was
// taken before, and in any process but the creator.
func (d *Detached) TakeConsole() *os.File {
	f := d.console
	d.console = nil
	return f
}

// Pidfd returns a pidfd of init, owned by the caller.
func (d *Detached) Pidfd() (*os.File, error) {
	fd, err := d.openInit()
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// Trace returns the text of the launch plan with the time that each step took; "" unless CreateRequest.Trace was set.
func (d *Detached) Trace() string { return d.trace }

// Snapshot tells where the container is in its life.
func (d *Detached) Snapshot() (Snapshot, error) {
	state, err := d.state()
	if err != nil {
		return Snapshot{}, err
	}
	owner, err := d.dir.Owner()
	if errors.Is(err, os.ErrNotExist) {
		return Snapshot{}, errGone // meanwhile
	}
	if err != nil {
		return Snapshot{}, errorf(Internal, err, "container %s: %v", d.id, err)
	}
	r := d.record
	s := Snapshot{ID: r.ID, Bundle: r.Bundle, Root: r.Detached.Root, Pid: r.Pid, Status: Status(state.String()), Created: r.Created,
		Annotations: r.Annotations, Owner: owner}
	if state == lifecycle.Stopped {
		s.Pid = 0
	}
	return s, nil
}

// state asks the kernel.
func (d *Detached) state() (lifecycle.State, error) {
	switch {
	case d.record.Pid == 0 && d.lock == nil && d.dir.Busy():
		return lifecycle.Creating, nil
	case d.record.Pid == 0, !store.Alive(d.record.Pid, d.record.StartTime):
		return lifecycle.Stopped, nil // or its creator died on the way
	case d.gate != nil:
		return lifecycle.Created, nil // it waits for us
	}
	frozen, err := d.group().Frozen()
	switch {
	case err != nil && !store.Alive(d.record.Pid, d.record.StartTime):
		return lifecycle.Stopped, nil // and its cgroup is gone
	case err != nil:
		return 0, errorf(Internal, err, "container %s: %v", d.id, err)
	case frozen:
		return lifecycle.Paused, nil
	}
	waiting, err := d.dir.Waiting()
	switch {
	case err != nil:
		return 0, errorf(Internal, err, "container %s: %v", d.id, err)
	case waiting:
		return lifecycle.Created, nil
	case !store.Alive(d.record.Pid, d.record.StartTime): // it was killed at its gate meanwhile
		return lifecycle.Stopped, nil
	}
	return lifecycle.Running, nil
}

// group returns the container's cgroup.
func (d *Detached) group() *cgroup.Cgroup {
	if d.cgroup == nil {
		d.cgroup = cgroup.Load(d.engine.cgroups, d.record.CgroupPaths, d.record.SystemdUnit)
	}
	return d.cgroup
}

// openInit returns a pidfd of init, owned by the caller. NotFound says that it has ended.
func (d *Detached) openInit() (int, error) {
	if d.record.Pid == 0 {
		return -1, ErrNotRunning
	}
	fd, err := unix.PidfdOpen(d.record.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, ErrNotRunning
	}
	if err != nil {
		return -1, errorf(Internal, err, "container %s: pidfd_open %d: %v", d.id, d.record.Pid, err)
	}
	// The pidfd was opened first: if the start time is right now, it is the process's.
	if !store.Alive(d.record.Pid, d.record.StartTime) {
		unix.Close(fd)
		return -1, ErrNotRunning
	}
	return fd, nil
}

// locked runs f while no other process changes the container, with its record as it is then.
func (d *Detached) locked(f func() error) error {
	if d.lock != nil { // since it was made
		return f()
	}
	made := d.own != nil
	if err := d.takeLock(); err != nil {
		return err
	}
	defer d.release()
	if !made { // who made it knows its record, which never changes
		if err := d.read(); err != nil {
			return err
		}
	}
	return f()
}

func (d *Detached) takeLock() (err error) {
	if own := d.own; own != nil {
		d.own = nil
		if err = own.Again(); err == nil {
			d.lock = own
		} else {
			own.Unlock()
		}
	} else {
		d.lock, err = d.dir.Lock()
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return errGone
	case err != nil:
		return errorf(Internal, err, "container %s: %v", d.id, err)
	}
	return nil
}

// release lets others change the container. Who stays with it keeps its directory open.
func (d *Detached) release() {
	if d.stays && d.child != nil {
		d.lock.Release()
		d.own = d.lock
	} else {
		d.lock.Unlock()
	}
	d.lock = nil
}

func (d *Detached) closeGate() {
	if d.gate != nil {
		d.gate.Close()
		d.gate = nil
	}
}
