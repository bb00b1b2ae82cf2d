package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// HookPoint is one list of config.json's hooks.
type HookPoint struct {
	Name string // as in config.json
	List []specs.Hook
}

// HookPoints returns the six lists in the order of a container's life.
func HookPoints(h *specs.Hooks) []HookPoint {
	if h == nil {
		h = &specs.Hooks{}
	}
	return []HookPoint{
		{"prestart", h.Prestart}, //nolint:staticcheck // deprecated, but the spec has it
		{"createRuntime", h.CreateRuntime}, {"createContainer", h.CreateContainer}, {"startContainer", h.StartContainer},
		{"poststart", h.Poststart}, {"poststop", h.Poststop},
	}
}

func (c *compiler) validateHooks() error {
	for _, p := range HookPoints(c.spec.Hooks) {
		for i, h := range p.List {
			at := fmt.Sprintf("hooks.%s[%d]", p.Name, i)
			switch {
			case !path.IsAbs(h.Path):
				return &Error{at + ".path", fmt.Sprintf("%q is not an absolute path", h.Path)}
			case h.Timeout != nil && *h.Timeout <= 0:
				return &Error{at + ".timeout", fmt.Sprintf("%d s is not more than zero", *h.Timeout)}
			}
			for _, list := range [][]string{{h.Path}, h.Args, h.Env} {
				for _, s := range list {
					if strings.ContainsRune(s, 0) {
						return &Error{at, fmt.Sprintf("%q contains a NUL byte", s)}
					}
				}
			}
		}
	}
	return nil
}

// beforePivot are the points at which init waits while its root directory is still the host's.
var beforePivot = []string{"prestart", "createRuntime", "createContainer"}

// hasHooks tells whether there are hooks of the named points.
func (c *compiler) hasHooks(names ...string) bool {
	return slices.ContainsFunc(HookPoints(c.spec.Hooks), func(p HookPoint) bool { return len(p.List) > 0 && slices.Contains(names, p.Name) })
}

// runHooks plans the hooks of the named points.
func (c *compiler) runHooks(names ...string) {
	for _, p := range HookPoints(c.spec.Hooks) {
		for _, name := range names {
			if p.Name == name && len(p.List) > 0 {
				step := RunHooks{Point: name, Dumpable: name == "createContainer" && c.facts.User != nil}
				for _, h := range p.List {
					step.Paths = append(step.Paths, h.Path)
				}
				c.add("hooks."+name, step)
			}
		}
	}
}

// CompileCreateContainerHook returns the plan of a process that runs a createContainer hook: in the namespaces of the
// container, whose init waits before its pivot, but with the runtime's file system, as the container's mount namespace has
// it. spec is that of the container, root the absolute path of its root file system, where the hook starts.
func CompileCreateContainerHook(spec *specs.Spec, root string, h *specs.Hook, facts *Facts) *Plan {
	c := &compiler{spec: spec, facts: facts, plan: newPlan(facts)}
	const from = "hooks.createContainer"
	types := c.types()
	c.clone(types)
	c.add("linux.cgroupsPath", EnterCgroup{Stay: c.facts.NoCgroup})
	c.add("", ScoreAdj{Best: true})
	c.joinContainer(types, false)
	c.add(from, RuntimeRoot{Dir: root})
	c.add("", Ready{})
	c.add(from, Exec{Args: hookArgs(h), Env: h.Env, Candidates: []string{h.Path}})
	return c.plan
}

// CompileStartContainerHook returns the plan of a process that runs a startContainer hook in the container: with the
// identity, capabilities, limits and filter of process, because the program is one of the image's. A hook without an
// environment of its own has that of process, as with runc.
func CompileStartContainerHook(spec *specs.Spec, h *specs.Hook, facts *Facts) (*Plan, error) {
	p := *spec.Process
	p.Terminal, p.Args = false, hookArgs(h)
	if len(h.Env) > 0 {
		p.Env = h.Env
	}
	out, err := CompileExec(spec, &p, facts)
	if err != nil {
		return nil, err
	}
	for i, s := range out.Steps {
		switch a := s.Do.(type) {
		case FindExecutable:
			out.Steps[i].Do = FindExecutable{Name: h.Path, Candidates: []string{h.Path}}
		case Exec:
			a.Candidates = []string{h.Path}
			a.NeedHome = a.NeedHome && len(h.Env) == 0
			out.Steps[i].Do = a
		}
	}
	return out, nil
}

// hookArgs is the argv of a hook, whose args may be absent.
func hookArgs(h *specs.Hook) []string {
	if len(h.Args) == 0 {
		return []string{h.Path}
	}
	return h.Args
}
