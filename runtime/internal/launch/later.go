package launch

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// What the caller makes while the child works, it sends (plan.EnterCgroup.Later): the tasks files of the cgroups, which the child
// writes to itself, and the mounts that show them (plan.Bind.Later). The child waits where it needs them.

// addLate adds the socket for it.
func (p *pipes) addLate(r *Resources) error {
	if r.MakeCgroups == nil {
		return nil
	}
	pair, err := filesPair()
	if err != nil {
		return fmt.Errorf("make a socket for the cgroups: %w", err)
	}
	p.lates, p.late = pair[0], pair[1]
	return nil
}

// lateBinds returns the steps whose mounts are sent.
func lateBinds(p *plan.Plan) (steps []int) {
	for i, s := range p.Steps {
		if b, ok := s.Do.(plan.Bind); ok && b.Later {
			steps = append(steps, i)
		}
	}
	return steps
}

// enterLater takes what the caller has made, and enters the cgroups.
func (l *lowering) enterLater() {
	n := l.io.Hierarchies + len(lateBinds(l.plan))
	msg, fds := l.rightsOf(n, 1)
	l.call(unix.SYS_RECVMSG, imm(l.late), msg, imm(unix.MSG_CMSG_CLOEXEC)).exactly(1)
	header := fds
	header.Word -= unix.SizeofCmsghdr
	l.test(header, 0xffffffff, uint32(unix.CmsgLen(4*n)), unix.EMFILE)
	for i := range l.io.Hierarchies {
		l.load32(t0, at(fds, uint64(4*i)))
		l.call(unix.SYS_WRITE, t0.arg(), l.str("0"), imm(1)).exactly(1)
	}
	l.lates = at(fds, uint64(4*l.io.Hierarchies))
}

// lateCopy returns the next of the mounts that were sent, in regCopy.
func (l *lowering) lateCopy() rawchild.Arg {
	l.load32(regCopy, l.lates)
	l.lates = at(l.lates, 4)
	return regCopy.arg()
}

// makeLate makes what the child waits for, and sends it.
func (f *flight) makeLate() error {
	if f.r.MakeCgroups == nil {
		return nil
	}
	tasks, err := f.r.MakeCgroups()
	f.prep.fds = append(f.prep.fds, tasks...) // which prep closes
	if err != nil {
		return err
	}
	for len(tasks) < f.r.Hierarchies { // a named one that could not be had
		tasks = append(tasks, f.r.DevNull)
	}
	for _, i := range lateBinds(f.plan) {
		if err := f.prep.bind(i, f.plan.Steps[i].Do.(plan.Bind)); err != nil {
			return NewStepError(f.plan, i, err)
		}
		tasks = append(tasks, f.prep.step[i])
	}
	err = unix.Sendmsg(f.pipes.lates, []byte{1}, unix.UnixRights(tasks...), nil, unix.MSG_NOSIGNAL)
	if err != nil && !errors.Is(err, unix.EPIPE) { // it is dead, and the next read of its reports says so
		return fmt.Errorf("send the child its cgroups: %w", err)
	}
	return nil
}

// writeAside does what the caller does of the plan while the child goes on.
func (f *flight) writeAside() error {
	for i, s := range f.plan.Steps {
		if a, ok := s.Do.(plan.ScoreAdj); ok && a.Aside {
			if err := f.scoreAdj(a); err != nil {
				return NewStepError(f.plan, i, err)
			}
		}
	}
	return nil
}
