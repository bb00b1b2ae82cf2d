package plan

import (
	"path"
	"strings"
)

// cgroupFlags are what a view of cgroups always has.
const cgroupFlags = AttrNoSuid | AttrNoDev | AttrNoExec

// cgroupMount shows the container its cgroups: on v2 the one tree; on v1 a tmpfs with a directory per hierarchy.
func (c *compiler) cgroupMount(at, dest string, o options) error {
	if c.facts.CgroupV2 {
		fs := MountFS{Type: "cgroup2", Source: "cgroup", Dest: dest, FSOptions: FSOptions{Params: o.params, Super: o.super},
			Attr: o.all(), Propagation: o.propagation, RealDir: true}
		if (c.inUserNS() || c.facts.Restricted) && c.newNS&NewCgroup == 0 {
			fs.OrBind = "/sys/fs/cgroup" // the cgroup namespace is not the user namespace's
		}
		c.add(at, fs)
		return nil
	}
	if c.views != nil { // one view waits, not two
		c.enterCgroup()
	}
	change := o.attr
	change.apply(o.recAttr)
	change.apply(AttrChange{Set: cgroupFlags})
	c.add(at, MountFS{Type: "tmpfs", Source: "tmpfs", Dest: dest, FSOptions: FSOptions{Params: []FSParam{{"mode", "755"}}, Label: c.spec.Linux.MountLabel},
		Attr: change.Set &^ AttrReadOnly, Propagation: o.propagation})
	add := c.add
	if c.later && !c.inside {
		c.viewed = dest
		add = func(from string, a Action) { c.views = append(c.views, Step{from, a}) }
	}
	own := c.newNS&NewCgroup != 0 || c.joined[NewCgroup]
	for _, h := range c.facts.CgroupV1 {
		target := path.Join(dest, h.Dir)
		if !own && h.Path == "" {
			continue // not even the caller's is to be seen
		}
		if own {
			var params []FSParam
			for _, opt := range h.Options {
				key, value, _ := strings.Cut(opt, "=")
				params = append(params, FSParam{key, value})
			}
			add(at, MountFS{Type: "cgroup", Source: "cgroup", Dest: target, FSOptions: FSOptions{Params: params}, Attr: change.Set})
		} else {
			add(at, Bind{Source: h.Path, Dest: target, Attr: change, Base: Private, Propagation: o.propagation, Later: c.later})
		}
		for _, opt := range h.Options {
			if len(h.Options) > 1 && opt != h.Dir && opt != "none" && !strings.Contains(opt, "=") {
				add(at, Symlink{Target: h.Dir, Path: path.Join(dest, opt)})
			}
		}
	}
	if change.Set&AttrReadOnly != 0 {
		c.sealed = append(c.sealed, Step{at + ".options", SealMount{Dest: dest}})
	}
	return nil
}
