package plan

import (
	"fmt"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// attrOptions are the mount options that are attributes of a mount. The recursive form is "r" and the name.
var attrOptions = map[string]AttrChange{
	"ro":            {Set: AttrReadOnly},
	"rw":            {Clear: AttrReadOnly},
	"nosuid":        {Set: AttrNoSuid},
	"suid":          {Clear: AttrNoSuid},
	"nodev":         {Set: AttrNoDev},
	"dev":           {Clear: AttrNoDev},
	"noexec":        {Set: AttrNoExec},
	"exec":          {Clear: AttrNoExec},
	"nodiratime":    {Set: AttrNoDirAtime},
	"diratime":      {Clear: AttrNoDirAtime},
	"relatime":      {Set: AttrRelatime, Clear: AttrAtime},
	"norelatime":    {Set: AttrStrictAtime, Clear: AttrAtime},
	"noatime":       {Set: AttrNoAtime, Clear: AttrAtime},
	"atime":         {Set: AttrRelatime, Clear: AttrAtime},
	"strictatime":   {Set: AttrStrictAtime, Clear: AttrAtime},
	"nostrictatime": {Set: AttrRelatime, Clear: AttrAtime},
	"nosymfollow":   {Set: AttrNoSymFollow},
	"symfollow":     {Clear: AttrNoSymFollow},
}

var propagationOptions = map[string]Propagation{
	"private": Private, "rprivate": Private | Recursive, "slave": Slave, "rslave": Slave | Recursive,
	"shared": Shared, "rshared": Shared | Recursive, "unbindable": Unbindable, "runbindable": Unbindable | Recursive,
}

// superOptions are options of the file system itself that every file system takes.
var superOptions = map[string]string{
	"sync": "sync", "dirsync": "dirsync", "lazytime": "lazytime", "mand": "mand",
	"async": "", "nolazytime": "", "nomand": "", "loud": "", "silent": "", "defaults": "", "noiversion": "",
}

// laterOptions are known to the spec and not honoured by this engine yet.
var laterOptions = map[string]bool{"remount": true, "tmpcopyup": true, "iversion": true}

// MountOptions returns the options that this engine honours, sorted by kind; for `features`.
func MountOptions() []string {
	var out []string
	for k := range attrOptions {
		out = append(out, k, "r"+k)
	}
	for k := range propagationOptions {
		out = append(out, k)
	}
	for k := range superOptions {
		out = append(out, k)
	}
	return append(out, "bind", "rbind", "idmap", "ridmap")
}

// options is a parsed list of mount options.
type options struct {
	bind, recursive bool
	attr, recAttr   AttrChange
	propagation     []Propagation
	params          []FSParam
	idmap, ridmap   bool
}

func (c *AttrChange) apply(o AttrChange) {
	c.Set = c.Set&^o.Clear | o.Set
	c.Clear = c.Clear&^o.Set | o.Clear
}

func parseOptions(at string, list []string) (options, error) {
	var o options
	for i, opt := range list {
		if a, ok := attrOptions[opt]; ok {
			o.attr.apply(a)
			continue
		}
		if a, ok := attrOptions[strings.TrimPrefix(opt, "r")]; ok && opt[0] == 'r' {
			o.recAttr.apply(a)
			continue
		}
		if p, ok := propagationOptions[opt]; ok {
			o.propagation = append(o.propagation, p)
			continue
		}
		if key, ok := superOptions[opt]; ok {
			if key != "" {
				o.params = append(o.params, FSParam{Key: key})
			}
			continue
		}
		switch {
		case opt == "bind":
			o.bind = true
		case opt == "rbind":
			o.bind, o.recursive = true, true
		case opt == "idmap":
			o.idmap = true
		case opt == "ridmap":
			o.ridmap = true
		case laterOptions[opt]:
			return o, &Error{fmt.Sprintf("%s.options[%d]", at, i), fmt.Sprintf("option %q is not supported yet", opt)}
		case opt == "":
		default:
			key, value, _ := strings.Cut(opt, "=")
			o.params = append(o.params, FSParam{key, value})
		}
	}
	return o, nil
}

// procAllowed are the files below /proc that may be covered by a bind mount (runc's list: lxcfs and the like).
var procAllowed = map[string]bool{
	"/proc/cpuinfo": true, "/proc/diskstats": true, "/proc/meminfo": true, "/proc/stat": true, "/proc/swaps": true,
	"/proc/uptime": true, "/proc/loadavg": true, "/proc/slabinfo": true, "/proc/net/dev": true,
	"/proc/sys/kernel/ns_last_pid": true, "/proc/sys/crypto/fips_enabled": true,
}

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
	o, err := parseOptions(at, m.Options)
	if err != nil {
		return err
	}
	hasMap := len(m.UIDMappings) > 0 || len(m.GIDMappings) > 0
	switch {
	case o.bind || m.Type == "bind":
		return c.bind(at, m, dest, o)
	case o.idmap || o.ridmap || hasMap:
		return &Error{at, "id-mapped mounts of a new file system are not supported yet; use a bind mount"}
	case m.Type == "":
		return &Error{at + ".type", "is empty and the options name no bind mount"}
	case !o.recAttr.zero():
		return &Error{at + ".options", "recursive options need a bind mount"}
	case m.Type == "cgroup":
		return c.cgroupMount(at, m, dest, o)
	}
	fs := MountFS{Type: m.Type, Source: m.Source, Dest: dest, Params: o.params, Attr: o.attr.Set, Propagation: o.propagation}
	seal := false
	switch m.Type {
	case "proc", "sysfs":
		fs.RealDir = true
		if dest == "/proc" && m.Type != "proc" {
			return &Error{at, "only proc may be mounted on /proc"}
		}
	case "tmpfs":
		// What is made in it later (mount points, devices) comes first.
		seal = fs.Attr&AttrReadOnly != 0
		fs.Attr &^= AttrReadOnly
	}
	if m.Type != "proc" && (dest == "/proc" || strings.HasPrefix(dest, "/proc/")) {
		return &Error{at, fmt.Sprintf("a mount of %s on %s would hide a part of /proc from the runtime", m.Type, dest)}
	}
	c.add(at, fs)
	if seal {
		c.sealed = append(c.sealed, Step{at + ".options", SealMount{Dest: dest}})
	}
	return nil
}

