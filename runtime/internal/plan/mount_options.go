package plan

import (
	"slices"
	"strings"
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
var superOptions = map[string]struct{ set, clear Super }{
	"defaults": {},
	"sync":     {set: Sync}, "async": {clear: Sync},
	"dirsync": {set: DirSync},
	"mand":    {set: Mand}, "nomand": {clear: Mand},
	"silent": {set: Silent}, "loud": {clear: Silent},
	"iversion": {set: IVersion}, "noiversion": {clear: IVersion},
	"lazytime": {set: LazyTime}, "nolazytime": {clear: LazyTime},
}

// switchOptions are those that say what kind of mount is asked for.
var switchOptions = map[string]func(*options){
	"bind":      func(o *options) { o.bind = true },
	"rbind":     func(o *options) { o.bind, o.recursive = true, true },
	"remount":   func(o *options) { o.remount = true },
	"tmpcopyup": func(o *options) { o.copyUp = true },
	"idmap":     func(o *options) { o.idmap = true },
	"ridmap":    func(o *options) { o.ridmap = true },
}

// MountOptions returns the options that this engine honours, sorted; for `features`.
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
	for k := range switchOptions {
		out = append(out, k)
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
		if a, ok := attrOptions[opt]; ok {
			o.attr.apply(a)
		} else if a, ok := attrOptions[strings.TrimPrefix(opt, "r")]; ok && opt[0] == 'r' {
			o.recAttr.apply(a)
		} else if p, ok := propagationOptions[opt]; ok {
			o.propagation = append(o.propagation, p)
		} else if s, ok := superOptions[opt]; ok {
			o.super = o.super&^s.clear | s.set
		} else if set, ok := switchOptions[opt]; ok {
			set(&o)
		} else if opt != "" {
			key, value, _ := strings.Cut(opt, "=")
			o.params = append(o.params, FSParam{key, value})
		}
	}
	return o
}
