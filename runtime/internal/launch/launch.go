// Package launch carries out a plan: it opens what the child needs, lowers the steps into a program, forks, does the caller's
// part at the gates, and names the step that failed.
package launch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/child"
	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/sys"
)

// Resources are the caller's descriptors and deeds for one launch. Descriptors are borrowed; -1 means none.
type Resources struct {
	Stdin, Stdout, Stderr int
	DevNull               int
	// Proc is an O_PATH descriptor of the host's /proc, checked to be one.
	Proc int
	// CgroupFD is a cgroup2 directory the child is born in; CgroupTasks are the `tasks` files of v1 hierarchies, O_WRONLY.
	CgroupFD    int
	CgroupTasks []int
	// MakeCgroups, when set, makes the cgroups of v1 while the child works (plan.EnterCgroup.Later), and returns their tasks files, at
	// most Hierarchies, which the launch closes.
	MakeCgroups func() (tasks []int, err error)
	Hierarchies int
	// EnterCgroup, when set, moves the waiting child into its cgroup (a systemd scope, which begins with a process).
	EnterCgroup func(pid int) error
	// Network is what MakeNetwork has returned for the plan.
	Network *Beside
	// StartGate and Verdict are the child's ends of the FIFOs of a container's init.
	StartGate, Verdict int
	// Detached: init must not end with its caller once Born has returned; see store.Dir.MakeDetachedGate.
	Detached bool
	// Preserve is how many descriptors from 3 on the process inherits.
	Preserve int
	// ContainerPidfd is the container's init (an exec).
	ContainerPidfd int
	// Door is the child's end of the socket at which an init gives its namespaces (plan.Ready.Door).
	Door int
	// Entry is what such an init has given (an exec); nil where they can be had by ContainerPidfd.
	Entry *Entry
	// OwnPidNS returns the caller's own pid namespace, a descriptor that it keeps. Asked only for a child in another one.
	OwnPidNS func() (int, error)
	Children *child.Table
	// Born is called with the pid while the child is on its way to its last gate, so that the caller can prepare a record of it.
	// What it returns is called when the child is there, and makes the record valid; nil when it is valid already.
	Born func(pid int) (known func() error, err error)
	// Permitted: Born puts a byte into the start gate, by which init goes on without having been stopped.
	Permitted bool
	// RunHooks runs the hooks of one point (plan.RunHooks) while init, which it borrows, waits.
	RunHooks func(ctx context.Context, init *child.Process, point string) error
	// InitRoot is the root directory of the container's init: the host's before it has left that (plan.RuntimeRoot), or the one
	// to which no mount namespace leads (plan.JoinContainer).
	InitRoot int
	// Home returns the home directory of a user in the passwd file below a root directory (plan.ReadHome).
	Home func(root string, uid uint32) string
	// SendListener sends the listener of the process's seccomp filter to the agent of plan.Listener. fd is borrowed.
	SendListener func(ctx context.Context, pid, fd int, a plan.Listener) error
	// NoFile is the RLIMIT_NOFILE of a child whose plan sets none.
	NoFile unix.Rlimit
	Trace  bool
	// FailStep makes the step of that number, from 1, fail with EIO; 0 none.
	FailStep int
}

// Child is a launched process; the caller owns it.
type Child struct {
	*child.Process
	Console *os.File        // the terminal's master, or nil
	Times   []time.Duration // per step, with Resources.Trace; below 0: not reached
}

// StepError is the failure of one step.
type StepError struct {
	Step int    // index in Plan.Steps
	From string // its config path
	What string // what it does
	Err  error
	// Action is the step itself, for those that know what a failure means to a client.
	Action plan.Action
}

// NewStepError says that the step of index i failed.
func NewStepError(p *plan.Plan, i int, err error) *StepError {
	s := p.Steps[i]
	e := &StepError{Step: i, From: s.From, What: s.Do.String(), Err: err, Action: s.Do}
	if c, ok := s.Do.(plan.Credentials); ok && ofPath(err) {
		e.From, e.What = "process.cwd", "enter "+c.Dir // the step's only path
	}
	return e
}

// ofPath tells whether an error is one that the kernel has for a path.
func ofPath(err error) bool {
	for _, errno := range []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ELOOP, unix.ENAMETOOLONG} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func (e *StepError) Error() string {
	text := fmt.Sprintf("%s: %v", e.What, e.Err)
	if e.From != "" {
		text = e.From + ": " + text
	}
	if h := hint(e.Action, e.Err); h != "" {
		text += " (" + h + ")"
	}
	return text
}

func (e *StepError) Unwrap() error { return e.Err }

