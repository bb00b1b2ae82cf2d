package engine

import (
	"context"
	"errors"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/cgroup"
	"github.com/gosuda/gosudacon/runtime/internal/launch"
	"github.com/gosuda/gosudacon/runtime/internal/lifecycle"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/store"
)

// AddExec records an exec (event ExecAdded); StartExec runs it.
func (c *Container) AddExec(ctx context.Context, r ExecRequest) error {
	if err := checkID(r.ID); err != nil {
		return err
	}
	if r.Process == nil {
		return errorf(InvalidArgument, nil, "exec %s has no process", r.ID)
	}
	return c.mail.ask(ctx, func(answer func(error)) {
		if err := refuse(c.currentState(), lifecycle.AddExec); err != nil {
			answer(err)
			return
		}
		if c.execs[r.ID] != nil {
			answer(errorf(AlreadyExists, nil, "id %s", r.ID))
			return
		}
		c.publish(func() {
			c.execs[r.ID] = &process{exec: r.ID, spec: r.Process, cgroups: r.Cgroups, failStep: r.FailStep, status: StatusCreated, terminal: r.Process.Terminal,
				done: make(chan struct{})}
		})
		c.engine.emit(Event{Kind: ExecAdded, Container: c.id, Exec: r.ID})
		answer(nil)
	})
}

// StartExec runs an added exec and returns its pid. console is the terminal's master, owned by the caller, nil without a
// terminal. io is borrowed for the call.
//
// The launch does not occupy the driver; the exec's exit is looked for only after its start was told.
func (c *Container) StartExec(ctx context.Context, execID string, io Stdio) (pid int, console *os.File, err error) {
	err = c.mail.ask(context.WithoutCancel(ctx), func(answer func(error)) {
		p, err := c.mayStartExec(execID)
		if err != nil {
			answer(err)
			return
		}
		p.starting = true
		c.starts++
		knock := c.knock()
		go func() {
			ch, err := c.launchExec(ctx, p, io, knock)
			c.mail.exit(func() {
				c.execStarted(p, ch, err)
				if err == nil {
					pid, console = ch.Pid, ch.Console
				}
				answer(explain(err))
			})
		}()
	})
	return pid, console, err
}

func (c *Container) mayStartExec(execID string) (*process, error) {
	p := c.execs[execID]
	state := c.currentState()
	if p == nil {
		return nil, noProcess(execID)
	}
	if err := refuse(state, lifecycle.StartExec); err != nil && state != lifecycle.Stopped {
		return nil, err
	}
	switch {
	case state == lifecycle.Stopped || c.initExit != nil:
		return nil, errorf(FailedPrecondition, nil, "container %s init process is not running", c.id)
	case p.starting || p.status == StatusRunning:
		return nil, errorf(FailedPrecondition, nil, "cannot start a running process")
	case p.status == StatusStopped:
		return nil, errorf(FailedPrecondition, nil, "cannot start a stopped process")
	}
	return p, nil
}

// launchExec runs the process of an exec as far as past execve.
func (c *Container) launchExec(ctx context.Context, p *process, io Stdio, knock func(byte) error) (*launch.Child, error) {
	t := target{engine: c.engine, id: c.id, record: c.record, spec: c.spec, facts: c.facts, cgroup: c.cgroup, initFD: c.init.child.FD, initPid: c.init.pid,
		below: p.cgroups, dir: c.dir, knock: knock}
	res := c.engine.resources(io)
	res.FailStep = p.failStep
	return t.exec(ctx, p.exec, p.spec, res)
}

// target is a running container that gets one more process.
type target struct {
	engine  *Engine
	id      string
	dir     store.Dir
	record  *store.Record // for what does not change
	spec    *specs.Spec
	facts   *plan.Facts
	cgroup  *cgroup.Cgroup
	below   map[string]string // cgroups below the container's to be in; see cgroup.JoinBelow
	initFD  int               // a pidfd
	initPid int
	// knock asks an init that waits at its gate to let an ordinary user's process in; nil when it does not wait, or need not.
	knock func(byte) error
	entry *launch.Entry // what it has given; see open
}

