package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A caller without privileges on the host makes the same containers, as far as the kernel lets it, by other ways:
//
//   - Restricted: device nodes cannot be made, those of the host are bound; and a thread that went into another pid namespace
//     could not come back, so the child joins it itself and has a child of its own there.
//   - NoMounts: what the caller would prepare for the child, copies of the host's mounts, the child makes in its own mount
//     namespace.
//   - User: an ordinary user. The child may do all this in a user namespace only, and while it is undumpable it belongs to the
//     host's root: its caller sees nothing of it but what the child sends. Who enters the container while it waits for its start
//     is sent its namespaces (Ready.Door).

// User is an ordinary user, who makes user namespaces without privileges over the ids in them.
type User struct{ UID, GID uint32 } // on the host; effective

// user refuses what takes privileges on the host, whoever asks for it.
func (c *compiler) user() error {
	u, l := c.facts.User, c.spec.Linux
	if u == nil {
		return nil
	}
	switch {
	case !c.inUserNS():
		return &Error{"linux.namespaces", fmt.Sprintf("the runtime runs as the ordinary user %d, whose containers need a user namespace"+
			" (gosudacon spec --rootless writes such a config)", u.UID)}
	case len(l.NetDevices) > 0:
		return &Error{"linux.netDevices", "takes CAP_NET_ADMIN on the host, which an ordinary user does not have"}
	}
	return nil
}

// ownGroupOnly tells whether a new user namespace has but the user's own group: then the kernel wants setgroups(2) forbidden in
// it, by which a process could drop a group that denies it something (user_namespaces(7)).
func (c *compiler) ownGroupOnly() bool {
	return c.facts.User != nil && c.newNS&NewUser != 0 && isOwn(c.spec.Linux.GIDMappings, c.facts.User.GID)
}

// isOwn tells whether a map is one that the user with the id may write.
func isOwn(maps []specs.LinuxIDMapping, id uint32) bool {
	return len(maps) == 1 && maps[0].Size == 1 && maps[0].HostID == id
}

// mapIDs plans the maps of a new user namespace.
func (c *compiler) mapIDs() MapIDs {
	l := c.spec.Linux
	m := MapIDs{UID: idMaps(l.UIDMappings), GID: idMaps(l.GIDMappings)}
	if u := c.facts.User; u != nil {
		m.UIDTool, m.GIDTool = !isOwn(l.UIDMappings, u.UID), !isOwn(l.GIDMappings, u.GID)
		m.DenyGroups = c.ownGroupOnly()
	}
	return m
}

// groupsAllowed refuses supplementary groups where they cannot be had.
func (c *compiler) groupsAllowed(p *specs.Process) error {
	if len(p.User.AdditionalGids) > 0 && c.ownGroupOnly() {
		return &Error{"process.user.additionalGids", "cannot be set in a user namespace that maps only the user's own group;" +
			" linux.gidMappings needs more ids, of /etc/subgid"}
	}
	return nil
}

// callerMounts refuses a mount that takes the caller's privileges.
func (c *compiler) callerMounts(at string, idmap *MountIDMap, o options) error {
	switch {
	case !c.facts.NoMounts:
	case idmap != nil:
		return &Error{at, "an id-mapped mount takes CAP_SYS_ADMIN over the file system, which the runtime does not have here"}
	case o.copyUp:
		return &Error{at + ".options", "tmpcopyup takes a runtime that may mount, which it may not here"}
	}
	return nil
}

// mountOwners refuses owners of a file system that a new user namespace does not have; the kernel would call them invalid.
func (c *compiler) mountOwners(at string, params []FSParam) error {
	if c.newNS&NewUser == 0 {
		return nil
	}
	for _, p := range params {
		maps := c.spec.Linux.UIDMappings
		switch p.Key {
		case "uid":
		case "gid":
			maps = c.spec.Linux.GIDMappings
		default:
			continue
		}
		if id, err := strconv.ParseUint(p.Value, 10, 32); err == nil && !contains(maps, uint32(id)) {
			return &Error{at + ".options", fmt.Sprintf("%s is not in linux.%sMappings", p, p.Key)}
		}
	}
	return nil
}

// Hide makes a child undumpable that Detach left as it was.
type Hide struct{ inChild }

func (Hide) String() string { return "become undumpable" }

// tools names the programs that write maps which an ordinary user may not.
func (m MapIDs) tools() string {
	var names []string
	for _, t := range []struct {
		use  bool
		name string
	}{{m.UIDTool, "newuidmap"}, {m.GIDTool, "newgidmap"}} {
		if t.use {
			names = append(names, t.name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " by " + strings.Join(slices.Compact(names), " and ")
}
