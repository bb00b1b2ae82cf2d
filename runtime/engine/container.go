package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/cgroup"
	"github.com/gosuda/gosudacon/runtime/internal/child"
	"github.com/gosuda/gosudacon/runtime/internal/launch"
	"github.com/gosuda/gosudacon/runtime/internal/lifecycle"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/store"
)

// Container is one container; its methods are safe for concurrent use.
//
// The driver goroutine alone changes it. What others read stands below mu, and changes in one step.
type Container struct {
	engine *Engine
	id     string
	bundle string
	spec   *specs.Spec
	facts  *plan.Facts
	root   string // absolute path of the root file system
	dir    store.Dir
	cgroup *cgroup.Cgroup
	trace  string
	// oomKills counts those that the watch saw.
	oomKills atomic.Uint64
	// killed: a caller of ours has sent SIGKILL.
	killed atomic.Bool
	// detached: this process only makes the container, with the directory locked.
	detached bool
	lock     *store.Lock
	// needsReaping: the pid namespace is shared, so that init's end does not end the others.
	needsReaping bool

	mail *mailbox
	stop chan struct{} // closed by the driver when the container is deleted

	// Only the driver, once there is one:
	record   *store.Record
	gate     *store.Gate
	plan     *plan.Plan // until started: an error names its step
	starting bool       // a start is under way: an exit waits for its end
	// restoration is what there is in place of a gate until a container that is restored was started.
	restoration *restoration
	initExit    *initExit  // init has ended, its exit is not yet told
	oomTold     uint64     // kills that were told
	stopOOM     func(bool) // ends the watch: see cgroup.WatchOOM
	reaping     bool       // what init left is being killed
	starts      int        // execs being started

	mu      sync.RWMutex
	state   lifecycle.State
	pausing bool
	init    *process // nil without a process in the config
	execs   map[string]*process
	console *os.File
	last    *Stats                // read when init ended
	sampled atomic.Pointer[Stats] // what the last reader got
}

// process is init or an exec.
type process struct {
	exec     string // "" for init
	spec     *specs.Process
	cgroups  map[string]string // ExecRequest.Cgroups
	failStep int               // ExecRequest.FailStep
	child    *child.Process    // nil before it runs
	pid      int
	status   Status // created, running or stopped
	starting bool
	exit     Exit
	done     chan struct{} // closed when the exit was told
	terminal bool
}

// initExit is an end of init that waits for those of the execs.
type initExit struct {
	status unix.WaitStatus
	at     time.Time
}

// ID returns the container's id.
func (c *Container) ID() string { return c.id }

// Pid returns init's process id; 0 of a container that is to be restored and was not started yet.
func (c *Container) Pid() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.init.pid
}

// Trace returns the text of the launch plan with the time that each step took; "" unless CreateRequest.Trace was set.
func (c *Container) Trace() string { return c.trace }

// TakeConsole returns the master of init's terminal, owned by the caller from then on; nil when process.terminal is false
// or it was taken before.
func (c *Container) TakeConsole() *os.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.console
	c.console = nil
	return f
}

// begin makes the created container public and starts its driver.
func (c *Container) begin() {
	c.mail, c.stop = newMailbox(), make(chan struct{})
	c.publish(func() { c.state = lifecycle.Created })
	c.engine.emit(Event{Kind: Created, Container: c.id, Pid: c.init.pid})
	if c.restoration != nil {
		c.stopOOM = func(bool) {}
		go c.mail.drive(c.stop)
		return
	}
	go func() {
		c.watchOOM() // while the caller is on its way to Start, which waits for it in the mailbox
		c.mail.drive(c.stop)
	}()
	go c.await(c.init)
}

// watchOOM has the driver told of kills by the OOM killer.
func (c *Container) watchOOM() {
	stop, err := c.cgroup.WatchOOM(func(kills uint64) {
		c.oomKills.Add(kills)
		c.mail.exit(c.tellOOM)
	})
	if err != nil {
		c.engine.opts.Log.Warn("watch for OOM kills", "container", c.id, "error", err)
		stop = func(bool) {}
	}
	c.stopOOM = stop
}

func (c *Container) publish(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *Container) currentState() lifecycle.State {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.state
}

