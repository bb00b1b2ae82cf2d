package plan

import (
	"fmt"
	"strings"

	"github.com/gosuda/gosudacon/runtime/internal/seccomp"
)

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

// Listener hands the listener of a filter with SCMP_ACT_NOTIFY to an agent; the process itself does not keep it.
type Listener struct {
	atGate
	Path     string // of the agent's unix socket, on the host
	Metadata string
}

func (l Listener) String() string {
	return "hand the listener of the seccomp filter to the agent at " + l.Path
}

// ReadHome asks the caller for the home directory of a user in the container's passwd file, as the mounts have it.
type ReadHome struct {
	atGate
	UID uint32
}

func (r ReadHome) String() string {
	return fmt.Sprintf("look up the home directory of uid %d in the container's /etc/passwd", r.UID)
}

// Caps are the five capability sets as bit masks.
type Caps struct{ Bounding, Effective, Permitted, Inheritable, Ambient uint64 }

// Bound drops from the bounding set what no program of the container is to have, when the child still waits for its caller.
type Bound struct {
	inChild
	Caps    uint64 // which stay
	LastCap int    // highest capability of this kernel
}

func (b Bound) String() string { return fmt.Sprintf("limit the capabilities to %#x", b.Caps) }

// Credentials takes the user, group and capability sets of the process and its working directory.
type Credentials struct {
	inChild
	UID, GID uint32
	Groups   []uint32
	Caps     Caps
	Keep     uint64 // capabilities that it has beyond Caps until DropCaps
	LastCap  int    // highest capability of this kernel, until which Caps.Bounding is to be limited; -1: it has been
	Dir      string
	Umask    uint32
}

func (c Credentials) String() string {
	s := fmt.Sprintf("become uid %d gid %d groups %v in %s with capabilities %s, umask %04o",
		c.UID, c.GID, c.Groups, c.Dir, c.Caps.String(), c.Umask)
	if c.Keep != 0 {
		s += fmt.Sprintf(", and %#x until the filter is loaded", c.Keep)
	}
	return s
}

func (c Caps) String() string {
	if c.Bounding == c.Effective && c.Effective == c.Permitted && c.Inheritable == 0 && c.Ambient == 0 {
		return fmt.Sprintf("%#x", c.Bounding)
	}
	return fmt.Sprintf("bounding %#x effective %#x permitted %#x inheritable %#x ambient %#x",
		c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient)
}

// DropCaps takes what Credentials.Keep has left.
type DropCaps struct {
	inChild
	Caps Caps
}

func (d DropCaps) String() string { return "keep no capabilities but " + d.Caps.String() }

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
func (l Limits) Where() Where { return gateOrChild(l.Gate) }

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
	// Door are the namespaces whose descriptors the child gives to who enters them until then and may not take them.
	Door Namespaces
}

func (r Ready) String() string {
	if r.Stop {
		s := "created: stopped by SIGSTOP until start continues it and opens the start gate"
		if r.Door != 0 {
			s += "; lets hooks and execs in"
		}
		return s
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
	// LateHome: it does, and gets what ReadHome has found.
	LateHome bool
}

func (e Exec) String() string { return fmt.Sprintf("execute %q", e.Args) }
