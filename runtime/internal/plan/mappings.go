package plan

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// mappings checks that linux.uidMappings and linux.gidMappings are there if and only if a user namespace needs them, and that
// root is in them: the runtime makes the container as root of its user namespace.
func (c *compiler) mappings() error {
	l := c.spec.Linux
	for _, m := range []struct {
		at   string
		maps []specs.LinuxIDMapping
	}{{"linux.uidMappings", l.UIDMappings}, {"linux.gidMappings", l.GIDMappings}} {
		switch {
		case len(m.maps) == 0 && c.newNS&NewUser != 0:
			return &Error{m.at, "is empty, a new user namespace needs it"}
		case len(m.maps) > 0 && !c.inUserNS():
			return &Error{m.at, "needs a user namespace in linux.namespaces"}
		}
		if len(m.maps) > 0 && !contains(m.maps, 0) {
			return &Error{m.at, "does not map 0, with which the runtime makes the container"}
		}
	}
	return nil
}

func contains(maps []specs.LinuxIDMapping, id uint32) bool {
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return true
		}
	}
	return false
}

// mapped makes sure that the user namespace has the ids of a process. A joined one whose maps the config does not say is the
// kernel's to check.
func (c *compiler) mapped(p *specs.Process) error {
	check := func(at, in string, maps []specs.LinuxIDMapping, id uint32) error {
		if len(maps) > 0 && !contains(maps, id) {
			return &Error{at, fmt.Sprintf("%d is not in %s", id, in)}
		}
		return nil
	}
	if err := c.groupsAllowed(p); err != nil {
		return err
	}
	l := c.spec.Linux
	if err := check("process.user.uid", "linux.uidMappings", l.UIDMappings, p.User.UID); err != nil {
		return err
	}
	if err := check("process.user.gid", "linux.gidMappings", l.GIDMappings, p.User.GID); err != nil {
		return err
	}
	for i, g := range p.User.AdditionalGids {
		if err := check(fmt.Sprintf("process.user.additionalGids[%d]", i), "linux.gidMappings", l.GIDMappings, g); err != nil {
			return err
		}
	}
	return nil
}
