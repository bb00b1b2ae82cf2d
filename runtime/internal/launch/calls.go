package launch

import (
	"math"
	"slices"

	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// Calls returns, by step, the numbers of the system calls that the child, or the process beside, makes for a plan, each once, in the order
// of its program. What another launch than a real one cannot know, such as descriptors, does not change them.
func Calls(p *plan.Plan) [][]uint32 {
	prep := &prepared{step: map[int]int{}, isDir: map[int]bool{}, empty: -1, pidNS: -1}
	if _, ok := plan.Find[plan.MaskPath](p); ok {
		prep.empty = math.MaxInt32
	}
	prog := lower(p, prep, &Resources{Hierarchies: 1, CgroupFD: -1, StartGate: -1, Verdict: -1, ContainerPidfd: -1, InitRoot: -1, Door: -1}, &pipes{report: -1, control: -1, late: -1}).p
	calls := make([][]uint32, len(p.Steps))
	add := func(step int32, op rawchild.Op) {
		if op.Nr < rawchild.OpJump && !slices.Contains(calls[step], op.Nr) {
			calls[step] = append(calls[step], op.Nr)
		}
	}
	if i := networkStep(p); i >= 0 {
		beside := newLowering(shortAsm(), p, prep, &Resources{}, &pipes{})
		beside.makeNetwork(false)
		for _, op := range beside.p.Ops {
			add(int32(i), op)
		}
	}
	shared := slices.IndexFunc(prog.Ops, func(op rawchild.Op) bool { return op.Step == rawchild.CallersStep })
	for _, op := range prog.Ops {
		switch {
		case op.Nr == rawchild.OpCall:
			for _, called := range prog.Ops[shared:] {
				add(op.Step, called)
			}
		case op.Step != rawchild.CallersStep:
			add(op.Step, op)
		}
	}
	return calls
}
