package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

type compiler struct {
	spec   *specs.Spec
	facts  *Facts
	opts   Options
	bundle string
	plan   *Plan
	newNS  Namespaces            // to be made
	joined map[Namespaces]bool   // to be joined by path
	paths  map[Namespaces]string // of the joined ones
	base   Propagation           // of every copy of a host's mount
	sealed []Step                // read-only remounts that come after everything was made
	later  bool                  // the cgroup is entered by enterCgroup
	inside bool                  // and has been
	views  []Step                // what shows the cgroup below viewed, and waits for that
	viewed string
	bound  bool // the bounding set has been limited
}

func (c *compiler) add(from string, a Action) { c.plan.Steps = append(c.plan.Steps, Step{from, a}) }
func (c *compiler) warn(w string)             { c.plan.Warnings = append(c.plan.Warnings, w) }

// Compile returns the plan that makes the container of spec as far as `created`, and what `start` lets it do then.
//
// bundle is the absolute path of the bundle. The error, of type *Error or wrapping one, names the property that is wrong or
// cannot be honoured.
func Compile(spec *specs.Spec, bundle string, facts *Facts, o Options) (*Plan, error) {
	c := &compiler{spec: spec, facts: facts, opts: o, bundle: bundle, plan: newPlan(facts),
		joined: map[Namespaces]bool{}, paths: map[Namespaces]string{}}
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := c.namespaces(); err != nil {
		return nil, err
	}
	for _, phase := range []func() error{c.enter, c.rootfs, c.process} {
		if err := phase(); err != nil {
			return nil, err
		}
	}
	return c.plan, nil
}

func newPlan(f *Facts) *Plan { return &Plan{ChildMounts: f.NoMounts, SendsFiles: f.User != nil} }

var namespaceTypes = named[Namespaces]{
	{string(specs.PIDNamespace), NewPID}, {string(specs.NetworkNamespace), NewNet}, {string(specs.MountNamespace), NewMount},
	{string(specs.IPCNamespace), NewIPC}, {string(specs.UTSNamespace), NewUTS}, {string(specs.UserNamespace), NewUser},
	{string(specs.CgroupNamespace), NewCgroup}, {string(specs.TimeNamespace), NewTime},
}

// namespaceType returns the flag of a type of namespace; ok is false when there is no such type.
func namespaceType(t specs.LinuxNamespaceType) (flag Namespaces, ok bool) {
	return namespaceTypes.find(string(t))
}

// NamespaceFile returns the name under /proc/PID/ns of a kind of namespace in config.json.
func NamespaceFile(t specs.LinuxNamespaceType) string {
	flag, _ := namespaceType(t)
	return flag.ProcFile()
}

