// Package plan compiles a config.json and facts about the host into the ordered list of steps that make a container.
//
// It is pure: it opens no file and makes no system call. What it returns can be printed (Plan.String), compared in tests,
// and lowered by package launch into a program for the kernel.
package plan

import (
	"fmt"
	"strings"

	"github.com/gosuda/gosudacon/runtime/internal/seccomp"
)

// Plan is the ordered list of steps, as they will happen.
type Plan struct {
	Steps    []Step
	Warnings []string // what was left out because the spec or the host says so
}

// Step is one thing that will be done.
type Step struct {
	From string // path in config.json that asks for it, "" for what the runtime needs itself
	Do   Action
}

// Action is one of the types below; launch has one lowering for each.
type Action interface {
	String() string
	// Where says who does it: the caller before the fork, the child, or the caller while the child waits at a gate.
	Where() Where
}

// Where is a place of execution.
type Where uint8

// The places.
const (
	InChild Where = iota
	AtGate
	AtFork
)

func (w Where) String() string { return [...]string{"child", "gate ", "fork "}[w] }

// String prints the plan numbered, one step a line: place, config path, what is done.
func (p *Plan) String() string {
	var b strings.Builder
	width := 0
	for _, s := range p.Steps {
		width = max(width, len(s.From))
	}
	for i, s := range p.Steps {
		fmt.Fprintf(&b, "%3d  %s  %-*s  %s\n", i+1, s.Do.Where(), width, s.From, s.Do)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.String()
}

// Find returns the first action of the wanted type.
func Find[T Action](p *Plan) (T, bool) {
	for _, s := range p.Steps {
		if a, ok := s.Do.(T); ok {
			return a, true
		}
	}
	var none T
	return none, false
}

// SetHome adds the variable HOME when the config has none. It is the one fact that is known only once the root file system
// is mounted: the container's /etc/passwd has it.
func (p *Plan) SetHome(home func() string) {
	for i, s := range p.Steps {
		if e, ok := s.Do.(Exec); ok && e.NeedHome {
			e.Env, e.NeedHome = append(e.Env, "HOME="+home()), false
			p.Steps[i].Do = e
		}
	}
}

type inChild struct{}

func (inChild) Where() Where { return InChild }

type atGate struct{}

func (atGate) Where() Where { return AtGate }

type atFork struct{}

func (atFork) Where() Where { return AtFork }

// Namespaces is a set of CLONE_NEW* flags.
type Namespaces uint64

// The namespaces, with the kernel's flag values (linux/sched.h).
const (
	NewTime   Namespaces = 0x00000080
	NewMount  Namespaces = 0x00020000
	NewCgroup Namespaces = 0x02000000
	NewUTS    Namespaces = 0x04000000
	NewIPC    Namespaces = 0x08000000
	NewUser   Namespaces = 0x10000000
	NewPID    Namespaces = 0x20000000
	NewNet    Namespaces = 0x40000000
)

var namespaceNames = []struct {
	Flag Namespaces
	Name string // as in config.json
	File string // in /proc/PID/ns
}{
	{NewUser, "user", "user"}, {NewPID, "pid", "pid"}, {NewNet, "network", "net"}, {NewIPC, "ipc", "ipc"},
	{NewUTS, "uts", "uts"}, {NewMount, "mount", "mnt"}, {NewCgroup, "cgroup", "cgroup"}, {NewTime, "time", "time"},
}

// ProcFile returns the name under /proc/PID/ns of a single namespace.
func (n Namespaces) ProcFile() string {
	for _, k := range namespaceNames {
		if k.Flag == n {
			return k.File
		}
	}
	return ""
}

func (n Namespaces) String() string {
	var names []string
	for _, k := range namespaceNames {
		if n&k.Flag != 0 {
			names = append(names, k.Name)
		}
	}
	return strings.Join(names, ", ")
}

// Clone makes the child.
type Clone struct {
	atFork
	New Namespaces
	// PidNS is the path of the pid namespace the child is born in; "" for a new one or the caller's.
	PidNS string
	// JoinPid: the child is born in the pid namespace of the container's init (an exec).
	JoinPid bool
}

func (c Clone) String() string {
	s := "clone"
	if c.New != 0 {
		s += " into new namespaces: " + c.New.String()
	}
	if c.PidNS != "" {
		s += ", born in the pid namespace " + c.PidNS
	}
	if c.JoinPid {
		s += ", born in the container's pid namespace"
	}
	return s
}

// Detach is what every child does first: nothing of the runtime's process may reach the container.
type Detach struct{ inChild }

func (Detach) String() string {
	return "become undumpable, reset signals, timer slack and affinity, keep only the wanted file descriptors, new session"
}

// EnterCgroup moves the child into the container's cgroup; on cgroup v2 it was born there.
type EnterCgroup struct{ inChild }

func (EnterCgroup) String() string { return "enter the cgroup" }

// ScoreAdj sets oom_score_adj.
type ScoreAdj struct {
	Value int
	// Gate: the caller writes it, because the child is born without a mapped id.
	Gate bool
	// Best: nobody asked for the value; a kernel that refuses it is not an error.
	Best bool
}

// Where is the child, unless it may not.
func (s ScoreAdj) Where() Where {
	if s.Gate {
		return AtGate
	}
	return InChild
}

func (s ScoreAdj) String() string { return fmt.Sprintf("set oom_score_adj to %d", s.Value) }

// Join enters an existing namespace by path.
type Join struct {
	inChild
	Type Namespaces
	Path string
}

func (j Join) String() string { return fmt.Sprintf("join the %s namespace %s", j.Type, j.Path) }

// JoinContainer enters the namespaces of the container's init (an exec).
type JoinContainer struct {
	inChild
	Types Namespaces
}

func (j JoinContainer) String() string { return "join the container's namespaces: " + j.Types.String() }

// Unshare makes new namespaces in the child, those that could not be made at the clone.
type Unshare struct {
	inChild
	New Namespaces
}

func (u Unshare) String() string { return "unshare: " + u.New.String() }

// Refork makes the child again, as the first process of a new pid namespace that belongs to a joined user namespace.
type Refork struct {
	inChild
}

func (Refork) String() string { return "clone again, as pid 1 of the new pid namespace" }

// IDMap is one line of uid_map or gid_map.
type IDMap struct{ Container, Host, Size uint32 }

// MapIDs writes the maps of a new user namespace, then becomes root in it.
type MapIDs struct {
	atGate
	UID, GID []IDMap
}

func (m MapIDs) String() string {
	f := func(maps []IDMap) string {
		var s []string
		for _, e := range maps {
			s = append(s, fmt.Sprintf("%d:%d:%d", e.Container, e.Host, e.Size))
		}
		return strings.Join(s, ",")
	}
	return fmt.Sprintf("map ids: uid %s gid %s", f(m.UID), f(m.GID))
}

// BecomeRoot takes uid and gid 0 of a joined or mapped user namespace.
type BecomeRoot struct{ inChild }

func (BecomeRoot) String() string { return "become uid 0 and gid 0 of the user namespace" }

// LoopbackUp brings up lo in a new network namespace.
type LoopbackUp struct{ inChild }

func (LoopbackUp) String() string { return "bring up lo" }

// Hostname sets the host name (or the domain name) of the new UTS namespace.
type Hostname struct {
	inChild
	Name   string
	Domain bool
}

func (h Hostname) String() string {
	if h.Domain {
		return fmt.Sprintf("set the domain name %q", h.Name)
	}
	return fmt.Sprintf("set the host name %q", h.Name)
}

// Keyring joins a new session keyring.
type Keyring struct {
	inChild
	Name string
}

func (k Keyring) String() string { return "join a new session keyring " + k.Name }

// Sysctl writes one kernel parameter.
type Sysctl struct {
	inChild
	Key, Value string
}

func (s Sysctl) String() string { return fmt.Sprintf("write %q to /proc/sys/%s", s.Value, s.Path()) }

// Path is the file below /proc/sys: the dots of the key become slashes, its slashes dots (sysctl(8)).
func (s Sysctl) Path() string {
	if i := strings.IndexAny(s.Key, "./"); i >= 0 && s.Key[i] == '/' {
		return s.Key
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, s.Key)
}

// Attr is a set of MOUNT_ATTR_* flags (mount_setattr(2)).
type Attr uint64

// The mount attributes, with the kernel's values (linux/mount.h).
const (
	AttrReadOnly    Attr = 0x01
	AttrNoSuid      Attr = 0x02
	AttrNoDev       Attr = 0x04
	AttrNoExec      Attr = 0x08
	AttrAtime       Attr = 0x70 // mask of the three below
	AttrRelatime    Attr = 0x00
	AttrNoAtime     Attr = 0x10
	AttrStrictAtime Attr = 0x20
	AttrNoDirAtime  Attr = 0x80
	AttrIDMap       Attr = 0x00100000
	AttrNoSymFollow Attr = 0x00200000
)

var attrNames = []struct {
	Bit  Attr
	Name string
}{
	{AttrReadOnly, "ro"}, {AttrNoSuid, "nosuid"}, {AttrNoDev, "nodev"}, {AttrNoExec, "noexec"},
	{AttrNoAtime, "noatime"}, {AttrStrictAtime, "strictatime"}, {AttrNoDirAtime, "nodiratime"},
	{AttrIDMap, "idmap"}, {AttrNoSymFollow, "nosymfollow"},
}

func (a Attr) String() string {
	var s []string
	for _, n := range attrNames {
		if a&n.Bit != 0 {
			s = append(s, n.Name)
		}
	}
	return strings.Join(s, ",")
}

// AttrChange sets and clears mount attributes.
type AttrChange struct{ Set, Clear Attr }

func (c AttrChange) zero() bool { return c == AttrChange{} }

func (c AttrChange) text(prefix string) string {
	s := ""
	if c.Set != 0 {
		s += " " + prefix + "+" + c.Set.String()
	}
	if clear := c.Clear &^ c.Set; clear&^AttrAtime != 0 {
		s += " " + prefix + "-" + (clear &^ AttrAtime).String()
	}
	return s
}

// Propagation is MS_SHARED, MS_PRIVATE, MS_SLAVE or MS_UNBINDABLE, with or without MS_REC.
type Propagation uint64

// Propagation flags, with the kernel's values (linux/mount.h).
const (
	Recursive  Propagation = 0x04000
	Unbindable Propagation = 0x20000
	Private    Propagation = 0x40000
	Slave      Propagation = 0x80000
	Shared     Propagation = 0x100000
)

func (p Propagation) String() string {
	r := ""
	if p&Recursive != 0 {
		r = "r"
	}
	switch p &^ Recursive {
	case Unbindable:
		return r + "unbindable"
	case Private:
		return r + "private"
	case Slave:
		return r + "slave"
	case Shared:
		return r + "shared"
	}
	return ""
}

// LeaveHost cuts the mount namespace's ties to the host's.
type LeaveHost struct{ inChild }

func (LeaveHost) String() string { return "make every mount of the new mount namespace a slave" }

// Root attaches the root file system.
type Root struct {
	inChild
	Path        string // absolute, on the host
	Propagation Propagation
}

func (r Root) String() string { return "attach the root file system " + r.Path }

// Bind attaches a copy of a tree of the host.
type Bind struct {
	inChild
	Source, Dest string
	Recursive    bool
	Attr         AttrChange // of the top mount
	RecAttr      AttrChange // of every mount in the tree
	// Base is the propagation of the copy before Propagation applies: that of the container's root.
	Base        Propagation
	Propagation []Propagation
	IDMap       *MountIDMap
}

func (b Bind) String() string {
	s := "bind "
	if b.Recursive {
		s = "rbind "
	}
	s += b.Source + " on " + b.Dest + b.Attr.text("") + b.RecAttr.text("rec")
	for _, p := range b.Propagation {
		s += " " + p.String()
	}
	if b.IDMap != nil {
		s += " idmapped"
	}
	return s
}

// MountIDMap is the id mapping of an idmapped mount.
type MountIDMap struct {
	UID, GID []IDMap
	// Container: the maps are those of the container's user namespace.
	Recursive bool
}

// FSParam is one parameter of a new file system; without a value it is a flag.
type FSParam struct{ Key, Value string }

// MountFS makes and attaches a new file system.
type MountFS struct {
	inChild
	Type, Source, Dest string
	Params             []FSParam
	Attr               Attr
	Propagation        []Propagation
	// RealDir: Dest must be a directory that is no symbolic link (proc and sysfs).
	RealDir bool
}

func (m MountFS) String() string {
	s := "mount " + m.Type + " on " + m.Dest
	if m.Attr != 0 {
		s += " +" + m.Attr.String()
	}
	for i, p := range m.Params {
		sep := ","
		if i == 0 {
			sep = " "
		}
		s += sep + p.Key
		if p.Value != "" {
			s += "=" + p.Value
		}
	}
	for _, p := range m.Propagation {
		s += " " + p.String()
	}
	return s
}

// Device makes a device node; in a user namespace, where none can be made, the host's node is bound.
type Device struct {
	inChild
	Path         string
	Type         byte // 'c', 'b' or 'p'
	Major, Minor uint32
	Mode         uint32 // permission bits
	UID, GID     uint32
}

func (d Device) String() string {
	if d.Type == 'p' {
		return fmt.Sprintf("make the fifo %s mode %04o owner %d:%d", d.Path, d.Mode, d.UID, d.GID)
	}
	return fmt.Sprintf("make the device %s %c %d:%d mode %04o owner %d:%d", d.Path, d.Type, d.Major, d.Minor, d.Mode, d.UID, d.GID)
}

// BindDevice binds a device node of the host.
type BindDevice struct {
	inChild
	Path string
}

func (d BindDevice) String() string { return "bind the host's device " + d.Path }

// Symlink makes a symbolic link; one that is there already stays.
type Symlink struct {
	inChild
	Target, Path string
	// Replace removes what is there first (dev/ptmx may be a node of the image).
	Replace bool
}

func (s Symlink) String() string { return "link " + s.Path + " to " + s.Target }

// RunHooks waits for the caller to run hooks in the runtime's namespaces.
type RunHooks struct {
	atGate
	Points []string
	Count  int
}

func (h RunHooks) String() string {
	return fmt.Sprintf("run %d hooks: %s", h.Count, strings.Join(h.Points, ", "))
}

// Console makes the terminal and puts it on the standard streams.
type Console struct {
	atGate
	Width, Height uint16 // characters; 0 leaves the kernel's default
	// Node: it also becomes /dev/console (a container's init, not an exec).
	Node bool
	UID  uint32 // owner of the terminal
}

func (c Console) String() string {
	s := "open a terminal in the container's devpts and hand its master to the caller"
	if c.Node {
		s = "open a terminal in the container's devpts, bind it on /dev/console and hand its master to the caller"
	}
	if c.Width != 0 || c.Height != 0 {
		s += fmt.Sprintf(", %dx%d", c.Width, c.Height)
	}
	return s
}

// ReadOnlyPath makes what is at a path read-only; a missing one is skipped.
type ReadOnlyPath struct {
	inChild
	Path string
}

func (r ReadOnlyPath) String() string { return "make " + r.Path + " read-only" }

// MaskPath hides what is at a path behind /dev/null or an empty directory; a missing one is skipped.
type MaskPath struct {
	inChild
	Path string
}

func (m MaskPath) String() string { return "mask " + m.Path }

// SealMount makes a mount made before read-only, after the last thing was made in it.
type SealMount struct {
	inChild
	Dest string
}

func (s SealMount) String() string { return "make the mount " + s.Dest + " read-only" }

// Pivot makes the root file system the root and detaches the host's.
type Pivot struct {
	inChild
	Propagation Propagation // of the container's root; 0 leaves it
}

func (p Pivot) String() string {
	s := "pivot into the root file system, detach the host's"
	if p.Propagation != 0 {
		s += ", root propagation " + p.Propagation.String()
	}
	return s
}

// WorkDir makes process.cwd when it is missing.
type WorkDir struct {
	inChild
	Path string
}

func (w WorkDir) String() string {
	return "make the working directory " + w.Path + " when it is missing"
}

// Label writes an attribute of a security module for the next execve.
type Label struct {
	inChild
	File  string // below /proc/thread-self/attr
	Value string
}

func (l Label) String() string { return fmt.Sprintf("write %q to attr/%s", l.Value, l.File) }

// NoNewPrivileges sets the flag.
type NoNewPrivileges struct{ inChild }

func (NoNewPrivileges) String() string { return "set no_new_privs" }

// Seccomp loads a filter.
type Seccomp struct {
	inChild
	Filter *seccomp.Filter
}

func (s Seccomp) String() string {
	return fmt.Sprintf("load a seccomp filter of %d instructions", len(s.Filter.Insns))
}

// Caps are the five capability sets as bit masks.
type Caps struct{ Bounding, Effective, Permitted, Inheritable, Ambient uint64 }

// Credentials takes the user, group and capability sets of the process and its working directory.
type Credentials struct {
	inChild
	UID, GID  uint32
	Groups    []uint32
	SetGroups bool // false where setgroups is denied
	Caps      Caps
	LastCap   int // highest capability of this kernel
	Dir       string
	Umask     uint32
}

func (c Credentials) String() string {
	return fmt.Sprintf("become uid %d gid %d groups %v in %s with capabilities %s, umask %04o",
		c.UID, c.GID, c.Groups, c.Dir, c.Caps.String(), c.Umask)
}

func (c Caps) String() string {
	if c.Bounding == c.Effective && c.Effective == c.Permitted && c.Inheritable == 0 && c.Ambient == 0 {
		return fmt.Sprintf("%#x", c.Bounding)
	}
	return fmt.Sprintf("bounding %#x effective %#x permitted %#x inheritable %#x ambient %#x",
		c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient)
}

// FindExecutable checks that args[0] can be executed, so that create can say so.
type FindExecutable struct {
	inChild
	Name       string
	Candidates []string
}

func (f FindExecutable) String() string {
	return fmt.Sprintf("look for %q in %s", f.Name, strings.Join(f.Candidates, " "))
}

// Rlimit is one resource limit.
type Rlimit struct {
	Type       string
	Resource   int // RLIMIT_* of linux/resource.h
	Soft, Hard uint64
}

// Limits sets the resource limits.
type Limits struct {
	Rlimits []Rlimit
	// Gate: the caller does it, because the root of a user namespace may not raise them.
	Gate bool
}

// Where is the child, unless it may not.
func (l Limits) Where() Where {
	if l.Gate {
		return AtGate
	}
	return InChild
}

func (l Limits) String() string {
	s := "set resource limits"
	for _, r := range l.Rlimits {
		s += fmt.Sprintf(" %s=%d:%d", r.Type, r.Soft, r.Hard)
	}
	return s + l.nofile()
}

// nofile says what happens to the one limit that Go changes.
func (l Limits) nofile() string {
	for _, r := range l.Rlimits {
		if r.Type == "RLIMIT_NOFILE" {
			return ""
		}
	}
	return " RLIMIT_NOFILE=as the runtime was started with"
}

// Ready is the last gate but one: the child has done all but the execution.
type Ready struct {
	atGate
	// Stop: the caller stops the child with SIGSTOP, the state `created`.
	Stop bool
}

func (r Ready) String() string {
	if r.Stop {
		return "created: stopped by SIGSTOP until start continues it and opens the start gate"
	}
	return "wait until the caller has recorded the process"
}

// Exec executes process.args.
type Exec struct {
	inChild
	Args, Env  []string
	Candidates []string
	// NeedHome: the environment lacks HOME; Plan.SetHome adds it.
	NeedHome bool
}

func (e Exec) String() string { return fmt.Sprintf("execute %q", e.Args) }
