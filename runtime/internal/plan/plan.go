// Package plan compiles a config.json and facts about the host into the ordered list of steps that make a container.
//
// It is pure: it opens no file and makes no system call. What it returns can be printed (Plan.String), compared in tests,
// and lowered by package launch into a program for the kernel.
package plan

import (
	"fmt"
	"strings"
)

// Plan is the ordered list of steps, as they will happen.
type Plan struct {
	Steps    []Step
	Warnings []string // what was left out because the spec or the host says so
	Notes    []string // what the spec says in vain, as widely used profiles do
	// ChildMounts: the child makes copies of the host's mounts, which else the caller does before the fork.
	ChildMounts bool
	// SendsFiles: the child sends the descriptors that its caller is to have, who else takes them.
	SendsFiles bool
}

// Step is one thing that will be done.
type Step struct {
	From string // path in config.json that asks for it, "" for what the runtime needs itself
	Do   Action
}

// Action is one of the types below; launch has one lowering for each.
type Action interface {
	String() string
	// Where says who does it.
	Where() Where
}

// Where is a place of execution.
type Where uint8

// The places: the child; the caller while that waits at a gate; the clone itself; the caller while the child goes on; a process beside,
// from before the clone on.
const (
	InChild Where = iota
	AtGate
	AtFork
	Aside
	Beside
)

func (w Where) String() string { return [...]string{"child", "gate", "fork", "aside", "beside"}[w] }

// String prints the plan numbered, one step a line: place, config path, what is done.
func (p *Plan) String() string {
	var b strings.Builder
	width := 0
	for _, s := range p.Steps {
		width = max(width, len(s.From))
	}
	for i, s := range p.Steps {
		fmt.Fprintf(&b, "%3d  %-6s  %-*s  %s\n", i+1, s.Do.Where(), width, s.From, s.Do)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return b.String()
}

// Find returns the first action of the wanted type.
func Find[T Action](p *Plan) (T, bool) {
	for _, s := range p.Steps {
		if a, ok := s.Do.(T); ok {
			return a, true
		}
	}
	var none T
	return none, false
}

// MakesNetwork tells whether the container has a network namespace that is made for it.
func (p *Plan) MakesNetwork() bool {
	_, beside := Find[MakeNetwork](p)
	_, itself := Find[LoopbackUp](p)
	return beside || itself
}

// SetHome adds the variable HOME when the config has none. It is the one fact that is known only once the root file system
// is mounted: the container's /etc/passwd has it.
func (p *Plan) SetHome(home func() string) {
	for i, s := range p.Steps {
		if e, ok := s.Do.(Exec); ok && e.NeedHome {
			e.Env, e.NeedHome = append(e.Env, "HOME="+home()), false
			p.Steps[i].Do = e
		}
	}
}

func gateOrChild(gate bool) Where {
	if gate {
		return AtGate
	}
	return InChild
}

type inChild struct{}

func (inChild) Where() Where { return InChild }

type atGate struct{}

func (atGate) Where() Where { return AtGate }

type atFork struct{}

func (atFork) Where() Where { return AtFork }
