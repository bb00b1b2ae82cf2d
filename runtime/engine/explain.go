package engine

import (
	"fmt"
	"strings"

	"github.com/gosuda/gosudacon/runtime/internal/launch"
	"github.com/gosuda/gosudacon/runtime/internal/seccomp"
)

// Explanation is what Create would do.
type Explanation struct {
	Steps    []PlanStep `json:"steps"`              // in their order
	Warnings []string   `json:"warnings,omitempty"` // what would be left out
}

// PlanStep is one step of a launch plan.
type PlanStep struct {
	Number int      `json:"number"`           // from 1
	Place  string   `json:"place"`            // fork: by the clone itself; child: by the new process; gate: by the runtime, while that waits
	Config string   `json:"config,omitempty"` // what asks for it in config.json; "" for what every container needs
	What   string   `json:"what"`
	Calls  []string `json:"calls,omitempty"` // the new process's system calls, in order, each once
}

// Explain returns what Create would do, or its error, without touching anything.
func (e *Engine) Explain(r CreateRequest) (*Explanation, error) {
	c := &Container{engine: e, id: r.ID, bundle: r.Bundle}
	_, p, err := c.prepare(r)
	if err != nil {
		return nil, explain(err)
	}
	out := &Explanation{Warnings: p.Warnings}
	calls := launch.Calls(p)
	for i, s := range p.Steps {
		step := PlanStep{Number: i + 1, Place: strings.TrimSpace(s.Do.Where().String()), Config: s.From, What: s.Do.String()}
		for _, nr := range calls[i] {
			step.Calls = append(step.Calls, seccomp.CallName(nativeArch, nr))
		}
		out.Steps = append(out.Steps, step)
	}
	return out, nil
}

// String prints the steps a line each, with their system calls last.
func (x *Explanation) String() string {
	width := 0
	for _, s := range x.Steps {
		width = max(width, len(s.Config))
	}
	var b strings.Builder
	for _, s := range x.Steps {
		fmt.Fprintf(&b, "%3d  %-5s  %-*s  %s", s.Number, s.Place, width, s.Config, s.What)
		if len(s.Calls) > 0 {
			fmt.Fprintf(&b, "  [%s]", strings.Join(s.Calls, " "))
		}
		b.WriteByte('\n')
	}
	for _, w := range x.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.String()
}