// await waits for a process and tells the driver.
func (c *Container) await(p *process) {
	status, err := p.child.Wait()
	at := time.Now()
	if err != nil {
		c.engine.opts.Log.Error("lost a process", "container", c.id, "exec", p.exec, "error", err)
		status = unix.WaitStatus(unix.SIGKILL)
	}
	c.mail.exit(func() {
		if p == c.init {
			c.initEnded(&initExit{status, at})
		} else {
			c.execEnded(p, status, at)
		}
	})
}

// end makes a process stopped, told and waitable.
func (c *Container) end(p *process, status unix.WaitStatus, at time.Time) {
	exit := Exit{Pid: p.pid, Status: child.ExitCode(status), At: at}
	c.publish(func() {
		p.status, p.exit = StatusStopped, exit
		p.child.Close()
		if p == c.init {
			c.state = lifecycle.Stopped
		}
	})
	c.engine.emit(Event{Kind: Exited, Container: c.id, Exec: p.exec, Pid: p.pid, Exit: exit})
	close(p.done)
}

func (c *Container) execEnded(p *process, status unix.WaitStatus, at time.Time) {
	c.end(p, status, at)
	c.finishInit()
}

// initEnded starts the end of the container: whoever is left in it goes first.
func (c *Container) initEnded(e *initExit) {
	c.initExit = e
	if !c.needsReaping && c.currentState() != lifecycle.Paused {
		c.finishInit()
		return
	}
	// Nobody may outlive init; a frozen process does not die.
	c.reaping = true
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
		defer cancel()
		if err := c.cgroup.Kill(ctx); err != nil {
			c.engine.opts.Log.Warn("kill what init left", "container", c.id, "error", err)
		}
		c.mail.exit(func() {
			c.reaping = false
			c.finishInit()
		})
	}()
}

// finishInit tells init's exit once nothing else of the container is alive or on its way: it is the last.
func (c *Container) finishInit() {
	if c.initExit == nil || c.starting || c.reaping || c.starts > 0 {
		return
	}
	for _, p := range c.execs {
		if p.status == StatusRunning {
			return
		}
	}
	e := c.initExit
	c.initExit = nil
	c.stopOOM(child.ExitCode(e.status) == 128+int(unix.SIGKILL) && !c.killed.Load()) // looks a last time
	c.tellOOM()
	if c.cgroup.Unit() != "" {
		c.keepStats()
	}
	c.record.Status = lifecycle.Stopped.String()
	c.record.Exit = &store.Exit{Status: child.ExitCode(e.status), At: e.at}
	if err := c.dir.Write(c.record); err != nil {
		c.engine.opts.Log.Error("record the exit", "container", c.id, "error", err)
	}
	if c.gate != nil {
		c.gate.Close()
		c.gate = nil
	}
	c.end(c.init, e.status, e.at)
}

// keepStats reads the last figures of a scope, which systemd removes with its last process; other cgroups stay until Delete.
// If it is gone already, what an earlier reader saw is the last, with the kills that were told since.
func (c *Container) keepStats() {
	last := &Stats{}
	if err := c.cgroup.Stats(last); err != nil {
		if last = c.sampled.Load(); last == nil {
			last = c.engine.cgroups.NoStats()
		}
	}
	c.publish(func() { c.last = last.WithOOMKills(c.oomTold) })
}

// tellOOM emits one event per kill that was not told yet.
func (c *Container) tellOOM() {
	for ; c.oomTold < c.oomKills.Load(); c.oomTold++ {
		c.engine.emit(Event{Kind: OOM, Container: c.id, Pid: c.init.pid})
	}
}

// Start lets init execute process.args, between the startContainer and the poststart hooks. It returns the error of execve, or
// that of a hook, which ends the container; so does the end of ctx while a hook runs.
func (c *Container) Start(ctx context.Context) error {
	return c.mail.ask(ctx, func(answer func(error)) {
		if err := c.mayStart(); err != nil {
			answer(err)
			return
		}
		c.starting = true
		if c.restoration != nil {
			go c.startRestored(ctx, answer)
			return
		}
		go func() {
			err := c.beforeStart(ctx)
			if err == nil {
				err = c.openGate()
			}
			c.mail.exit(func() {
				c.started(err)
				if err != nil || c.spec.Hooks == nil || len(c.spec.Hooks.Poststart) == 0 {
					answer(err)
					return
				}
				record := *c.record
				go func() { answer(c.afterStart(ctx, &record)) }()
			})
		}()
	})
}

