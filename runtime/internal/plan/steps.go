package plan

import (
	"fmt"
	"strings"
)

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

type namespaceName struct {
	Flag Namespaces
	Name string // as in config.json
	File string // in /proc/PID/ns
}

var namespaceNames = []namespaceName{
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

// List returns the namespaces of the set one by one, the user namespace first: who enters it may enter the others.
func (n Namespaces) List() (list []Namespaces) {
	for _, k := range namespaceNames {
		if n&k.Flag != 0 {
			list = append(list, k.Flag)
		}
	}
	return list
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
type Detach struct {
	inChild
	// Dumpable: the child belongs to the user of its caller, who has no rights over root's, until it has written its own files in
	// /proc, or the caller has.
	Dumpable bool
}

func (d Detach) String() string {
	return map[bool]string{true: "", false: "become undumpable, "}[d.Dumpable] + "reset signals, timer slack and affinity, keep only the wanted file descriptors, new session"
}

// EnterCgroup moves the child into the container's cgroup; on cgroup v2 it was born there.
type EnterCgroup struct {
	inChild
	// KeepCPUs: the CPUs that the child runs on were chosen; else it may run on all that the cgroup has, whatever the
	// caller's own affinity is.
	KeepCPUs bool
	// Stay: the container has none of its own, and its processes stay in their caller's.
	Stay bool
	// Later: the child waits until the caller has made the cgroups of v1. What shows them comes next, in the new file system on View, on
	// which nobody has mounted anything; "" when there is nothing to show.
	Later bool
	View  string
}

// Where is the child, which waits for its caller when that is still at it.
func (e EnterCgroup) Where() Where { return gateOrChild(e.Later) }

func (e EnterCgroup) String() string {
	if e.Stay {
		return "stay in the caller's cgroup"
	}
	if e.KeepCPUs {
		return "enter the cgroup, with the CPUs that were chosen"
	}
	return "enter the cgroup"
}

// ScoreAdj sets oom_score_adj.
type ScoreAdj struct {
	Value int
	// Gate: the caller writes it, because the child is born without a mapped id.
	Gate bool
	// Best: nobody asked for the value; a kernel that refuses it is not an error.
	Best bool
	// Aside: the caller writes it while the child goes on, as it has nothing else to do then.
	Aside bool
}

// Where is the child, unless it may not, or need not.
func (s ScoreAdj) Where() Where {
	if s.Aside {
		return Aside
	}
	return gateOrChild(s.Gate)
}

func (s ScoreAdj) String() string { return fmt.Sprintf("set oom_score_adj to %d", s.Value) }

// Join enters an existing namespace by path.
type Join struct {
	inChild
	Type Namespaces
	Path string
	// Foreign: it must not be the caller's own, because the config changes what is in it.
	Foreign bool
}

func (j Join) String() string { return fmt.Sprintf("join the %s namespace %s", j.Type, j.Path) }

// JoinContainer enters the namespaces of the container's init (an exec).
type JoinContainer struct {
	inChild
	Types Namespaces
	// Root: no mount namespace of its own leads to the container's root directory.
	Root bool
}

func (j JoinContainer) String() string {
	switch {
	case j.Types == 0:
		return "take the container's root directory"
	case j.Root:
		return "join the container's namespaces: " + j.Types.String() + "; take its root directory"
	}
	return "join the container's namespaces: " + j.Types.String()
}

// Unshare makes new namespaces in the child, those that could not be made at the clone.
type Unshare struct {
	inChild
	New Namespaces
}

func (u Unshare) String() string { return "unshare: " + u.New.String() }

// MakeNetwork makes a network namespace for the child, and brings up lo. To make one takes the kernel longer than anything else.
type MakeNetwork struct{}

// Where is a process of its own.
func (MakeNetwork) Where() Where { return Beside }

func (MakeNetwork) String() string { return "make a network namespace, bring up lo" }

// EnterNetwork enters the namespace that MakeNetwork makes.
type EnterNetwork struct{ inChild }

func (EnterNetwork) String() string { return "enter the network namespace" }

// Refork makes the child again, as the first process of a new pid namespace that belongs to a joined user namespace.
type Refork struct {
	inChild
}

func (Refork) String() string { return "clone again, into the pid namespace" }

// IDMap is one line of uid_map or gid_map.
type IDMap struct{ Container, Host, Size uint32 }

// MapIDs writes the maps of a new user namespace, then becomes root in it.
type MapIDs struct {
	atGate
	UID, GID []IDMap
	// UIDTool, GIDTool: the caller may not write that map, but newuidmap(1), newgidmap(1) may.
	UIDTool, GIDTool bool
	// DenyGroups: the caller writes the gid map without privileges, for which setgroups(2) must be forbidden.
	DenyGroups bool
}

func (m MapIDs) String() string {
	s := fmt.Sprintf("map ids: uid %s gid %s", FormatMaps(m.UID), FormatMaps(m.GID)) + m.tools()
	if m.DenyGroups {
		s += ", without setgroups"
	}
	return s
}

// CheckIDs makes sure that a joined user namespace has the maps that the config says, which the mounts and the devices of
// the container were planned with.
type CheckIDs struct {
	atGate
	UID, GID []IDMap
}

func (c CheckIDs) String() string {
	return fmt.Sprintf("check that the user namespace maps uid %s gid %s", FormatMaps(c.UID), FormatMaps(c.GID))
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

// Keyring joins the container's session keyring, which the first to join makes.
type Keyring struct {
	inChild
	Name string
}

func (Keyring) String() string { return "join the container's session keyring" } // its name is a secret

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