func (c *compiler) namespaces() error {
	seen := Namespaces(0)
	for i, n := range c.spec.Linux.Namespaces {
		at := fmt.Sprintf("linux.namespaces[%d]", i)
		flag, ok := namespaceType(n.Type)
		switch {
		case !ok:
			return &Error{at + ".type", fmt.Sprintf("unknown namespace %q", n.Type)}
		case seen&flag != 0:
			return &Error{at, fmt.Sprintf("a second %s namespace", n.Type)}
		case n.Path != "" && !path.IsAbs(n.Path):
			return &Error{at + ".path", fmt.Sprintf("%q is not absolute", n.Path)}
		case c.lacks(flag):
			return &Error{at, fmt.Sprintf("this kernel has no %s namespaces", n.Type)}
		}
		seen |= flag
		if n.Path == "" {
			c.newNS |= flag
		} else {
			c.joined[flag] = true
			c.paths[flag] = n.Path
		}
	}
	switch {
	case c.spec.Hostname != "" && seen&NewUTS == 0:
		return &Error{"hostname", "setting it needs a uts namespace in linux.namespaces"}
	case c.spec.Domainname != "" && seen&NewUTS == 0:
		return &Error{"domainname", "setting it needs a uts namespace in linux.namespaces"}
	}
	for _, check := range []func() error{c.user, c.mappings, c.timeOffsets, c.sharedMounts} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// lacks tells whether the kernel was built without namespaces of a type. Those that every kernel has are not asked for.
func (c *compiler) lacks(n Namespaces) bool {
	return n&(NewUser|NewTime) != 0 && c.facts.HasNamespace != nil && !c.facts.HasNamespace(n)
}

// has tells whether the container has a namespace of a type beside the caller's.
func (c *compiler) has(n Namespaces) bool { return c.newNS&n != 0 || c.joined[n] }

// types returns the types of the container's namespaces, new and joined.
func (c *compiler) types() (types Namespaces) {
	for _, n := range c.spec.Linux.Namespaces {
		flag, _ := namespaceType(n.Type)
		types |= flag
	}
	return types
}

// inUserNS tells whether the container has a user namespace that is not the caller's.
func (c *compiler) inUserNS() bool { return c.newNS&NewUser != 0 || c.joined[NewUser] }

// enter plans the way into cgroup and namespaces.
func (c *compiler) enter() error {
	user := c.facts.User != nil
	clone := Clone{New: c.newNS &^ NewCgroup}
	late := c.newNS & NewCgroup // after the cgroup was entered
	c.later = c.mayEnterLater()
	beside := NetworkBeside(c.spec)
	if beside {
		clone.New &^= NewNet
		c.add("linux.namespaces", MakeNetwork{})
	}
	if !c.inUserNS() { // the caller waits for the clone: what the child can make, it makes
		const byClone = NewPID | NewTime
		late |= clone.New &^ byClone
		clone.New &= byClone
	}
	offsets := c.spec.Linux.TimeOffsets
	if len(offsets) > 0 { // to be set before anyone is in the namespace
		late |= NewTime
		clone.New &^= NewTime
	}
	others := slices.ContainsFunc(namespaceNames, func(k namespaceName) bool { return c.joined[k.Flag] && k.Flag != NewUser && k.Flag != NewPID })
	if c.joined[NewUser] || clone.New&NewUser != 0 && others {
		// What is new must belong to the container's user namespace, but who is in that can join no other owner's.
		late |= clone.New &^ NewUser
		clone.New = 0
	}
	refork := late&NewPID != 0
	if c.joined[NewPID] {
		if refork = c.facts.Restricted; !refork {
			clone.PidNS = c.paths[NewPID]
		}
	}
	c.add("linux.namespaces", clone)
	c.add("", Detach{Dumpable: user})
	if !c.later {
		c.add("linux.cgroupsPath", EnterCgroup{Stay: c.facts.NoCgroup})
	}
	c.scoreAdj()
	if user && c.newNS&NewUser == 0 { // else once it has its ids, which its caller writes
		c.add("", Hide{})
	}
	if !user { // whose only right to join others is that of the user namespace
		c.joinOthers()
	}
	if c.joined[NewUser] {
		c.add("linux.namespaces", Join{Type: NewUser, Path: c.paths[NewUser]})
		if l := c.spec.Linux; len(l.UIDMappings)+len(l.GIDMappings) > 0 {
			c.add("linux.uidMappings", CheckIDs{UID: idMaps(l.UIDMappings), GID: idMaps(l.GIDMappings)})
		}
		c.add("linux.namespaces", BecomeRoot{})
	}
	if c.newNS&^clone.New&NewUser != 0 {
		c.add("linux.namespaces", Unshare{New: NewUser})
	}
	if c.newNS&NewUser != 0 {
		c.add("linux.uidMappings", c.mapIDs())
		c.add("linux.uidMappings", BecomeRoot{})
	}
	if user {
		c.joinOthers()
	}
	if late != 0 {
		c.add("linux.namespaces", Unshare{New: late})
	}
	if p := c.spec.Process; p != nil && !c.inUserNS() { // in one they are limited anew
		c.bound = true
		bound := Bound{LastCap: c.facts.LastCap}
		if p.Capabilities != nil {
			bound.Caps = capBits(p.Capabilities.Bounding, c.facts.Capabilities, func(int, string) {}) // process warns of them
		}
		c.add("process.capabilities", bound)
	}
	if beside {
		c.add("linux.namespaces", EnterNetwork{})
	}
	if late&NewTime != 0 {
		c.enterTime()
	}
	if refork {
		c.add("linux.namespaces", Refork{})
	}
	if c.newNS&NewNet != 0 && !beside {
		c.add("linux.namespaces", LoopbackUp{})
	}
	if err := c.netDevices(); err != nil {
		return err
	}
	if c.spec.Hostname != "" {
		c.add("hostname", Hostname{Name: c.spec.Hostname})
	}
	if c.spec.Domainname != "" {
		c.add("domainname", Hostname{Name: c.spec.Domainname, Domain: true})
	}
	c.keyring(c.spec.Process)
	return c.sysctls()
}

// NetworkBeside tells whether the plan of a config has MakeNetwork: for a new network namespace, but for one that belongs to a user
// namespace of the container's.
func NetworkBeside(spec *specs.Spec) (beside bool) {
	if spec.Linux == nil {
		return false
	}
	for _, n := range spec.Linux.Namespaces {
		switch {
		case n.Type == specs.UserNamespace:
			return false
		case n.Type == specs.NetworkNamespace:
			beside = n.Path == ""
		}
	}
	return beside
}

// mayEnterLater tells whether the child may make namespaces and mounts before it is in its cgroup. They are of the kernel's memory, not
// of the container's files, and small. With a user namespace the child needs its caller from the start, to have its ids mapped; and the
// kernel shows a cgroup namespace from where its maker was.
func (c *compiler) mayEnterLater() bool {
	if !c.facts.CgroupsLater || c.inUserNS() || c.has(NewCgroup) || c.newNS&NewMount == 0 {
		return false
	}
	return !slices.ContainsFunc(c.spec.Mounts, func(m specs.Mount) bool { // the caller copies it before the cgroup is there
		return slices.ContainsFunc(c.facts.CgroupV1, func(h Hierarchy) bool {
			return h.Path != "" && strings.HasPrefix(path.Clean(m.Source)+"/", h.Path+"/")
		})
	})
}

// enterCgroup plans the entry that was put off, and what waits for it: what comes next shows the cgroup, or looks for the child in there.
func (c *compiler) enterCgroup() {
	if c.later && !c.inside {
		c.inside = true
		c.add("linux.cgroupsPath", EnterCgroup{Later: true, View: c.viewed})
		c.plan.Steps = append(c.plan.Steps, c.views...)
		c.views = nil
	}
}

// reach lets what shows the cgroup come before something at a path that is there, or has it below. Anything else need not wait.
func (c *compiler) reach(p string) {
	if c.views != nil && (within(p, c.viewed) || within(c.viewed, p)) {
		c.enterCgroup()
	}
}

// within tells whether a clean path is a directory or leads below it.
func within(p, dir string) bool { return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/") }

// joinOthers plans the joining of namespaces by path, but for the user namespace.
func (c *compiler) joinOthers() {
	for _, k := range namespaceNames {
		if !c.joined[k.Flag] || k.Flag == NewUser || k.Flag == NewPID && !c.facts.Restricted {
			continue
		}
		c.add("linux.namespaces", Join{Type: k.Flag, Path: c.paths[k.Flag], Foreign: k.Flag == NewNet && c.changesNet()})
	}
}

// keyring plans the session keyring: without it the process would have the caller's, and all keys in there.
func (c *compiler) keyring(p *specs.Process) {
	if c.facts.Keyring != "" {
		if p != nil && p.SelinuxLabel != "" && c.facts.hasSELinux() {
			c.add("process.selinuxLabel", Label{File: "keycreate", Value: p.SelinuxLabel})
		}
		c.add("", Keyring{Name: c.facts.Keyring})
	}
}

// scoreAdj plans oom_score_adj. Nobody may inherit the shim's own: without a value in the spec it is 0, as far as the kernel lets us.
func (c *compiler) scoreAdj() {
	s := ScoreAdj{Best: true, Gate: c.newNS&NewUser != 0 && c.facts.User == nil, Aside: !c.inUserNS() && !c.facts.Restricted}
	from := ""
	if p := c.spec.Process; p != nil && p.OOMScoreAdj != nil {
		s.Value, s.Best, from = *p.OOMScoreAdj, false, "process.oomScoreAdj"
	}
	c.add(from, s)
}

// rootfs plans the container's view of the file system.
func (c *compiler) rootfs() error {
	if c.newNS&NewMount == 0 {
		return c.chroot()
	}
	prop, err := c.propagation()
	if err != nil {
		return err
	}
	c.add("linux.namespaces", LeaveHost{})
	c.add("root.path", Root{Path: c.opts.RootPath, Propagation: prop.root})
	if err := c.mounts(); err != nil {
		return err
	}
	if err := c.devices(); err != nil {
		return err
	}
	if c.hasHooks(beforePivot...) {
		c.enterCgroup()
	}
	c.runHooks(beforePivot...)
	c.workDir()
	for i, p := range c.spec.Linux.ReadonlyPaths {
		if !path.IsAbs(p) {
			return &Error{fmt.Sprintf("linux.readonlyPaths[%d]", i), fmt.Sprintf("%q is not absolute", p)}
		}
		p = path.Clean(p)
		c.reach(p)
		c.add(fmt.Sprintf("linux.readonlyPaths[%d]", i), ReadOnlyPath{Path: p})
	}
	masked := map[string]bool{}
	for i, p := range c.spec.Linux.MaskedPaths {
		if !path.IsAbs(p) {
			return &Error{fmt.Sprintf("linux.maskedPaths[%d]", i), fmt.Sprintf("%q is not absolute", p)}
		}
		if p = path.Clean(p); !masked[p] {
			masked[p] = true
			c.reach(p)
			c.add(fmt.Sprintf("linux.maskedPaths[%d]", i), MaskPath{Path: p, Label: c.spec.Linux.MountLabel})
		}
	}
	for _, s := range c.sealed {
		if dest := s.Do.(SealMount).Dest; c.views != nil && within(dest, c.viewed) {
			c.views = append(c.views, s)
		} else {
			c.plan.Steps = append(c.plan.Steps, s)
		}
	}
	if c.spec.Root.Readonly {
		c.add("root.readonly", SealMount{Dest: "/"})
	}
	c.add("root.path", Pivot{Propagation: prop.last, Move: c.opts.NoPivot})
	c.enterCgroup()
	return nil
}

// workDir plans the terminal and the working directory of the process.
func (c *compiler) workDir() {
	if p := c.spec.Process; p != nil {
		if p.Terminal {
			c.add("process.terminal", console(p, true))
		}
		dir := path.Clean(p.Cwd)
		if dir != "/" {
			c.reach(dir)
		}
		c.add("process.cwd", WorkDir{Path: dir})
	}
}

// rootPropagation is what linux.rootfsPropagation means.
type rootPropagation struct{ root, last Propagation }

// propagation reads linux.rootfsPropagation. Copies of the host's mounts get it at once (base). The root file system itself is
// never a peer of the host's mount, whose mounts would be the container's: it becomes shared, with a peer group of its own, or
// unbindable at the end.
func (c *compiler) propagation() (rootPropagation, error) {
	name := c.spec.Linux.RootfsPropagation
	p, ok := propagationOptions.find(name)
	if name != "" && !ok {
		return rootPropagation{}, &Error{"linux.rootfsPropagation", fmt.Sprintf("unknown propagation %q", name)}
	}
	switch p &^ Recursive {
	case Shared:
		c.base = Shared | Recursive
		return rootPropagation{root: Private | Recursive, last: p}, nil
	case Slave:
		c.base = Slave | Recursive
		return rootPropagation{root: Slave | Recursive}, nil
	case Private:
		if c.opts.NoPivot {
			return rootPropagation{}, &Error{"linux.rootfsPropagation", name + " is not safe without pivot_root: the host's mounts would stay busy"}
		}
		c.base = Private | Recursive
		return rootPropagation{root: Private | Recursive}, nil
	case Unbindable:
		c.base = Private | Recursive
		return rootPropagation{root: Private | Recursive, last: p}, nil
	}
	c.base = Slave | Recursive
	return rootPropagation{root: Private | Recursive}, nil
}