// beforeStart runs the startContainer hooks; a failure ends the container.
func (c *Container) beforeStart(ctx context.Context) error {
	n := &insider{target{engine: c.engine, id: c.id, dir: c.dir, cgroup: c.cgroup, initPid: c.init.pid, initFD: c.init.child.FD, knock: c.knock()}}
	if err := n.startHooks(ctx, c.spec, c.record, c.facts); err != nil {
		c.init.child.Signal(unix.SIGKILL)
		return errorf(Internal, err, "%v", err)
	}
	return nil
}

// afterStart runs the poststart hooks; a failure ends the container.
func (c *Container) afterStart(ctx context.Context, record *store.Record) error {
	if err := c.engine.poststart(ctx, record, c.spec.Hooks.Poststart); err != nil {
		c.Kill(context.WithoutCancel(ctx), "", uint32(unix.SIGKILL), false) // an error says that it has ended
		return errorf(Internal, err, "%v", err)
	}
	return nil
}

// poststop runs the poststop hooks, once. That they fail is only reported.
func (c *Container) poststop() error {
	if len(c.record.Poststop) == 0 {
		return nil
	}
	if err := poststop(context.Background(), c.record, c.engine.StartChild); err != nil {
		c.engine.opts.Log.Warn("hook failed", "container", c.id, "error", err)
	}
	c.record.Poststop = nil
	return c.dir.Write(c.record) // whoever must try the rest again leaves them alone
}

func (c *Container) mayStart() error {
	if err := refuse(c.currentState(), lifecycle.Start); err != nil {
		return err
	}
	switch {
	case c.starting:
		return errorf(FailedPrecondition, nil, "cannot start a running process")
	case c.restoration != nil:
		return nil
	case c.initExit != nil || c.gate == nil:
		return errorf(FailedPrecondition, nil, "cannot start a stopped process")
	case c.spec.Process == nil:
		return errorf(FailedPrecondition, nil, "cannot start the container: config.json has no process")
	}
	return nil
}

// openGate lets init execute its program and says why it could not.
func (c *Container) openGate() error {
	err := c.gate.Open(c.init.child.Signal)
	var failed *store.StartError
	if errors.As(err, &failed) {
		err = launch.NewStepError(c.plan, failed.Step, failed.Errno)
	}
	return explain(err)
}

// started follows an attempt to start.
func (c *Container) started(err error) {
	c.starting = false
	if err == nil {
		c.publish(func() { c.state, c.init.status = lifecycle.Running, StatusRunning })
		c.record.Status = lifecycle.Running.String()
		if err := c.dir.Write(c.record); err != nil {
			c.engine.opts.Log.Error("record the start", "container", c.id, "error", err)
		}
		c.engine.emit(Event{Kind: Started, Container: c.id, Pid: c.init.pid})
	}
	if c.gate != nil {
		c.gate.Close()
	}
	c.gate, c.plan = nil, nil
	c.finishInit()
}

// Delete removes a container that is stopped, or created (init is killed first and its exit emitted). It is idempotent
// until it succeeds: after an error it can be called again.
func (c *Container) Delete(ctx context.Context) (Exit, error) {
	if c.currentState() == lifecycle.Created && c.Pid() != 0 {
		if err := c.Kill(ctx, "", uint32(unix.SIGKILL), false); err != nil && !isKind(err, NotFound) {
			return Exit{}, err
		}
		if _, err := c.Wait(ctx, ""); err != nil {
			return Exit{}, err
		}
	}
	var exit Exit
	err := c.mail.ask(ctx, func(answer func(error)) {
		if err := c.mayDelete(); err != nil {
			answer(err)
			return
		}
		exit = c.init.exit
		ctx, cancel := context.WithTimeout(ctx, cleanupTime)
		defer cancel()
		answer(c.remove(ctx))
	})
	if err != nil {
		return Exit{}, err // the driver may be at it still: exit is its until it has answered
	}
	return exit, nil
}

// mayDelete tells whether there is nobody left who was not killed. A container that was to be restored ends with this.
func (c *Container) mayDelete() error {
	if c.restoration == nil {
		return refuse(c.currentState(), lifecycle.Delete)
	}
	if c.starting {
		return errorf(FailedPrecondition, nil, "cannot delete a process that is being restored")
	}
	c.restoration.close()
	c.restoration = nil
	c.publish(func() { c.state, c.init.status = lifecycle.Stopped, StatusStopped })
	close(c.init.done)
	return nil
}