// Start launches the process of a plan as far as its last gate (a container's init, stopped) or past execve (an exec). On
// any error, and when ctx ends before it is there, nothing is left of it.
func Start(ctx context.Context, p *plan.Plan, r *Resources) (*Child, error) {
	c, err := start(ctx, p, r, firstPart(p, r))
	if errors.Is(err, rawchild.ErrRoom) {
		return start(ctx, p, r, len(p.Steps)) // before its caller has done anything for it
	}
	return c, err
}

// start is Start with a program that has the first steps; the rest follows while the child carries these out.
func start(ctx context.Context, p *plan.Plan, r *Resources, first int) (*Child, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	prep, err := prepare(p)
	defer prep.close()
	if err != nil {
		return nil, err
	}
	if prep.root < 0 {
		prep.root = r.InitRoot
	}
	stdio, err := aboveStdio(r)
	if err != nil {
		return nil, err
	}
	defer stdio.close()
	pipes, err := makePipes(p.SendsFiles)
	if err != nil {
		return nil, err
	}
	defer pipes.close()
	if err := pipes.addLate(r); err != nil {
		return nil, err
	}
	f := &flight{plan: p, r: r, pipes: pipes, prep: prep, stdio: stdio, sent: -1}
	defer f.closeRoom()
	var l *lowering
	if first < len(p.Steps) {
		if l, err = f.lowerFirst(first, &stdio.r); err != nil {
			return nil, err
		}
	} else {
		l = lower(p, prep, &stdio.r, pipes)
		f.points = l.points
	}
	if l.err != nil {
		return nil, NewStepError(p, l.errStep, l.err)
	}
	prog := l.finish()
	var times *traceBuffer
	if r.Trace {
		if times, err = shareData(prog); err != nil {
			return nil, err
		}
		defer times.close()
	}
	began := now()
	err = f.fork(prog)
	pipes.closeChildEnds()
	if err != nil {
		return nil, err
	}
	defer interruptible(ctx, pipes)()
	defer f.devices.close()
	defer f.dropSent()
	if err := f.follow(ctx); err != nil {
		if undo := f.devices.undo(); undo != nil {
			err = fmt.Errorf("%w (and while undoing it: %v)", err, undo)
		}
		f.abort()
		return nil, err
	}
	if times != nil {
		f.child.Times = times.read(p, l.clocks, began, r.Network)
	}
	return f.child, nil
}

// flight is a launch between fork and its end.
type flight struct {
	plan     *plan.Plan
	r        *Resources
	pipes    *pipes
	prep     *prepared
	stdio    *stdio
	points   []point
	asked    int // how often the child asked for one
	child    *Child
	released bool // past its last gate
	devices  devices
	sent     int          // the descriptor that came with the last report, or -1
	known    func() error // see Resources.Born
	room     *rawchild.Room
	rest     func() error // fills the room
}

func (f *flight) fork(prog *rawchild.Program) error {
	clone, step := cloneOf(f.plan)
	if f.r.FailStep == step+1 {
		return NewStepError(f.plan, step, unix.EIO)
	}
	c := rawchild.Clone{Flags: uint64(clone.New), PidNS: f.prep.pidNS}
	if clone.JoinPid {
		c.PidNS = f.r.ContainerPidfd
	}
	if c.PidNS >= 0 {
		own, err := f.r.OwnPidNS()
		if err != nil {
			return NewStepError(f.plan, step, err)
		}
		c.OwnPidNS = own
	}
	if f.r.CgroupFD >= 0 {
		c.Flags |= unix.CLONE_INTO_CGROUP
		c.CgroupFD = f.r.CgroupFD
	}
	fd := -1
	pid, err := f.r.Children.Fork(func() (pid int, err error) {
		pid, fd, err = rawchild.Start(prog, c)
		return pid, err
	})
	if err != nil {
		return NewStepError(f.plan, step, err)
	}
	return f.adopt(pid, fd)
}

// cloneOf returns the step that makes the child, and its index.
func cloneOf(p *plan.Plan) (clone plan.Clone, step int) {
	for i, s := range p.Steps {
		if c, ok := s.Do.(plan.Clone); ok {
			clone, step = c, i
		}
	}
	return clone, step
}

// adopt makes pid the child of this flight.
func (f *flight) adopt(pid, pidfd int) error {
	p, err := f.r.Children.Adopt(pid, pidfd)
	if err != nil {
		return err
	}
	f.child = &Child{Process: p}
	return nil
}

// born lets the caller prepare its record of the child.
func (f *flight) born() (err error) {
	if f.r.Born != nil {
		f.known, err = f.r.Born(f.child.Pid)
	}
	return err
}

