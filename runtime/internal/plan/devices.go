package plan

import (
	"fmt"
	"path"
	"strings"
)

// defaultDevices are those that every container has (config-linux.md, "Default Devices").
var defaultDevices = []Device{
	{Path: "/dev/null", Type: 'c', Major: 1, Minor: 3, Mode: 0o666},
	{Path: "/dev/zero", Type: 'c', Major: 1, Minor: 5, Mode: 0o666},
	{Path: "/dev/full", Type: 'c', Major: 1, Minor: 7, Mode: 0o666},
	{Path: "/dev/random", Type: 'c', Major: 1, Minor: 8, Mode: 0o666},
	{Path: "/dev/urandom", Type: 'c', Major: 1, Minor: 9, Mode: 0o666},
	{Path: "/dev/tty", Type: 'c', Major: 5, Minor: 0, Mode: 0o666},
}

var devLinks = []Symlink{
	{Target: "/proc/self/fd", Path: "/dev/fd"},
	{Target: "/proc/self/fd/0", Path: "/dev/stdin"},
	{Target: "/proc/self/fd/1", Path: "/dev/stdout"},
	{Target: "/proc/self/fd/2", Path: "/dev/stderr"},
	{Target: "pts/ptmx", Path: "/dev/ptmx", Replace: true},
}

// ownDev tells whether the container's /dev is its own: a bind mount of somebody else's /dev is left as it is.
func (c *compiler) ownDev() bool {
	for i := range c.spec.Mounts {
		m := &c.spec.Mounts[i]
		if path.Clean("/"+m.Destination) != "/dev" {
			continue
		}
		if o := parseOptions(m.Options); o.bind || m.Type == "bind" {
			return false
		}
	}
	return true
}

func (c *compiler) devices() error {
	specified := map[string]bool{}
	var wanted []Step
	for i, d := range c.spec.Linux.Devices {
		at := fmt.Sprintf("linux.devices[%d]", i)
		if !path.IsAbs(d.Path) {
			return &Error{at + ".path", fmt.Sprintf("%q is not absolute", d.Path)}
		}
		dev := Device{Path: path.Clean(d.Path), Mode: 0o666, Major: uint32(d.Major), Minor: uint32(d.Minor)}
		switch d.Type {
		case "c", "u":
			dev.Type = 'c'
		case "b":
			dev.Type = 'b'
		case "p":
			dev.Type, dev.Major, dev.Minor = 'p', 0, 0
		default:
			return &Error{at + ".type", fmt.Sprintf("%q is none of c, u, b, p", d.Type)}
		}
		if d.Major < 0 || d.Minor < 0 || d.Major > 1<<12-1 || d.Minor > 1<<20-1 {
			return &Error{at, fmt.Sprintf("%s: %d:%d is no device number", d.Path, d.Major, d.Minor)}
		}
		if d.FileMode != nil {
			dev.Mode = uint32(*d.FileMode) & 0o7777
		}
		if d.UID != nil {
			dev.UID = *d.UID
		}
		if d.GID != nil {
			dev.GID = *d.GID
		}
		if specified[dev.Path] {
			continue
		}
		specified[dev.Path] = true
		wanted = append(wanted, Step{at, dev})
	}
	if !c.ownDev() {
		return nil
	}
	for _, d := range defaultDevices {
		if !specified[d.Path] {
			wanted = append(wanted, Step{"linux.devices (default)", d})
		}
	}
	for _, s := range wanted {
		d := s.Do.(Device)
		if d.Path == "/dev/ptmx" || d.Path == "/dev/console" || strings.HasPrefix(d.Path, "/dev/pts/") {
			continue
		}
		if (c.inUserNS() || c.facts.Restricted) && d.Type != 'p' {
			s.Do = BindDevice{Path: d.Path, Type: d.Type, Major: d.Major, Minor: d.Minor}
		}
		c.reach(d.Path)
		c.plan.Steps = append(c.plan.Steps, s)
	}
	c.reach("/dev")
	for _, l := range devLinks {
		c.add("linux.devices (default)", l)
	}
	if c.facts.KCore {
		c.add("linux.devices (default)", Symlink{Target: "/proc/kcore", Path: "/dev/core"})
	}
	return nil
}