// exec runs a process as far as past execve. name is for the log.
func (t *target) exec(ctx context.Context, name string, p *specs.Process, res *launch.Resources) (*launch.Child, error) {
	pl, err := plan.CompileExec(t.spec, p, t.facts)
	if err != nil {
		return nil, err
	}
	if err := t.open(ctx); err != nil {
		return nil, err
	}
	defer t.entry.Close()
	pl.SetHome(func() string { return homeIn(t.root(), p.User.UID) })
	t.engine.logRemarks(pl, "container", t.id, "exec", name)
	res.SendListener = sendListener(func(int) specs.State { return ociState(t.record, specs.StateRunning, t.initPid) })
	return t.launch(ctx, pl, res)
}

// launch runs a plan in the container's namespaces and cgroup, as far as past execve.
func (t *target) launch(ctx context.Context, pl *plan.Plan, res *launch.Resources) (*launch.Child, error) {
	res.ContainerPidfd, res.Entry = t.initFD, t.entry
	if needsInitRoot(pl) {
		dir, err := unix.Open(t.root(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: t.root(), Err: err}
		}
		defer unix.Close(dir)
		res.InitRoot = dir
	}
	if t.below != nil {
		join, err := t.cgroup.JoinBelow(t.below)
		if err != nil {
			return nil, err
		}
		return startIn(ctx, pl, res, join)
	}
	join, err := t.cgroup.Join()
	if err != nil {
		return nil, err
	}
	ch, err := startIn(ctx, pl, res, join)
	if moved(err) {
		// The container has given its cgroup's controllers to children: processes may only be in those (cgroup v2).
		if join, err = t.cgroup.JoinOf(t.initPid); err != nil {
			return nil, err
		}
		ch, err = startIn(ctx, pl, res, join)
	}
	return ch, err
}

func needsInitRoot(pl *plan.Plan) bool {
	join, _ := plan.Find[plan.JoinContainer](pl)
	_, hook := plan.Find[plan.RuntimeRoot](pl)
	return join.Root || hook
}

// startIn launches into a cgroup; it closes join.
func startIn(ctx context.Context, pl *plan.Plan, res *launch.Resources, join *cgroup.JoinFDs) (*launch.Child, error) {
	defer join.Close()
	res.CgroupFD, res.CgroupTasks = join.Unified, join.Tasks
	return launch.Start(ctx, pl, res)
}

// moved tells whether a clone failed because its cgroup has children with controllers.
func moved(err error) bool {
	var step *launch.StepError
	if !errors.As(err, &step) {
		return false
	}
	_, clone := step.Action.(plan.Clone)
	return clone && (errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EOPNOTSUPP))
}

// execStarted follows an attempt to start an exec.
func (c *Container) execStarted(p *process, ch *launch.Child, err error) {
	c.starts--
	c.publish(func() {
		p.starting = false
		if err != nil {
			p.status = StatusStopped // with exit status 0 at no time: it never ran
			return
		}
		p.child, p.pid, p.status = ch.Process, ch.Pid, StatusRunning
	})
	if err != nil {
		close(p.done)
		c.finishInit()
		return
	}
	c.engine.emit(Event{Kind: ExecStarted, Container: c.id, Exec: p.exec, Pid: p.pid})
	go c.await(p)
}

// DeleteExec forgets an exec that has ended or never ran (event ExecDeleted).
func (c *Container) DeleteExec(ctx context.Context, execID string) (exit Exit, err error) {
	err = c.mail.ask(ctx, func(answer func(error)) {
		p := c.execs[execID]
		switch {
		case p == nil:
			answer(noProcess(execID))
			return
		case p.starting || p.status == StatusRunning:
			answer(errorf(FailedPrecondition, nil, "cannot delete a running process"))
			return
		}
		exit = p.exit
		c.publish(func() { delete(c.execs, execID) })
		if p.status == StatusCreated {
			close(p.done)
		}
		c.engine.emit(Event{Kind: ExecDeleted, Container: c.id, Exec: execID, Pid: p.pid, Exit: exit})
		answer(nil)
	})
	if err != nil {
		return Exit{}, err
	}
	return exit, nil
}