// abort ends the child and waits for it.
func (f *flight) abort() {
	f.child.Kill()
	if f.child.Console != nil {
		f.child.Console.Close()
	}
}

// release closes what only the child has a use for.
func (f *flight) release() {
	f.prep.release(f.plan)
	f.stdio.close()
	f.pipes.closeLates()
	f.closeRoom()
}

func (f *flight) closeRoom() {
	if f.room != nil {
		f.room.Close()
		f.room = nil
	}
}

// follow answers the child's reports until it is where the plan ends.
func (f *flight) follow(ctx context.Context) error {
	if f.rest != nil {
		if err := f.rest(); err != nil {
			return err
		}
	}
	if err := f.makeLate(); err != nil {
		return err
	}
	if err := f.writeAside(); err != nil {
		return err
	}
	if err := f.born(); err != nil {
		return err
	}
	f.release()
	last := 0
	for {
		rep, err := f.next(ctx)
		switch {
		case err != nil:
			return err
		case rep == nil && f.released:
			return nil // the pipe closed at execve
		case rep == nil:
			return f.ended(last)
		}
		last = int(rep.Step)
		if rep.Kind == rawchild.Failed {
			return NewStepError(f.plan, last, unix.Errno(rep.Value))
		}
		done, err := f.gate(ctx, rep)
		if err != nil {
			var step *StepError
			if errors.As(err, &step) {
				return err
			}
			return NewStepError(f.plan, last, err)
		}
		if done {
			return nil
		}
	}
}

// next reads one report; nil is the end of the pipe. What the child has said before ctx ended counts: its program may run.
func (f *flight) next(ctx context.Context) (*rawchild.Report, error) {
	var buf [rawchild.ReportSize]byte
	f.dropSent()
	n, err := 0, error(nil)
	for {
		if ctx.Err() != nil && !f.spoke() {
			return nil, ctx.Err()
		}
		if f.plan.SendsFiles {
			n, f.sent, err = receive(f.pipes.reports, buf[:])
		} else {
			n, err = f.pipes.reports.Read(buf[:])
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		f.pipes.reports.SetReadDeadline(time.Time{}) // it was that of ctx
	}
	switch {
	case n == 0:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the child's report: %w", err)
	case n != len(buf):
		return nil, fmt.Errorf("the child's report has %d bytes (this is a bug)", n)
	}
	w := binary.NativeEndian
	return &rawchild.Report{Kind: rawchild.ReportKind(w.Uint32(buf[0:])), Step: int32(w.Uint32(buf[4:])), Value: w.Uint32(buf[8:])}, nil
}

// interruptible makes the end of ctx end a wait for the child's reports, until stop is called.
func interruptible(ctx context.Context, p *pipes) (stop func() bool) {
	return context.AfterFunc(ctx, func() { p.reports.SetReadDeadline(time.Unix(1, 0)) })
}

// spoke tells whether there is a report to read, or the end of the pipe.
func (f *flight) spoke() (yes bool) {
	conn, err := f.pipes.reports.SyscallConn()
	if err != nil {
		return false
	}
	err = conn.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		yes = err == nil && n > 0
	})
	return yes && err == nil
}

// ended explains a child that ended without a report.
func (f *flight) ended(last int) error {
	// It has closed its pipe: it is dead or dying.
	if _, status, err := sys.PeekChild(f.child.Pid, unix.WEXITED); err == nil && status.Signaled() {
		return fmt.Errorf("the container's first process was killed by signal %d (%s) after step %d (%s)",
			status.Signal(), unix.SignalName(status.Signal()), last+1, f.plan.Steps[last].Do)
	}
	return fmt.Errorf("the container's first process ended after step %d (%s)", last+1, f.plan.Steps[last].Do)
}

