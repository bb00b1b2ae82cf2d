package engine

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/bundle"
	"github.com/gosuda/gosudacon/runtime/internal/launch"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/seccomp"
)

// Explanation is what Create would do.
type Explanation struct {
	Steps    []PlanStep `json:"steps"`              // in their order
	Warnings []string   `json:"warnings,omitempty"` // what would be left out
	Notes    []string   `json:"notes,omitempty"`    // what config.json says in vain
}

// PlanStep is one step of a launch plan.
type PlanStep struct {
	Number int      `json:"number,omitempty"` // in the launch plan, from 1, as in traces and errors; 0: before or after the launch
	Place  string   `json:"place"`            // beside: by a process of its own, meanwhile; fork: by the clone itself; child: by the new process; gate: by the runtime, while that waits; aside: by the runtime, while that goes on; caller: by the runtime
	Config string   `json:"config,omitempty"` // what asks for it in config.json; "" for what every container needs
	What   string   `json:"what"`
	Calls  []string `json:"calls,omitempty"` // the system calls of the process that does it, in order, each once
}

// Explain returns what CreateDetached would do, or its error, without touching anything.
func (e *Engine) Explain(r CreateRequest) (*Explanation, error) {
	c := &Container{engine: e, id: r.ID, bundle: r.Bundle, detached: true}
	cg, p, err := c.prepare(r)
	if err != nil {
		return nil, explain(err)
	}
	if err := bundle.CheckRoot(c.root); err != nil {
		return nil, errorf(InvalidArgument, err, "config.json: %v", err)
	}
	if err := missing(p, cg.Paths()); err != nil {
		return nil, explain(err)
	}
	out := &Explanation{Warnings: p.Warnings, Notes: p.Notes}
	makeCgroups := func() {
		for _, d := range cg.Describe() {
			out.Steps = append(out.Steps, PlanStep{Place: "caller", Config: d.Property, What: d.What})
		}
	}
	if !entersLater(p) {
		makeCgroups()
	}
	calls := launch.Calls(p)
	for i, s := range p.Steps {
		if enter, ok := s.Do.(plan.EnterCgroup); ok && enter.Later {
			makeCgroups() // while the child comes this far
		}
		step := PlanStep{Number: i + 1, Place: strings.TrimSpace(s.Do.Where().String()), Config: s.From, What: s.Do.String()}
		if step.Place == "fork" {
			step.Calls = []string{"clone3"}
		}
		for _, nr := range calls[i] {
			step.Calls = append(step.Calls, seccomp.CallName(nativeArch, nr))
		}
		out.Steps = append(out.Steps, step)
	}
	out.Steps = append(out.Steps, laterHooks(c.spec.Hooks)...)
	return out, nil
}

// missing looks for what a plan needs of the host's file system: the sources of bind mounts, but for cgroups that are still to be made,
// namespaces to join, and hooks.
func missing(p *plan.Plan, cgroups map[string]string) error {
	made := slices.Collect(maps.Values(cgroups))
	for i, s := range p.Steps {
		var paths []string
		switch a := s.Do.(type) {
		case plan.Bind:
			if !slices.Contains(made, a.Source) {
				paths = []string{a.Source}
			}
		case plan.BindDevice:
			paths = []string{a.Path}
		case plan.Join:
			paths = []string{a.Path}
		case plan.Clone:
			if a.PidNS != "" {
				paths = []string{a.PidNS}
			}
		case plan.RunHooks:
			if a.Point != "startContainer" { // which are in the container's file system
				paths = a.Paths
			}
		}
		for _, path := range paths {
			if _, err := os.Stat(path); err != nil {
				return launch.NewStepError(p, i, err)
			}
		}
	}
	return nil
}

// laterHooks are those that are run when the launch is over.
func laterHooks(h *specs.Hooks) (steps []PlanStep) {
	when := map[string]string{"poststart": "when the process has executed its program", "poststop": "when the container is deleted"}
	for _, p := range plan.HookPoints(h) {
		for i, hook := range p.List {
			if text := when[p.Name]; text != "" {
				steps = append(steps, PlanStep{Place: "caller", Config: fmt.Sprintf("hooks.%s[%d]", p.Name, i), What: "run " + hook.Path + " " + text})
			}
		}
	}
	return steps
}

// String prints the steps a line each, with their system calls last.
func (x *Explanation) String() string {
	width := 0
	for _, s := range x.Steps {
		width = max(width, len(s.Config))
	}
	var b strings.Builder
	for _, s := range x.Steps {
		number := ""
		if s.Number > 0 {
			number = strconv.Itoa(s.Number)
		}
		fmt.Fprintf(&b, "%3s  %-6s  %-*s  %s", number, s.Place, width, s.Config, s.What)
		if len(s.Calls) > 0 {
			fmt.Fprintf(&b, "  [%s]", strings.Join(s.Calls, " "))
		}
		b.WriteByte('\n')
	}
	for _, w := range x.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	for _, n := range x.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return b.String()
}
