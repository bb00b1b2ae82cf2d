package plan

import (
	"fmt"
	"path"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// CompileMounts returns the plan that makes more mounts in a container, which may be paused, whose config is spec and which was made of
// bundle: what config.json's mounts say, with the paths of errors beginning at mounts[0].
func CompileMounts(spec *specs.Spec, bundle string, list []specs.Mount, facts *Facts) (*Plan, error) {
	more := *spec
	more.Mounts = list
	c := &compiler{spec: &more, facts: facts, bundle: bundle, plan: &Plan{}, joined: map[Namespaces]bool{}, paths: map[Namespaces]string{}}
	if err := c.enterMounts(); err != nil {
		return nil, err
	}
	if _, err := c.propagation(); err != nil {
		return nil, err
	}
	if err := c.mounts(); err != nil {
		return nil, err
	}
	c.plan.Steps = append(c.plan.Steps, c.sealed...)
	c.leave()
	return c.plan, nil
}

// CompileUnmounts returns the plan that takes mounts away again, the last first.
func CompileUnmounts(spec *specs.Spec, list []specs.Mount) (*Plan, error) {
	c := &compiler{spec: spec, plan: &Plan{}, joined: map[Namespaces]bool{}, paths: map[Namespaces]string{}}
	if err := c.enterMounts(); err != nil {
		return nil, err
	}
	for i := len(list) - 1; i >= 0; i-- {
		at := fmt.Sprintf("mounts[%d].destination", i)
		dest := path.Clean("/" + list[i].Destination)
		if dest == "/" {
			return nil, &Error{at, "is the root file system"}
		}
		c.add(at, Unmount{Dest: dest})
	}
	c.leave()
	return c.plan, nil
}

// enterMounts plans the way into the container's mount namespace. It does not lead through its cgroup, where a paused container would stop
// it.
func (c *compiler) enterMounts() error {
	if sharesMounts(c.spec) {
		return &Error{"linux.namespaces", "without a mount namespace of its own the mounts would be somebody else's"}
	}
	types := NewMount
	for _, n := range c.spec.Linux.Namespaces {
		flag, _ := namespaceType(n.Type)
		c.newNS |= flag
		types |= flag & NewUser
	}
	c.add("linux.namespaces", Clone{})
	c.add("", Detach{})
	c.add("linux.namespaces", JoinContainer{Types: types, Root: true})
	if types&NewUser != 0 {
		c.add("linux.namespaces", BecomeRoot{})
	}
	return nil
}

// leave plans the end of a process that executes nothing.
func (c *compiler) leave() {
	c.add("", Ready{})
	c.add("", End{})
}

// Unmount takes the topmost mount on a path of the container away, with all below it, when nobody uses it any more.
type Unmount struct {
	inChild
	Dest string
}

func (u Unmount) String() string { return "unmount " + u.Dest }

// End ends the process with status 0.
type End struct{ inChild }

func (End) String() string { return "end" }
