package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/child"
	"github.com/gosuda/gosudacon/runtime/internal/launch"
	"github.com/gosuda/gosudacon/runtime/internal/lifecycle"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/store"
)

// may refuses a request that the container's state does not allow.
func (d *Detached) may(r lifecycle.Request) error {
	s, err := d.state()
	if err != nil {
		return err
	}
	return refuseDetached(s, r)
}

// StartForks tells whether Start runs programs inside the container, the startContainer hooks: until they have executed them,
// and while what they execute is a script for /proc/self/exe, they are copies of the calling program.
func (d *Detached) StartForks() bool { return d.record.Detached.Spec != nil }

// Start lets init execute process.args, between the startContainer and the poststart hooks. It returns the error of execve, or
// that of a hook, which ends the container; so does the end of ctx while a hook runs.
func (d *Detached) Start(ctx context.Context) error {
	if d.lock != nil { // since it was made: it cannot have been started or paused
		defer d.release()
		return d.start(ctx)
	}
	return d.locked(func() error {
		if err := d.may(lifecycle.Start); err != nil {
			return err
		}
		return d.start(ctx)
	})
}

func (d *Detached) start(ctx context.Context) error {
	if d.record.Detached.NoProcess {
		return errorf(FailedPrecondition, nil, "cannot start the container: config.json has no process")
	}
	pidfd := -1
	if d.child != nil {
		pidfd = d.child.FD // who waits for it does so after this
	} else {
		var err error
		if pidfd, err = d.openInit(); err != nil {
			return err
		}
		defer unix.Close(pidfd)
	}
	if err := d.startHooks(ctx, pidfd); err != nil {
		return d.endBy(ctx, err)
	}
	if err := d.openGate(pidfd); err != nil {
		return explain(err)
	}
	if err := d.engine.poststart(ctx, d.record, d.record.Detached.Poststart); err != nil {
		return d.endBy(ctx, err)
	}
	return nil
}

func (d *Detached) startHooks(ctx context.Context, pidfd int) error {
	spec := d.record.Detached.Spec
	if spec == nil {
		return nil
	}
	facts := d.engine.facts(d.group())
	facts.Keyring = d.record.Keyring
	n := &insider{target{engine: d.engine, id: d.id, dir: d.dir, cgroup: d.group(), initPid: d.record.Pid, initFD: pidfd, knock: d.knock()}}
	return n.startHooks(ctx, spec, d.record, facts)
}

// endBy ends a container whose hook has failed.
func (d *Detached) endBy(ctx context.Context, hook error) error {
	d.Kill(context.WithoutCancel(ctx), unix.SIGKILL, false) // an error says that it has ended
	return errorf(Internal, hook, "%v", hook)
}

func (d *Detached) openGate(pidfd int) error {
	if d.gate == nil {
		gate, err := d.dir.OpenGate()
		if errors.Is(err, store.ErrPassed) {
			return ErrNotRunning // it has just been killed
		}
		if err != nil {
			return err
		}
		d.gate = gate
	}
	defer d.closeGate()
	began := time.Now()
	err := d.gate.Open(func(sig unix.Signal) error { return unix.PidfdSendSignal(pidfd, sig, nil, 0) })
	d.took = time.Since(began)
	var failed *store.StartError
	switch {
	case errors.As(err, &failed):
		return d.stepError(failed)
	case errors.Is(err, unix.EPIPE):
		return ErrNotRunning // it has just been killed
	}
	return err
}

// stepError names the step that failed after the gate.
func (d *Detached) stepError(e *store.StartError) error {
	if err := d.compile(); err != nil || e.Step >= len(d.plan.Steps) {
		return fmt.Errorf("step %d of the launch plan: %w", e.Step+1, e) // the config is not what it was
	}
	return launch.NewStepError(d.plan, e.Step, e.Errno)
}

// compile makes the plan again, which only the creator has.
func (d *Detached) compile() error {
	if d.plan != nil {
		return nil
	}
	c := &Container{engine: d.engine, id: d.id, bundle: d.record.Bundle, detached: true}
	_, p, err := c.prepare(CreateRequest{ID: d.id, Bundle: d.record.Bundle, Config: d.record.Detached.Config})
	d.plan = p
	return err
}

// TraceStart returns the text of the steps that Start has let init do, with the time that they took together.
func (d *Detached) TraceStart() (string, error) {
	if err := d.compile(); err != nil {
		return "", explain(err)
	}
	times := make([]time.Duration, len(d.plan.Steps))
	first := 0
	for i, s := range d.plan.Steps {
		times[i] = -1
		if ready, ok := s.Do.(plan.Ready); ok && ready.Stop {
			first = i + 1
		}
	}
	times[len(times)-1] = d.took
	lines := strings.SplitAfter(traceText(d.plan, times), "\n")
	return strings.Join(lines[first:len(times)], ""), nil
}

