// Package engine is the OCI engine: it makes, runs and removes containers inside the process that links it.
//
// One driver goroutine owns each container. Requests and exits arrive in its mailbox, exits first; State, Pids, Wait and
// Stats read a published snapshot and never wait behind a slow request. Events come out in the order of the container's
// life.
package engine

import (
	"log/slog"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Options configure an Engine.
type Options struct {
	// Root is the directory that holds one directory per container; it is made with mode 0711 when missing. The shim uses
	// /run/containerd/gosuda/<namespace>, the command line /run/gosudacon.
	Root string
	// OnEvent is told of every step of a container's life, in order per container, on the container's driver goroutine.
	// It must not block and must not call back into the container. Nil means nobody listens.
	OnEvent func(Event)
	// Log receives warnings that no caller asked for; nil discards them.
	Log *slog.Logger
}

// Stdio is the container's end of its standard streams. The engine borrows the files for the duration of the call that
// takes them; the caller closes them afterwards. A nil file is /dev/null.
type Stdio struct {
	In, Out, Err *os.File
}

// CreateRequest asks for one container.
type CreateRequest struct {
	// ID matches [A-Za-z0-9_+.-]+ and is not "." or "..".
	ID string
	// Bundle is the absolute path of the directory with config.json.
	Bundle string
	// Config is the absolute path of the config; "" for config.json in the bundle.
	Config string
	// Edit, when set, may look at the config and change it, but for its namespaces, before anything is done with it. Its error is Create's.
	Edit func(*specs.Spec) error
	// Begun is what Begin has begun; Create does so itself otherwise, and closes it.
	Begun *Beginning
	// Rootfs is mounted, in order, onto Bundle/rootfs before the launch and unmounted by Delete. Empty: the spec's root.path is
	// used as it is.
	Rootfs []RootfsMount
	// Stdio is ignored when process.terminal is set: Container.TakeConsole then returns the terminal's master.
	Stdio Stdio
	// Terminal is what the caller is prepared for; it must be the same as process.terminal. CreateDetached takes no notice of it.
	Terminal bool
	// Notify makes a directory that both sides have, for sd_notify(3): Detached.NotifyDir here, /run/notify in the container,
	// whose process gets NOTIFY_SOCKET.
	Notify bool
	// Restore makes the processes from a checkpoint: Start does, or CreateDetached, whose container then runs. process.args is
	// not executed, and of the hooks prestart, createRuntime and poststop are run.
	Restore *RestoreRequest
	// Hold has CreateDetached keep others from changing the container until this process has started or deleted it. Init does not
	// wait for Start then, which only tells what came of it, if Start is to run no hook before, and without Terminal, Notify and
	// Trace.
	Hold bool
	// Forked, when set, is called when init exists, beside its way to what it executes, which does not begin before.
	Forked func()
	// Preserve is how many of this process's descriptors from 3 on the container's process inherits.
	Preserve      int
	NoPivotRoot   bool // move the root file system over the host's, where that is a ramdisk; less safe than pivot_root(2)
	NoNewKeyring  bool // do not join a new session keyring
	Cgroups       Cgroups
	SystemdCgroup bool // linux.cgroupsPath is slice:prefix:name and systemd makes the cgroup; also chosen by that syntax alone
	// Trace, when set, makes the launch record when each step of the plan ended; see Container.Trace.
	Trace bool
	// FailStep makes the launch fail with EIO at the given step of the plan (1 is the first); 0 never. For tests only.
	FailStep int
}

// Cgroups says what becomes of a cgroup that cannot be had.
type Cgroups uint8

// The policies.
const (
	// CgroupsAuto is CgroupsOptional for an ordinary user and for root of a user namespace, else CgroupsRequired.
	CgroupsAuto Cgroups = iota
	// CgroupsRequired makes that an error.
	CgroupsRequired
	// CgroupsOptional does without, in each hierarchy that this process may not write to, unless the config asks for a path or a
	// limit there.
	CgroupsOptional
	// CgroupsDisabled makes none: the container stays in this process's cgroup, whatever linux.cgroupsPath says, and limits
	// are ignored, with a warning (as crun does).
	CgroupsDisabled
)

// RootfsMount is one mount of the root file system, in the form of containerd.types.Mount.
type RootfsMount struct {
	Type, Source, Target string
	Options              []string
}

// EventKind says which step of a life an Event tells of.
type EventKind uint8

// The kinds of events, in the words of containerd's task events.
const (
	Created EventKind = iota + 1
	Started
	ExecAdded
	ExecStarted
	Exited
	OOM
	Paused
	Resumed
	ExecDeleted
	Deleted
	Checkpointed
)

// Event is one step of a container's life.
type Event struct {
	Kind      EventKind
	Container string
	Exec      string // "" for the init process
	Pid       int    // of the process that the event is about
	Exit      Exit   // set for Exited, ExecDeleted and Deleted
}

// Exit is how a process ended.
type Exit struct {
	Pid    int
	Status int       // exit code, or 128+signal
	At     time.Time // zero when the process never ran
}

// Status is the state of a container or of one of its processes.
type Status string

// The states, in the words of runtime-spec and of the task API.
const (
	StatusCreating Status = "creating"
	StatusCreated  Status = "created"
	StatusRunning  Status = "running"
	StatusPausing  Status = "pausing"
	StatusPaused   Status = "paused"
	StatusStopped  Status = "stopped"
)

// ProcessState is a snapshot of one process.
type ProcessState struct {
	Container string
	Exec      string // "" for the init process
	Pid       int    // 0 before it exists; kept after it ended
	Status    Status
	Exit      Exit
	Terminal  bool
}

// ProcessInfo names one process in the container's cgroup.
type ProcessInfo struct {
	Pid  int
	Exec string // the exec that it is the first process of, or ""
}

// ExecRequest adds a process to a container.
type ExecRequest struct {
	ID      string // unique in the container until deleted
	Process *specs.Process
	// Cgroups are the cgroups that the process starts in, relative to the container's, by v1 controller, or by "" for all
	// others. Nil is the container's own, or, where cgroup v2 has no room in that for processes, the one that init is in.
	Cgroups map[string]string
	// FailStep makes the launch fail with EIO at the given step of the plan (1 is the first); 0 never. For tests only.
	FailStep int
}

// Kind classifies an Error for translation into gRPC codes and exit codes.
type Kind uint8

// The kinds of errors.
const (
	Internal Kind = iota // the kernel refused, or our bug
	InvalidArgument
	NotFound
	AlreadyExists
	FailedPrecondition
	NotImplemented
)

// Error is an error of the engine. Callers look at Kind, never at the text; the texts are those that clients of runc know.
type Error struct {
	Kind Kind
	Msg  string
	Err  error // the cause, may be nil; already part of Msg
}

func (e *Error) Error() string { return e.Msg }
func (e *Error) Unwrap() error { return e.Err }
