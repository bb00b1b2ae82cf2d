package launch

import (
	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// A child is on its way, and then busy with its namespaces and capabilities, for as long as it takes to lower the steps that follow. So the
// program that it begins with ends there, and its caller lowers the rest meanwhile.

// firstPart returns how many steps the program has that the child begins with: all, if what the child writes is to be read later, or if the
// caller is needed before, whose answer would be taken for that the rest is there.
func firstPart(p *plan.Plan, r *Resources) int {
	for i, s := range p.Steps {
		switch s.Do.(type) {
		case plan.EnterNetwork, plan.LeaveHost:
			return i
		case plan.MakeNetwork, plan.Clone, plan.Detach, plan.ScoreAdj, plan.Join, plan.Unshare, plan.Bound:
		case plan.EnterCgroup:
			if r.EnterCgroup != nil {
				return len(p.Steps)
			}
		default:
			return len(p.Steps)
		}
		if r.Trace || s.Do.Where() == plan.AtGate {
			break
		}
	}
	return len(p.Steps)
}

// lowerFirst assembles the program of the first steps, which waits for the rest; f.rest puts that into f.room.
func (f *flight) lowerFirst(first int, r *Resources) (l *lowering, err error) {
	if f.room, err = rawchild.NewRoom(); err != nil {
		return nil, err
	}
	ends := *f.pipes // of which f closes the child's once it has forked
	l = newLowering(shortAsm(), f.plan, f.prep, r, &ends)
	l.steps(0, first)
	l.await()
	l.emit(rawchild.OpContinue)
	l.p.Rest = f.room
	f.rest = func() error {
		l := newLowering(asmOf(f.room.Program(usualOps, usualBranches, usualData)), f.plan, f.prep, r, &ends)
		l.steps(first, len(f.plan.Steps))
		l.answers()
		f.points = l.points
		if l.err != nil {
			return NewStepError(f.plan, l.errStep, l.err)
		}
		if err := f.room.Fill(l.finish()); err != nil {
			return err
		}
		return f.answer()
	}
	return l, nil
}
