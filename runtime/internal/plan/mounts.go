package plan

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// procAllowed are the files below /proc that may be covered by a bind mount (runc's list: lxcfs and the like).
var procAllowed = []string{"/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime",
	"/proc/loadavg", "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled"}

// dataLimit is how much text mount(2) hands to a file system, in bytes: a page with its NUL. More it would cut off.
const dataLimit = 4095

func (c *compiler) mounts() error {
	for i := range c.spec.Mounts {
		m := &c.spec.Mounts[i]
		if err := c.mount(fmt.Sprintf("mounts[%d]", i), m); err != nil {
			return err
		}
	}
	return nil
}

func (c *compiler) mount(at string, m *specs.Mount) error {
	if m.Destination == "" {
		return &Error{at + ".destination", "is empty"}
	}
	dest := path.Clean("/" + m.Destination)
	if dest == "/" {
		return &Error{at + ".destination", "a mount on / would cover the root file system"}
	}
	if !strings.HasPrefix(m.Destination, "/") {
		c.warn(at + ".destination " + m.Destination + ": relative, taken from /")
	}
	o := parseOptions(m.Options)
	c.reach(dest)
	idmap, err := c.idmap(at, m, o)
	if err != nil {
		return err
	}
	if err := c.callerMounts(at, idmap, o); err != nil {
		return err
	}
	bind := o.bind || m.Type == "bind"
	switch {
	case o.copyUp && (bind || o.remount || m.Type != "tmpfs"):
		return &Error{at + ".options", "tmpcopyup needs a new tmpfs"}
	case o.remount && idmap != nil:
		return &Error{at + ".options", "a mount that is there cannot be id-mapped any more"}
	case o.remount:
		return c.remount(at, dest, bind, o)
	case bind:
		return c.bind(at, m, dest, o, idmap)
	case m.Type == "":
		return &Error{at + ".type", "is empty and the options name no bind mount"}
	case m.Type == "cgroup" && idmap == nil:
		return c.cgroupMount(at, dest, o)
	}
	return c.newFS(at, m, dest, o, idmap)
}

// newFS plans a mount of a new file system.
func (c *compiler) newFS(at string, m *specs.Mount, dest string, o options, idmap *MountIDMap) error {
	fs := MountFS{Type: m.Type, Source: m.Source, Dest: dest, FSOptions: FSOptions{Params: o.params, Super: o.super, Label: c.spec.Linux.MountLabel},
		Attr: o.all(), Propagation: o.propagation, IDMap: idmap, CopyUp: o.copyUp}
	switch m.Type {
	case "proc", "sysfs":
		fs.RealDir, fs.Label = true, ""
		if dest == "/proc" && m.Type != "proc" {
			return &Error{at, "only proc may be mounted on /proc"}
		}
		if m.Type == "sysfs" && (c.inUserNS() || c.facts.Restricted) && c.newNS&NewNet == 0 {
			fs.OrBind = "/sys" // the network namespace is not the user namespace's
		}
	case "cgroup", "cgroup2":
		fs.Label = ""
	case "mqueue":
		fs.RootLabel, fs.Label = fs.Label, ""
	case "tmpfs":
		fs.DirMode = !fs.ByCaller() && !hasParam(o.params, "mode")
	}
	seal := false
	if m.Type == "tmpfs" || dest == "/dev" {
		// What is made in it later (mount points, devices) comes first.
		seal = fs.Attr&AttrReadOnly != 0
		fs.Attr &^= AttrReadOnly
	}
	if m.Type != "proc" && (dest == "/proc" || strings.HasPrefix(dest, "/proc/")) {
		return &Error{at, fmt.Sprintf("a mount of %s on %s would hide a part of /proc from the runtime", m.Type, dest)}
	}
	if fs.CopyUp {
		if err := c.hostOwner(at, &fs); err != nil {
			return err
		}
	}
	if !fs.ByCaller() && fs.OrBind == "" {
		if err := c.mountOwners(at, fs.Params); err != nil {
			return err
		}
	}
	if fs.ByCaller() && fs.Super&IVersion != 0 {
		return &Error{at + ".options", "iversion means nothing to an id-mapped or copied-up file system"}
	}
	if n := len(fs.Data()); n > dataLimit {
		return &Error{at + ".options", fmt.Sprintf("%d bytes for the file system; mount(2) takes %d", n, dataLimit)}
	}
	c.cover(dest)
	c.add(at, fs)
	if seal {
		c.sealed = append(c.sealed, Step{at + ".options", SealMount{Dest: dest}})
	}
	return nil
}

// cover forgets what was to happen last to a mount on dest: another one is going to hide it.
func (c *compiler) cover(dest string) {
	c.sealed = slices.DeleteFunc(c.sealed, func(s Step) bool { return s.Do == Action(SealMount{Dest: dest}) })
}

