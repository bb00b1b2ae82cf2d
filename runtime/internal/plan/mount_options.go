package plan

import (
	"slices"
	"strings"
)

// named lists values by name. Unlike a map it is there without being made when the program starts, and it is short.
type named[V any] []struct {
	name  string
	value V
}

func (list named[V]) find(name string) (value V, ok bool) {
	for i := range list {
		if list[i].name == name {
			return list[i].value, true
		}
	}
	return value, false
}

// attrOptions are the mount options that are attributes of a mount. The recursive form is "r" and the name.
var attrOptions = named[AttrChange]{
	{"ro", AttrChange{Set: AttrReadOnly}},
	{"rw", AttrChange{Clear: AttrReadOnly}},
	{"nosuid", AttrChange{Set: AttrNoSuid}},
	{"suid", AttrChange{Clear: AttrNoSuid}},
	{"nodev", AttrChange{Set: AttrNoDev}},
	{"dev", AttrChange{Clear: AttrNoDev}},
	{"noexec", AttrChange{Set: AttrNoExec}},
	{"exec", AttrChange{Clear: AttrNoExec}},
	{"nodiratime", AttrChange{Set: AttrNoDirAtime}},
	{"diratime", AttrChange{Clear: AttrNoDirAtime}},
	{"relatime", AttrChange{Set: AttrRelatime, Clear: AttrAtime}},
	{"norelatime", AttrChange{Set: AttrStrictAtime, Clear: AttrAtime}},
	{"noatime", AttrChange{Set: AttrNoAtime, Clear: AttrAtime}},
	{"atime", AttrChange{Set: AttrRelatime, Clear: AttrAtime}},
	{"strictatime", AttrChange{Set: AttrStrictAtime, Clear: AttrAtime}},
	{"nostrictatime", AttrChange{Set: AttrRelatime, Clear: AttrAtime}},
	{"nosymfollow", AttrChange{Set: AttrNoSymFollow}},
	{"symfollow", AttrChange{Clear: AttrNoSymFollow}},
}

var propagationOptions = named[Propagation]{
	{"private", Private}, {"rprivate", Private | Recursive}, {"slave", Slave}, {"rslave", Slave | Recursive},
	{"shared", Shared}, {"rshared", Shared | Recursive}, {"unbindable", Unbindable}, {"runbindable", Unbindable | Recursive},
}

// superOptions are options of the file system itself that every file system takes.
var superOptions = named[superChange]{
	{"defaults", superChange{}},
	{"sync", superChange{set: Sync}}, {"async", superChange{clear: Sync}},
	{"dirsync", superChange{set: DirSync}},
	{"mand", superChange{set: Mand}}, {"nomand", superChange{clear: Mand}},
	{"silent", superChange{set: Silent}}, {"loud", superChange{clear: Silent}},
	{"iversion", superChange{set: IVersion}}, {"noiversion", superChange{clear: IVersion}},
	{"lazytime", superChange{set: LazyTime}}, {"nolazytime", superChange{clear: LazyTime}},
}

type superChange struct{ set, clear Super }

// switchOptions are those that say what kind of mount is asked for.
var switchOptions = named[func(*options)]{
	{"bind", func(o *options) { o.bind = true }},
	{"rbind", func(o *options) { o.bind, o.recursive = true, true }},
	{"remount", func(o *options) { o.remount = true }},
	{"tmpcopyup", func(o *options) { o.copyUp = true }},
	{"idmap", func(o *options) { o.idmap = true }},
	{"ridmap", func(o *options) { o.ridmap = true }},
}

// MountOptions returns the options that this engine honours, sorted; for `features`.
func MountOptions() []string {
	var out []string
	for _, o := range attrOptions {
		out = append(out, o.name, "r"+o.name)
	}
	for _, o := range propagationOptions {
		out = append(out, o.name)
	}
	for _, o := range superOptions {
		out = append(out, o.name)
	}
	for _, o := range switchOptions {
		out = append(out, o.name)
	}
	slices.Sort(out)
	return out
}

// options is a parsed list of mount options.
type options struct {
	bind, recursive, remount, copyUp bool
	idmap, ridmap                    bool
	attr, recAttr                    AttrChange
	super                            Super
	propagation                      []Propagation
	params                           []FSParam // what only the file system knows
}

func (c *AttrChange) apply(o AttrChange) {
	c.Set = c.Set&^o.Clear | o.Set
	c.Clear = c.Clear&^o.Set | o.Clear
}

// all returns the attributes of a single new mount, to which the recursive options apply as well.
func (o *options) all() Attr {
	c := o.attr
	c.apply(o.recAttr)
	return c.Set
}

func parseOptions(list []string) options {
	var o options
	for _, opt := range list {
		if a, ok := attrOptions.find(opt); ok {
			o.attr.apply(a)
		} else if a, ok := attrOptions.find(strings.TrimPrefix(opt, "r")); ok && opt[0] == 'r' {
			o.recAttr.apply(a)
		} else if p, ok := propagationOptions.find(opt); ok {
			o.propagation = append(o.propagation, p)
		} else if s, ok := superOptions.find(opt); ok {
			o.super = o.super&^s.clear | s.set
		} else if set, ok := switchOptions.find(opt); ok {
			set(&o)
		} else if opt != "" {
			key, value, _ := strings.Cut(opt, "=")
			o.params = append(o.params, FSParam{key, value})
		}
	}
	return o
}