func (c *compiler) bind(at string, m *specs.Mount, dest string, o options) error {
	if m.Source == "" {
		return &Error{at + ".source", "is empty"}
	}
	if len(o.params) > 0 {
		return &Error{at + ".options", fmt.Sprintf("%q means nothing to a bind mount", o.params[0].Key)}
	}
	source := m.Source
	if !path.IsAbs(source) {
		source = path.Join(c.bundle, source)
	}
	if strings.HasPrefix(dest, "/proc/") && !procAllowed[dest] || dest == "/proc" {
		return &Error{at, fmt.Sprintf("a bind mount on %s would hide a part of /proc from the runtime", dest)}
	}
	b := Bind{Source: source, Dest: dest, Recursive: o.recursive, Attr: o.attr, RecAttr: o.recAttr,
		Base: c.base, Propagation: o.propagation}
	if o.idmap || o.ridmap || len(m.UIDMappings) > 0 || len(m.GIDMappings) > 0 {
		idmap := &MountIDMap{UID: idMaps(m.UIDMappings), GID: idMaps(m.GIDMappings), Recursive: o.ridmap}
		switch {
		case len(idmap.UID) == 0 && len(idmap.GID) == 0:
			idmap.UID, idmap.GID = idMaps(c.spec.Linux.UIDMappings), idMaps(c.spec.Linux.GIDMappings)
			if len(idmap.UID) == 0 {
				return &Error{at, "an id-mapped mount needs its own mappings or those of a new user namespace"}
			}
		case len(idmap.UID) == 0 || len(idmap.GID) == 0:
			return &Error{at, "an id-mapped mount needs uidMappings and gidMappings"}
		}
		b.IDMap = idmap
	}
	c.add(at, b)
	return nil
}

// cgroupMount shows the container its cgroups: on v2 the one tree; on v1 a tmpfs with a directory per hierarchy.
func (c *compiler) cgroupMount(at string, m *specs.Mount, dest string, o options) error {
	if c.facts.CgroupV2 {
		c.add(at, MountFS{Type: "cgroup2", Source: "cgroup", Dest: dest, Attr: o.attr.Set, Propagation: o.propagation, RealDir: true})
		return nil
	}
	c.add(at, MountFS{Type: "tmpfs", Source: "tmpfs", Dest: dest, Params: []FSParam{{"mode", "755"}},
		Attr: o.attr.Set &^ AttrReadOnly, Propagation: o.propagation})
	own := c.newNS&NewCgroup != 0 || c.joined[NewCgroup]
	for _, h := range c.facts.CgroupV1 {
		target := path.Join(dest, h.Dir)
		if own {
			var params []FSParam
			for _, opt := range h.Options {
				key, value, _ := strings.Cut(opt, "=")
				params = append(params, FSParam{key, value})
			}
			c.add(at, MountFS{Type: "cgroup", Source: "cgroup", Dest: target, Params: params, Attr: o.attr.Set})
		} else {
			c.add(at, Bind{Source: h.Path, Dest: target, Attr: o.attr, Base: Private})
		}
		for _, opt := range h.Options {
			if len(h.Options) > 1 && opt != h.Dir && opt != "none" && !strings.Contains(opt, "=") {
				c.add(at, Symlink{Target: h.Dir, Path: path.Join(dest, opt)})
			}
		}
	}
	if o.attr.Set&AttrReadOnly != 0 {
		c.sealed = append(c.sealed, Step{at + ".options", SealMount{Dest: dest}})
	}
	return nil
}

func idMaps(in []specs.LinuxIDMapping) []IDMap {
	var out []IDMap
	for _, m := range in {
		out = append(out, IDMap{m.ContainerID, m.HostID, m.Size})
	}
	return out
}
