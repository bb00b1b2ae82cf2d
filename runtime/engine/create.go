package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/bundle"
	"github.com/gosuda/gosudacon/runtime/internal/cgroup"
	"github.com/gosuda/gosudacon/runtime/internal/host"
	"github.com/gosuda/gosudacon/runtime/internal/launch"
	"github.com/gosuda/gosudacon/runtime/internal/lifecycle"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/rootfs"
	"github.com/gosuda/gosudacon/runtime/internal/store"
	"github.com/gosuda/gosudacon/runtime/internal/sys"
	"github.com/gosuda/gosudacon/runtime/internal/sys/nofile"
)

// Create makes a container as far as `created`: everything is applied but process.args. When ctx ends, or on any error,
// whatever was made is undone and no event is emitted.
func (e *Engine) Create(ctx context.Context, r CreateRequest) (*Container, error) {
	if err := store.CheckID(r.ID); err != nil {
		return nil, errorf(InvalidArgument, err, "%v", err)
	}
	c := &Container{engine: e, id: r.ID, bundle: r.Bundle, state: lifecycle.Creating, execs: map[string]*process{}}
	e.mu.Lock()
	_, exists := e.containers[r.ID]
	if !exists {
		e.containers[r.ID] = c
	}
	e.mu.Unlock()
	if exists {
		return nil, errorf(AlreadyExists, nil, "container %q already exists", r.ID)
	}
	if err := c.create(ctx, r, c.begin); err != nil {
		e.forget(r.ID)
		return nil, explain(err)
	}
	return c, nil
}

// creation undoes what was made when the container does not come to be.
type creation struct{ undo []func() error }

func (u *creation) add(f func() error) { u.undo = append(u.undo, f) }

func (u *creation) fail(err error) error {
	for i := len(u.undo) - 1; i >= 0; i-- {
		if e := u.undo[i](); e != nil {
			err = fmt.Errorf("%w (and while undoing it: %v)", err, e)
		}
	}
	return err
}

// create makes the container; begin makes it known to whoever is to own it.
func (c *Container) create(ctx context.Context, r CreateRequest, begin func()) (err error) {
	e := c.engine
	if r.Begun == nil {
		if err := Begin(&r); err != nil {
			return err
		}
	}
	defer r.Begun.Close()
	cg, p, err := c.prepare(r)
	if err != nil {
		return err
	}
	if terminal := c.spec.Process != nil && c.spec.Process.Terminal; !c.detached && terminal != r.Terminal {
		return errorf(InvalidArgument, nil, "process.terminal is %t in config.json and %t in the request", terminal, r.Terminal)
	}
	var made creation
	defer func() {
		if err != nil {
			err = made.fail(err)
			c.lock.Unlock()
		}
	}()
	if r.Restore != nil {
		if err = e.mayCheckpoint(); err != nil {
			return err
		}
		if c.restoration, err = newRestoration(r.Restore, c.spec, p); err != nil {
			return err
		}
	}
	if c.dir, err = store.Make(e.opts.Root, r.ID); err != nil {
		if errors.Is(err, os.ErrExist) {
			return errorf(AlreadyExists, err, "container with given ID already exists: %q in %s", r.ID, e.opts.Root)
		}
		return err
	}
	made.add(c.removeDir)
	if c.detached {
		if c.lock, err = c.dir.Lock(); err != nil {
			return err
		}
	}
	c.record = &store.Record{OCIVersion: specs.Version, ID: c.id, Bundle: c.bundle, Created: time.Now().UTC(),
		Status: lifecycle.Creating.String(), CgroupPaths: cg.Paths(), SystemdUnit: cg.Unit(), Keyring: c.facts.Keyring,
		Annotations: c.spec.Annotations}
	if c.detached {
		c.record.Detached = c.detachedRecord(r)
	}
	if len(r.Rootfs) > 0 {
		c.record.Rootfs = filepath.Join(c.bundle, "rootfs")
	}
	if c.spec.Hooks != nil {
		c.record.Poststop = c.spec.Hooks.Poststop
	}
	made.add(c.poststop)
	if err := c.dir.Write(c.record); err != nil {
		return err
	}
	if r.Notify {
		if err := makeNotifyDir(c.dir); err != nil {
			return err
		}
	}
	if err := c.mountRootfs(r.Rootfs); err != nil {
		return err
	}
	made.add(func() error { return c.unmountRootfs() })
	if err := bundle.CheckRoot(c.root); err != nil {
		return errorf(InvalidArgument, err, "config.json: %v", err)
	}
	p.SetHome(func() string { return homeIn(c.root, c.spec.Process.User.UID) })
	makeCgroups := func() error {
		cg.Made(r.Begun.network.Made())
		if err := cg.Create(); err != nil {
			return err
		}
		made.add(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
			defer cancel()
			return cg.Remove(ctx)
		})
		c.record.CgroupPaths = cg.Paths() // those that could be had
		return nil
	}
	later := false
	if entersLater(p) && c.restoration == nil {
		made.add(func() error {
			cg.Made(r.Begun.network.Made())
			cg.Abandon()
			return nil
		})
		if later, err = cg.Begin(); err != nil {
			return err
		}
		if later {
			r.Begun.network.MakeDirs(cg.Directories())
		}
	}
	if !later {
		if err := makeCgroups(); err != nil {
			return err
		}
		makeCgroups = func() error { return nil }
	}
	switch {
	case c.restoration == nil:
		err = c.launch(ctx, r, p, makeCgroups)
	case c.detached:
		err = c.restoreDetached(ctx, r)
	default:
		err = c.restoreLater(r)
	}
	if err != nil {
		return c.forWantOfMemory(err)
	}
	made.add(c.abort)
	if err := ctx.Err(); err != nil && !(c.restoration == nil && c.startsItself(r)) {
		return err // nobody waits for the container any more; one whose program runs is somebody's
	}
	begin()
	return nil
}