// Kill sends a signal to init; all: to every process of the container. SIGKILL of an init without a pid namespace of its own
// ends all the others too, whom nobody else would. It takes no lock: a container can be killed whatever else is going on.
func (d *Detached) Kill(ctx context.Context, sig unix.Signal, all bool) error {
	if sig < 0 || sig > 64 {
		return errorf(InvalidArgument, nil, "signal %d: there is none of that number", sig)
	}
	if all || sig == unix.SIGKILL && d.record.Detached.SharedPID {
		return d.killAll(sig)
	}
	pidfd, err := d.openInit()
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	if err := unix.PidfdSendSignal(pidfd, sig, nil, 0); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return ErrNotRunning
		}
		return errorf(Internal, err, "signal %d to process %d: %v", sig, d.record.Pid, err)
	}
	if sig != unix.SIGKILL {
		return nil
	}
	return explain(d.group().Thaw()) // on cgroup v1 a frozen process does not even die
}

func (d *Detached) killAll(sig unix.Signal) error {
	cg := d.group()
	if cg.None() {
		if !store.Alive(d.record.Pid, d.record.StartTime) {
			return ErrNotRunning
		}
		return explain(d.members().signal(sig))
	}
	if pids, err := cg.Pids(); err != nil || len(pids) == 0 {
		return ErrNotRunning
	}
	return explain(cg.Signal(sig))
}

func (d *Detached) members() members {
	return members{init: d.record.Pid, shared: d.record.Detached.SharedPID}
}

// Wait waits for init and reaps it. Only the creator can, and only once.
func (d *Detached) Wait() (Exit, error) {
	if d.child == nil {
		return Exit{}, errorf(FailedPrecondition, nil, "container %s is another process's child", d.id)
	}
	defer func() { d.waited = true }()
	return waitFor(d.child)
}

func waitFor(c *child.Process) (Exit, error) {
	defer c.Close()
	status, err := c.Wait()
	if err != nil {
		return Exit{}, errorf(Internal, err, "%v", err)
	}
	return Exit{Pid: c.Pid, Status: child.ExitCode(status), At: time.Now()}, nil
}

// Pause freezes every process of the container, also of one that was not started yet.
func (d *Detached) Pause(ctx context.Context) error {
	return d.locked(func() error {
		s, err := d.state()
		if err != nil {
			return err
		}
		if err := refuseDetached(s, lifecycle.Pause); err != nil && s != lifecycle.Created {
			return err
		}
		if err := d.group().Freeze(ctx); err != nil {
			return errorf(Internal, err, "pause: %v", err)
		}
		return nil
	})
}

// Resume thaws the processes of a paused container.
func (d *Detached) Resume(context.Context) error {
	return d.locked(func() error {
		if err := d.may(lifecycle.Resume); err != nil {
			return err
		}
		if err := d.group().Thaw(); err != nil {
			return errorf(Internal, err, "resume: %v", err)
		}
		return nil
	})
}

// Update changes resource limits of the live container; nil fields stay.
func (d *Detached) Update(_ context.Context, r *specs.LinuxResources) error {
	return d.locked(func() error {
		if err := d.may(lifecycle.Update); err != nil {
			return err
		}
		return explain(d.group().Set(r))
	})
}

// Stats reads the cgroup's figures while the container lives.
func (d *Detached) Stats() (*Stats, error) {
	state, err := d.state()
	if err != nil {
		return nil, err
	}
	if state == lifecycle.Stopped {
		return nil, errorf(FailedPrecondition, nil, "container with id %s is not running", d.id)
	}
	s := &Stats{}
	if err := d.group().Stats(s); err != nil {
		return nil, errorf(Internal, err, "read stats: %v", err)
	}
	return s, nil
}

// Pids lists the processes in the container's cgroup and its children; without a cgroup, those in its pid namespace.
func (d *Detached) Pids() ([]int, error) {
	var pids []int
	var err error
	switch cg := d.group(); {
	case !cg.None():
		pids, err = cg.Pids()
	case store.Alive(d.record.Pid, d.record.StartTime):
		pids, err = d.members().pids()
	default:
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, errorf(Internal, err, "list processes: %v", err)
	}
	return pids, nil
}

// WatchOOM calls fn, which must not block, with the number of processes that the kernel has killed for want of memory, each
// time that there are some, until stop is called.
func (d *Detached) WatchOOM(fn func(kills uint64)) (stop func(), err error) {
	end, err := d.group().WatchOOM(fn)
	if err != nil {
		return nil, errorf(Internal, err, "container %s: %v", d.id, err)
	}
	return func() { end(false) }, nil
}

// AwaitEnd returns when init has ended, whosever child it is, or ctx ends.
func (d *Detached) AwaitEnd(ctx context.Context) error {
	fd, err := d.openInit()
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	unix.SetNonblock(fd, true) // for the Go poller
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })()
	conn, err := f.SyscallConn()
	if err != nil {
		return errorf(Internal, err, "container %s: %v", d.id, err)
	}
	if err := conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 && err == nil
	}); err != nil {
		return context.Cause(ctx)
	}
	return nil
}