func hasParam(list []FSParam, key string) bool {
	for _, p := range list {
		if p.Key == key {
			return true
		}
	}
	return false
}

// hostOwner translates the ids among the parameters of a file system that the caller makes: they are the container's.
func (c *compiler) hostOwner(at string, fs *MountFS) error {
	if !c.inUserNS() || fs.IDMap != nil {
		return nil
	}
	params := make([]FSParam, len(fs.Params))
	for i, p := range fs.Params {
		params[i] = p
		maps := c.spec.Linux.UIDMappings
		switch p.Key {
		case "gid":
			maps = c.spec.Linux.GIDMappings
		case "uid":
		default:
			continue
		}
		id, err := strconv.ParseUint(p.Value, 10, 32)
		host, ok := hostID(maps, uint32(id))
		if err != nil || !ok {
			return &Error{at + ".options", fmt.Sprintf("%s has no id on the host in linux.%sMappings", p, p.Key)}
		}
		params[i].Value = strconv.FormatUint(uint64(host), 10)
	}
	fs.Params = params
	return nil
}

// hostID returns what an id of the container is on the host.
func hostID(maps []specs.LinuxIDMapping, id uint32) (uint32, bool) {
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + (id - m.ContainerID), true
		}
	}
	return 0, false
}

func (c *compiler) bind(at string, m *specs.Mount, dest string, o options, idmap *MountIDMap) error {
	if m.Source == "" {
		return &Error{at + ".source", "is empty"}
	}
	if len(o.params) > 0 { // mount(2) would not look at them
		c.warn(fmt.Sprintf("%s.options: %q means nothing to a bind mount", at, o.params[0].Key))
	}
	if o.super != 0 {
		c.warn(fmt.Sprintf("%s.options: %s is of file systems, it means nothing to a bind mount", at, strings.Join(o.super.Names(), ",")))
	}
	source := m.Source
	if !path.IsAbs(source) {
		source = path.Join(c.bundle, source)
	}
	if strings.HasPrefix(dest, "/proc/") && !slices.Contains(procAllowed, dest) {
		return &Error{at, fmt.Sprintf("a bind mount on %s would hide a part of /proc from the runtime", dest)}
	}
	c.cover(dest)
	c.add(at, Bind{Source: source, Dest: dest, Recursive: o.recursive, Attr: o.attr, RecAttr: o.recAttr,
		Base: c.base, Propagation: o.propagation, IDMap: idmap, Proc: dest == "/proc"})
	return nil
}

func (c *compiler) remount(at, dest string, bind bool, o options) error {
	r := Remount{Dest: dest, Bind: bind, Attr: o.attr, RecAttr: o.recAttr, Propagation: o.propagation}
	if bind {
		if len(o.params) > 0 {
			return &Error{at + ".options", fmt.Sprintf("%q means nothing to a bind mount", o.params[0].Key)}
		}
	} else {
		r.FSOptions = FSOptions{Params: o.params, Super: o.super}
		if n := len(r.Data()); n > dataLimit {
			return &Error{at + ".options", fmt.Sprintf("%d bytes for the file system; mount(2) takes %d", n, dataLimit)}
		}
	}
	c.add(at, r)
	return nil
}

// idmap returns the mapping of an id-mapped mount, nil for any other: its own, or the container's.
func (c *compiler) idmap(at string, m *specs.Mount, o options) (*MountIDMap, error) {
	if !o.idmap && !o.ridmap && len(m.UIDMappings) == 0 && len(m.GIDMappings) == 0 {
		return nil, nil
	}
	idmap := &MountIDMap{UID: idMaps(m.UIDMappings), GID: idMaps(m.GIDMappings), Recursive: o.ridmap}
	switch {
	case len(idmap.UID) > 0 && len(idmap.GID) > 0:
	case len(idmap.UID) > 0 || len(idmap.GID) > 0:
		return nil, &Error{at, "an id-mapped mount needs uidMappings and gidMappings"}
	case c.newNS&NewUser != 0:
		idmap.UID, idmap.GID = idMaps(c.spec.Linux.UIDMappings), idMaps(c.spec.Linux.GIDMappings)
	case c.joined[NewUser]:
		idmap.UserNS = c.paths[NewUser]
	default:
		return nil, &Error{at, "an id-mapped mount needs mappings of its own or a container with a user namespace"}
	}
	return idmap, nil
}

func idMaps(in []specs.LinuxIDMapping) []IDMap {
	var out []IDMap
	for _, m := range in {
		out = append(out, IDMap{m.ContainerID, m.HostID, m.Size})
	}
	return out
}