// forWantOfMemory adds to the error of a launch why the kernel killed its process.
func (c *Container) forWantOfMemory(err error) error {
	if kills, oom := c.cgroup.OOMKills(); oom == nil && kills > 0 {
		return fmt.Errorf("%w: the kernel killed it for want of memory (linux.resources.memory.limit is too low to make a container)", err)
	}
	return err
}

// removeDir removes the container's directory. The shim's root is its own; that of detached containers is their user's.
func (c *Container) removeDir() error {
	if c.detached {
		return c.dir.RemoveDir()
	}
	return c.dir.Remove()
}

// abort ends an init that was launched for nothing.
func (c *Container) abort() error {
	if c.restoration != nil {
		c.restoration.close()
	}
	if c.init.child != nil {
		c.init.child.Kill()
	}
	if c.gate != nil {
		c.gate.Close()
	}
	if c.console != nil {
		return c.console.Close()
	}
	return nil
}

// cleanupTime bounds what is done after the caller's own time is up.
const cleanupTime = 4 * time.Second

// logRemarks logs what a plan leaves out, and, for who wants to know more, what it needs not do.
func (e *Engine) logRemarks(p *plan.Plan, about ...any) {
	for _, w := range p.Warnings {
		e.opts.Log.Warn(w, about...)
	}
	for _, n := range p.Notes {
		e.opts.Log.Debug(n, about...)
	}
}