// gate does the caller's part of a step and lets the child go on. done: the launch is over.
func (f *flight) gate(ctx context.Context, rep *rawchild.Report) (done bool, err error) {
	switch rep.Kind {
	case gateConsole:
		if err := f.takeConsole(int(rep.Value)); err != nil {
			return false, err
		}
	case gateDevice:
		if err := f.devices.move(f.child, int(rep.Value), f.plan.Steps[rep.Step].Do.(plan.MoveNetDevice)); err != nil {
			return false, err
		}
	case gateListener:
		if err := f.handOver(ctx, int(rep.Value), f.plan.Steps[rep.Step].Do.(plan.Listener)); err != nil {
			return false, err
		}
	case gateRefork:
		if err := f.followChild(int(rep.Value)); err != nil {
			return false, err
		}
	case gateReady:
		return f.ready(rep)
	case gateHome:
		return false, f.say(homeAnswer(f.r.Home(f.rootPath(), f.plan.Steps[rep.Step].Do.(plan.ReadHome).UID)))
	case gatePoint:
		return false, f.answerPoint(int(rep.Value))
	case gateStep:
		switch a := f.plan.Steps[rep.Step].Do.(type) {
		case plan.MapIDs:
			err = f.mapIDs(ctx, a)
		case plan.CheckIDs:
			err = checkIDs(f.child.Pid, a)
		case plan.SetOffsets:
			err = writeProc(f.child.Pid, timeOffsetsFile, a.Text())
		case plan.ScoreAdj:
			err = f.scoreAdj(a)
		case plan.EnterCgroup:
			err = f.r.EnterCgroup(f.child.Pid)
		case plan.Limits:
			err = setLimits(f.child.Pid, allLimits(a, f.r.NoFile))
		case plan.Scheduler:
			attr := schedAttr(a)
			err = unix.SchedSetAttr(f.child.Pid, &attr, 0)
		case plan.IOPriority:
			err = setIOPriority(f.child.Pid, a)
		case plan.MountFS:
			err = f.copyUp(ctx, int(rep.Step), int(rep.Value), a)
		case plan.RunHooks:
			err = f.r.RunHooks(ctx, f.child.Process, a.Point)
		}
		if err != nil {
			return false, err
		}
	default:
		return false, fmt.Errorf("unknown report %d (this is a bug)", rep.Kind)
	}
	return false, f.answer()
}

func (f *flight) scoreAdj(a plan.ScoreAdj) error {
	if err := writeProc(f.child.Pid, "oom_score_adj", strconv.Itoa(a.Value)); !a.Best {
		return err
	}
	return nil
}

// rootPath is a path that leads to the root directory of the child, or to the one that it has sent.
func (f *flight) rootPath() string {
	if f.plan.SendsFiles {
		return fmt.Sprintf("/proc/self/fd/%d", f.sent)
	}
	return fmt.Sprintf("/proc/%d/root", f.child.Pid)
}

func (f *flight) answer() error { return f.say([]byte{1}) }

func (f *flight) say(answer []byte) error {
	if _, err := unix.Write(f.pipes.answers, answer); err != nil && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("answer the child: %w", err)
	}
	return nil // EPIPE: it is dead, and the next read of its reports says so
}

func (f *flight) takeConsole(fd int) error {
	master, err := f.borrow(fd)
	if err != nil {
		return fmt.Errorf("take the terminal's master: %w", err)
	}
	if err := unix.SetNonblock(master, true); err != nil {
		unix.Close(master)
		return fmt.Errorf("make the terminal's master non-blocking: %w", err)
	}
	f.child.Console = os.NewFile(uintptr(master), "terminal")
	return nil
}

// handOver takes the child's seccomp listener and lets the caller send it to its agent.
func (f *flight) handOver(ctx context.Context, fd int, a plan.Listener) error {
	own, err := f.borrow(fd)
	if err != nil {
		return fmt.Errorf("take the seccomp listener: %w", err)
	}
	defer unix.Close(own)
	return f.r.SendListener(ctx, f.child.Pid, own, a)
}

// followChild goes on with the second child of plan.Refork; the first has ended or is about to.
func (f *flight) followChild(pid int) error {
	old := f.child
	fd, err := unix.PidfdOpen(pid, 0) // our unreaped child: the pid is its own
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	f.r.Children.Add(pid)
	if err := f.adopt(pid, fd); err != nil {
		return err
	}
	_, err = old.Wait()
	return errors.Join(err, old.Close(), f.born())
}

// ready makes the caller's record of the process valid, and ends the launch of an init, mostly stopped, or lets an exec go.
func (f *flight) ready(rep *rawchild.Report) (done bool, err error) {
	a := f.plan.Steps[rep.Step].Do.(plan.Ready)
	if f.known != nil {
		if err := f.known(); err != nil {
			return false, err
		}
	}
	if a.Stop {
		if f.r.Detached {
			if err := f.answer(); err != nil {
				return false, err
			}
		}
		if f.r.Permitted {
			return true, nil
		}
		return true, f.stop()
	}
	f.released = true
	return false, f.answer()
}

// stop puts the child into the state `created`: stopped, and seen stopped.
func (f *flight) stop() error {
	if err := f.child.Signal(unix.SIGSTOP); err != nil {
		return fmt.Errorf("stop the first process: %w", err)
	}
	_, status, err := sys.PeekChild(f.child.Pid, unix.WSTOPPED|unix.WEXITED)
	if err != nil {
		return fmt.Errorf("wait for the stop of the first process: %w", err)
	}
	if !status.Stopped() {
		return errors.New("the first process ended while it was being stopped")
	}
	return nil
}
