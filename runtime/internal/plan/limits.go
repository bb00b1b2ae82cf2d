package plan

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// What the kernel, or the memory of the process that carries out the plan, does not take.
const (
	maxList    = 10_000      // entries of a list that has a step each; a mount namespace holds 100,000 mounts (sysctl fs.mount-max)
	maxGroups  = 65_536      // NGROUPS_MAX, setgroups(2)
	maxString  = 32*4096 - 1 // MAX_ARG_STRLEN without the NUL, execve(2)
	maxExtents = 340         // UID_GID_MAP_MAX_EXTENTS, user_namespaces(7)
	maxID      = 1<<32 - 2   // the last number is no id
)

// validateSizes refuses what is too much before anything is made of it.
func (c *compiler) validateSizes() error {
	s := c.spec
	for _, list := range []struct {
		at string
		n  int
	}{
		{"mounts", len(s.Mounts)}, {"linux.devices", len(s.Linux.Devices)}, {"linux.maskedPaths", len(s.Linux.MaskedPaths)},
		{"linux.readonlyPaths", len(s.Linux.ReadonlyPaths)}, {"linux.sysctl", len(s.Linux.Sysctl)},
	} {
		if list.n > maxList {
			return &Error{list.at, fmt.Sprintf("%d entries; this runtime takes %d", list.n, maxList)}
		}
	}
	return nil
}

func validateProcessSizes(p *specs.Process) error {
	if n := len(p.User.AdditionalGids); n > maxGroups {
		return &Error{"process.user.additionalGids", fmt.Sprintf("%d groups; the kernel takes %d", n, maxGroups)}
	}
	for _, list := range []struct {
		at   string
		text []string
	}{{"process.args", p.Args}, {"process.env", p.Env}} {
		for i, s := range list.text {
			if len(s) > maxString {
				return &Error{fmt.Sprintf("%s[%d]", list.at, i), fmt.Sprintf("%d bytes; the kernel takes %d", len(s), maxString)}
			}
		}
	}
	return nil
}

// validateMaps refuses mappings that would give two ids of the container one id of the host, or the reverse. The kernel does
// too, without saying which.
func (c *compiler) validateMaps() error {
	l := c.spec.Linux
	if err := validatePair("linux", l.UIDMappings, l.GIDMappings); err != nil {
		return err
	}
	for i := range c.spec.Mounts {
		m := &c.spec.Mounts[i]
		if len(m.UIDMappings)+len(m.GIDMappings) == 0 {
			continue
		}
		if err := validatePair(fmt.Sprintf("mounts[%d]", i), m.UIDMappings, m.GIDMappings); err != nil {
			return err
		}
	}
	return nil
}

func validatePair(at string, uid, gid []specs.LinuxIDMapping) error {
	if err := validateMap(at+".uidMappings", uid); err != nil {
		return err
	}
	return validateMap(at+".gidMappings", gid)
}

func validateMap(at string, maps []specs.LinuxIDMapping) error {
	if len(maps) > maxExtents {
		return &Error{at, fmt.Sprintf("%d mappings; the kernel takes %d", len(maps), maxExtents)}
	}
	overlap := func(a, b, sizeA, sizeB uint32) bool {
		return uint64(a) < uint64(b)+uint64(sizeB) && uint64(b) < uint64(a)+uint64(sizeA)
	}
	for i, m := range maps {
		here := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case m.Size == 0:
			return &Error{here + ".size", "is 0"}
		case uint64(m.ContainerID)+uint64(m.Size)-1 > maxID:
			return &Error{here, fmt.Sprintf("containerID %d and size %d go beyond the last id", m.ContainerID, m.Size)}
		case uint64(m.HostID)+uint64(m.Size)-1 > maxID:
			return &Error{here, fmt.Sprintf("hostID %d and size %d go beyond the last id", m.HostID, m.Size)}
		}
		for j, o := range maps[:i] {
			if overlap(m.ContainerID, o.ContainerID, m.Size, o.Size) {
				return &Error{here, fmt.Sprintf("maps ids of the container that %s[%d] maps too", at, j)}
			}
			if overlap(m.HostID, o.HostID, m.Size, o.Size) {
				return &Error{here, fmt.Sprintf("maps to ids of the host that %s[%d] maps to too", at, j)}
			}
		}
	}
	return nil
}