// remove takes away what create made, what may still use it first.
func (c *Container) remove(ctx context.Context) error {
	if err := c.cgroup.Remove(ctx); err != nil {
		return errorf(Internal, err, "delete: %v", err)
	}
	if err := c.unmountRootfs(); err != nil {
		return errorf(Internal, err, "delete: %v", err)
	}
	if f := c.TakeConsole(); f != nil {
		f.Close()
	}
	if err := c.poststop(); err != nil {
		return errorf(Internal, err, "delete: %v", err)
	}
	if err := c.dir.Remove(); err != nil {
		return errorf(Internal, err, "delete: remove state: %v", err)
	}
	c.publish(func() { c.state = lifecycle.Deleted })
	c.engine.emit(Event{Kind: Deleted, Container: c.id, Pid: c.init.pid, Exit: c.init.exit})
	c.engine.forget(c.id)
	close(c.stop)
	return nil
}

func isKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

// find returns init or an exec; the caller holds mu or is the driver.
func (c *Container) find(execID string) (*process, error) {
	if execID == "" {
		return c.init, nil
	}
	if p := c.execs[execID]; p != nil {
		return p, nil
	}
	return nil, noProcess(execID)
}

// State returns a snapshot of init (execID "") or an exec, without waiting for anything.
func (c *Container) State(execID string) (ProcessState, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.state == lifecycle.Creating {
		return ProcessState{Container: c.id, Status: StatusCreating}, nil
	}
	p, err := c.find(execID)
	if err != nil {
		return ProcessState{}, err
	}
	s := ProcessState{Container: c.id, Exec: execID, Pid: p.pid, Status: p.status, Exit: p.exit, Terminal: p.terminal}
	if p.status == StatusRunning {
		switch {
		case c.pausing:
			s.Status = StatusPausing
		case c.state == lifecycle.Paused:
			s.Status = StatusPaused
		}
	}
	return s, nil
}

// Pids lists the processes in the container's cgroup and its children. A stopped container is FailedPrecondition.
func (c *Container) Pids() ([]ProcessInfo, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := refuse(c.state, lifecycle.Pids); err != nil {
		return nil, err
	}
	pids, err := c.pids()
	if err != nil {
		return nil, errorf(Internal, err, "list processes: %v", err)
	}
	execs := map[int]string{}
	for id, p := range c.execs {
		if p.status == StatusRunning {
			execs[p.pid] = id
		}
	}
	if len(pids) == 0 {
		pids = []int{c.init.pid} // it lives, wherever it moved itself: containerd takes an empty list for a dead task
	}
	out := make([]ProcessInfo, len(pids))
	for i, pid := range pids {
		out[i] = ProcessInfo{Pid: pid, Exec: execs[pid]}
	}
	return out, nil
}

func (c *Container) pids() ([]int, error) {
	if c.cgroup.None() {
		return c.members().pids()
	}
	return c.cgroup.Pids()
}

func (c *Container) members() members { return members{init: c.init.pid, shared: c.needsReaping} }

// Wait returns when the process has ended and its exit is recorded and emitted, or ctx ends.
func (c *Container) Wait(ctx context.Context, execID string) (Exit, error) {
	c.mu.RLock()
	p, err := c.find(execID)
	c.mu.RUnlock()
	if err != nil {
		return Exit{}, err
	}
	select {
	case <-p.done:
		return p.exit, nil
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

// Stats reads the cgroup's figures; after exit, the last ones recorded.
func (c *Container) Stats() (*Stats, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if err := refuse(c.state, lifecycle.Stats); err != nil {
		return nil, err
	}
	if c.last != nil {
		return c.last, nil
	}
	s := &Stats{}
	if err := c.cgroup.Stats(s); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, errorf(NotFound, err, "read stats: %v", err)
		}
		return nil, errorf(Internal, err, "read stats: %v", err)
	}
	if c.cgroup.Unit() != "" {
		c.sampled.Store(s)
	}
	return s, nil
}

// checkID is for the ids of execs, which are file names to containerd.
func checkID(id string) error {
	if err := store.CheckID(id); err != nil {
		return errorf(InvalidArgument, err, "exec %s", fmt.Sprint(err))
	}
	return nil
}