// prepare does everything that touches nothing: whatever is wrong with the request is said before anything is made.
func (c *Container) prepare(r CreateRequest) (cg *cgroup.Cgroup, p *plan.Plan, err error) {
	e := c.engine
	if r.Begun != nil {
		c.spec = r.Begun.spec
	} else if c.spec, err = r.load(); err != nil {
		return nil, nil, err
	}
	if r.Edit != nil {
		if err := r.Edit(c.spec); err != nil {
			return nil, nil, err
		}
	}
	if r.Notify {
		c.addNotify()
	}
	if c.spec.Linux == nil {
		c.spec.Linux = &specs.Linux{}
	}
	cg, err = cgroup.New(e.cgroups, cgroup.Config{ID: r.ID, Path: c.spec.Linux.CgroupsPath, Systemd: r.SystemdCgroup,
		Resources: c.spec.Linux.Resources, Owner: cgroupOwner(c.spec), Annotations: c.spec.Annotations,
		Disabled: r.Cgroups == CgroupsDisabled,
		Rootless: r.Cgroups == CgroupsOptional || r.Cgroups == CgroupsAuto && e.host.Restricted()})
	if err != nil {
		return nil, nil, errorf(InvalidArgument, err, "config.json: %v", err)
	}
	c.cgroup = cg
	if c.root, err = bundle.RootPath(r.Bundle, c.spec); err != nil {
		return nil, nil, errorf(InvalidArgument, err, "config.json: %v", err)
	}
	c.facts = e.facts(cg)
	c.facts.CgroupsLater = e.cgroups.Mode == cgroup.V1 && !cg.NeedsPid() && !c.facts.NoCgroup && !c.facts.Restricted
	if !r.NoNewKeyring {
		if c.facts.Keyring, err = keyringName(r.ID); err != nil {
			return nil, nil, err
		}
	}
	p, err = plan.Compile(c.spec, r.Bundle, c.facts, plan.Options{ID: r.ID, RootPath: c.root, NoPivot: r.NoPivotRoot})
	if err != nil {
		return nil, nil, err
	}
	for _, property := range cg.Ignored() {
		p.Warnings = append(p.Warnings, property+": ignored, cgroups are disabled")
	}
	e.logRemarks(p, "container", r.ID)
	c.needsReaping = true
	for _, n := range c.spec.Linux.Namespaces {
		if n.Type == specs.PIDNamespace && n.Path == "" {
			c.needsReaping = false
		}
	}
	return cg, p, nil
}

// keyringName returns the name of a container's session keyring. Containers that run as the same user could join each
// other's by their names: a part of it is for those only who read the container's record.
func keyringName(id string) (string, error) {
	var secret [8]byte
	if err := sys.Random(secret[:]); err != nil {
		return "", fmt.Errorf("name the session keyring: getrandom: %w", err)
	}
	return fmt.Sprintf("_ses.%s.%x", id, secret), nil
}

func (c *Container) mountRootfs(mounts []RootfsMount) error {
	list := make([]rootfs.Mount, len(mounts))
	for i, m := range mounts {
		list[i] = rootfs.Mount(m)
	}
	return rootfs.MountAll(list, filepath.Join(c.bundle, "rootfs"), launch.UserNamespace)
}

func (c *Container) unmountRootfs() error {
	if c.record.Rootfs == "" {
		return nil
	}
	return rootfs.Unmount(c.record.Rootfs)
}

// homeIn reads a user's home directory from the container's passwd file.
func homeIn(root string, uid uint32) string {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "/"
	}
	defer unix.Close(fd)
	return bundle.Home(fd, uid)
}

// entersLater tells whether the cgroups of v1 can be made once there is a process.
func entersLater(p *plan.Plan) bool {
	enter, _ := plan.Find[plan.EnterCgroup](p)
	return enter.Later
}

