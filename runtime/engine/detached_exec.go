package engine

import (
	"context"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/bundle"
	"github.com/gosuda/gosudacon/runtime/internal/child"
	"github.com/gosuda/gosudacon/runtime/internal/lifecycle"
)

// DetachedExec asks for one more process in a detached container.
type DetachedExec struct {
	Process *specs.Process
	Stdio   Stdio // ignored with Process.Terminal
	// Preserve is how many of this process's descriptors from 3 on the process inherits.
	Preserve int
	// IgnorePaused allows it in a paused container, where it does not run until somebody resumes that.
	IgnorePaused bool
	// Cgroups are cgroups below the container's to be in, by v1 controller; see ExecRequest.
	Cgroups map[string]string
}

// ExecProcess is a process that Exec started, a child of this process.
type ExecProcess struct {
	Pid     int
	Console *os.File // the terminal's master, owned by the caller; nil without one
	child   *child.Process
}

// Config returns the container's config as it is now.
func (d *Detached) Config() (*specs.Spec, error) {
	file := d.record.Detached.Config
	if file == "" {
		file = bundle.ConfigFile(d.record.Bundle)
	}
	spec, err := bundle.Load(file)
	if err != nil {
		return nil, errorf(Internal, err, "container %s: %v", d.id, err)
	}
	if spec.Linux == nil {
		spec.Linux = &specs.Linux{}
	}
	if d.record.Detached.TimeNS {
		spec.Linux.Namespaces = withTime(spec.Linux.Namespaces)
	}
	return spec, nil
}

// MayExec refuses an exec that the container's state does not allow.
func (d *Detached) MayExec(ignorePaused bool) error {
	s, err := d.state()
	if err != nil {
		return err
	}
	if s == lifecycle.Paused && ignorePaused {
		return nil
	}
	return refuseDetached(s, lifecycle.StartExec)
}

// Exec runs a process in the container and returns when it has executed its program, or could not.
func (d *Detached) Exec(ctx context.Context, r DetachedExec) (*ExecProcess, error) {
	if err := d.MayExec(r.IgnorePaused); err != nil {
		return nil, err
	}
	spec, err := d.Config()
	if err != nil {
		return nil, err
	}
	init, err := d.openInit()
	if err != nil {
		return nil, err
	}
	defer unix.Close(init)
	cg := d.group()
	facts := d.engine.facts(cg)
	facts.Keyring = d.record.Keyring
	t := target{engine: d.engine, id: d.id, dir: d.dir, record: d.record, spec: spec, facts: facts, cgroup: cg, below: r.Cgroups,
		initFD: init, initPid: d.record.Pid, knock: d.knock()}
	res := d.engine.resources(r.Stdio)
	res.Preserve = r.Preserve
	ch, err := t.exec(ctx, "", r.Process, res)
	if err != nil {
		return nil, explain(err)
	}
	return &ExecProcess{Pid: ch.Pid, Console: ch.Console, child: ch.Process}, nil
}

// Signal sends a signal to the process; FailedPrecondition says that it has ended.
func (p *ExecProcess) Signal(sig unix.Signal) error {
	switch err := p.child.Signal(sig); err {
	case nil:
		return nil
	case unix.ESRCH:
		return ErrNotRunning
	default:
		return errorf(Internal, err, "signal %d to process %d: %v", sig, p.Pid, err)
	}
}

// Pidfd returns a pidfd of the process, owned by the caller.
func (p *ExecProcess) Pidfd() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(p.child.FD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, errorf(Internal, err, "duplicate pidfd: %v", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// Kill ends a process that nobody is to wait for, and reaps it.
func (p *ExecProcess) Kill() { p.child.Kill() }

// Wait waits for the process and reaps it. Call it once.
func (p *ExecProcess) Wait() (Exit, error) { return waitFor(p.child) }