// launch makes init, as far as `created`. makeCgroups makes what is left to make of the cgroups of one that enters them later.
func (c *Container) launch(ctx context.Context, r CreateRequest, p *plan.Plan, makeCgroups func() error) error {
	leave := c.detached && !r.Hold // init waits on for whoever starts it
	makeGate := store.NewGate
	if leave {
		makeGate = c.dir.MakeDetachedGate
	}
	gate, err := makeGate()
	if err != nil {
		return err
	}
	res := c.engine.resources(r.Stdio)
	res.StartGate, res.Verdict = gate.StartRead, gate.VerdictWrite
	res.Network = r.Begun.network
	res.Trace, res.FailStep = r.Trace, r.FailStep
	res.Detached, res.Preserve = leave, r.Preserve
	res.Permitted = c.startsItself(r)
	if c.facts.User != nil && !res.Permitted {
		if res.Door, err = c.dir.MakeDoor(); err != nil {
			gate.Close()
			return err
		}
		defer unix.Close(res.Door)
	}
	res.Born = func(pid int) (known func() error, err error) {
		defer gate.CloseChildEnds() // while they are open, what is written to a child that has ended is not an error
		if known, err = c.born(pid); err != nil {
			return nil, err
		}
		if r.Forked != nil {
			r.Forked()
		}
		if res.Permitted { // then it does not wait for us any more
			if err = known(); err == nil {
				err = gate.Permit()
			}
			known = nil
		}
		return known, err
	}
	res.RunHooks = c.createHooks
	res.Home = homeIn
	res.SendListener = sendListener(func(pid int) specs.State { return ociState(c.record, specs.StateCreating, pid) })
	var join *cgroup.JoinFDs
	switch {
	case c.cgroup.NeedsPid():
		res.EnterCgroup = c.cgroup.AddPid
	case entersLater(p):
		join, err = c.cgroup.JoinUnified()
		res.Hierarchies = c.cgroup.Hierarchies()
		res.MakeCgroups = func() ([]int, error) {
			if err := makeCgroups(); err != nil {
				return nil, err
			}
			late, err := c.cgroup.JoinV1()
			if err != nil {
				return nil, err
			}
			return late.Tasks, nil
		}
	default:
		join, err = c.cgroup.Join()
	}
	if err != nil {
		gate.Close()
		return err
	}
	if join != nil {
		defer join.Close()
		res.CgroupFD, res.CgroupTasks = join.Unified, join.Tasks
	}
	ch, err := launch.Start(ctx, p, res)
	gate.CloseChildEnds()
	if err != nil {
		gate.Close()
		return err
	}
	c.gate, c.plan = gate, p
	c.console = ch.Console
	c.init = &process{child: ch.Process, pid: ch.Pid, status: StatusCreated, done: make(chan struct{}), terminal: r.Terminal}
	if r.Trace {
		c.trace = traceText(p, ch.Times)
	}
	return nil
}

// resources returns what every launch needs; the caller adds the rest.
func (e *Engine) resources(io Stdio) *launch.Resources {
	fd := func(f *os.File) int {
		if f == nil {
			return -1
		}
		return int(f.Fd())
	}
	return &launch.Resources{
		Stdin: fd(io.In), Stdout: fd(io.Out), Stderr: fd(io.Err),
		DevNull: int(e.host.DevNull.Fd()), Proc: int(e.host.Proc.Fd()), OwnPidNS: host.PIDNS,
		CgroupFD: -1, StartGate: -1, Verdict: -1, ContainerPidfd: -1, InitRoot: -1, Door: -1,
		Children: e.children,
		NoFile:   unix.Rlimit{Cur: nofile.Soft, Max: nofile.Hard},
	}
}

// startsItself tells whether init need not wait for Start: who holds the container starts it next, and has nothing to do before.
func (c *Container) startsItself(r CreateRequest) bool {
	return r.Hold && !r.Notify && !r.Trace && c.spec.Process != nil && !c.spec.Process.Terminal &&
		(c.spec.Hooks == nil || len(c.spec.Hooks.StartContainer) == 0)
}

// born prepares the record of the process; when known is called the process may go on, and from then on a crash of ours leaves it
// alive.
func (c *Container) born(pid int) (known func() error, err error) {
	start, err := store.StartTime(pid)
	if err != nil {
		return nil, err
	}
	c.record.Pid, c.record.StartTime, c.record.Status = pid, start, lifecycle.Created.String()
	if c.detached {
		c.record.Status = "" // the kernel knows
	}
	return c.dir.Prepare(c.record)
}

// traceText prints the plan with the time each step took.
func traceText(p *plan.Plan, times []time.Duration) string {
	var b strings.Builder
	for i, line := range strings.Split(strings.TrimSuffix(p.String(), "\n"), "\n") {
		switch {
		case i >= len(times):
			fmt.Fprintf(&b, "%10s  %s\n", "", line)
		case times[i] < 0:
			fmt.Fprintf(&b, "%10s  %s\n", "at start", line)
		default:
			fmt.Fprintf(&b, "%7d µs  %s\n", times[i].Microseconds(), line)
		}
	}
	return b.String()
}
