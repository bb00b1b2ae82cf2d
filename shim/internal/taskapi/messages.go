// Package taskapi has the messages of containerd's task API, versions 2 and 3, as far as a shim reads and writes them. The
// fields are those of containerd/api/runtime/task/v3/shim.proto, each at its number.
//
// They are written by hand because every shim process pays for generated ones: the descriptors are parsed at each of the three
// process starts in a container's life (together with the ttrpc library, 1 ms each), and keep 0.4 MiB in every shim.
package taskapi

import (
	"time"

	"github.com/gosuda/gosudacon/internal/wire"
)

// ContainerRequest names a container: Pids, Pause, Resume, Stats, Connect and Shutdown.
type ContainerRequest struct {
	ID string
}

func (m *ContainerRequest) Decode(b []byte) error { return wire.Decode(b, &m.ID) }

// ProcessRequest names a process: State, Start, Delete and Wait. ExecID is "" for the container's init.
type ProcessRequest struct {
	ID, ExecID string
}

func (m *ProcessRequest) Decode(b []byte) error { return wire.Decode(b, &m.ID, &m.ExecID) }

// Mount is containerd.types.Mount.
type Mount struct {
	Type, Source, Target string
	Options              []string
}

func (m *Mount) Encode() []byte { return wire.Encode(m.Type, m.Source, m.Target, m.Options) }

// Mounts is a repeated Mount.
type Mounts []Mount

// Decode appends one.
func (m *Mounts) Decode(b []byte) error {
	var mount Mount
	err := wire.Decode(b, &mount.Type, &mount.Source, &mount.Target, &mount.Options)
	*m = append(*m, mount)
	return err
}

// CreateTaskRequest asks for a container.
type CreateTaskRequest struct {
	ID, Bundle                   string
	Rootfs                       Mounts
	Terminal                     bool
	Stdin, Stdout, Stderr        string
	Checkpoint, ParentCheckpoint string
	Options                      wire.Any
}

func (m *CreateTaskRequest) Decode(b []byte) error {
	return wire.Decode(b, &m.ID, &m.Bundle, &m.Rootfs, &m.Terminal, &m.Stdin, &m.Stdout, &m.Stderr, &m.Checkpoint, &m.ParentCheckpoint, &m.Options)
}

// ExecProcessRequest adds a process to a container. Spec holds JSON.
type ExecProcessRequest struct {
	ID, ExecID            string
	Terminal              bool
	Stdin, Stdout, Stderr string
	Spec                  wire.Any
}

func (m *ExecProcessRequest) Decode(b []byte) error {
	return wire.Decode(b, &m.ID, &m.ExecID, &m.Terminal, &m.Stdin, &m.Stdout, &m.Stderr, &m.Spec)
}

// ResizePtyRequest sets the size of a terminal, in characters.
type ResizePtyRequest struct {
	ID, ExecID    string
	Width, Height uint32
}

func (m *ResizePtyRequest) Decode(b []byte) error {
	return wire.Decode(b, &m.ID, &m.ExecID, &m.Width, &m.Height)
}

// KillRequest sends a signal to a process, or to all of a container.
type KillRequest struct {
	ID, ExecID string
	Signal     uint32
	All        bool
}

func (m *KillRequest) Decode(b []byte) error {
	return wire.Decode(b, &m.ID, &m.ExecID, &m.Signal, &m.All)
}

// CloseIORequest closes a process's stdin.
type CloseIORequest struct {
	ID, ExecID string
	Stdin      bool
}

func (m *CloseIORequest) Decode(b []byte) error { return wire.Decode(b, &m.ID, &m.ExecID, &m.Stdin) }

// CheckpointTaskRequest asks for a checkpoint in the directory Path.
type CheckpointTaskRequest struct {
	ID, Path string
	Options  wire.Any
}

func (m *CheckpointTaskRequest) Decode(b []byte) error {
	return wire.Decode(b, &m.ID, &m.Path, &m.Options)
}

// CheckpointOptions are containerd.runc.v1.CheckpointOptions.
type CheckpointOptions struct {
	Exit, OpenTCP, ExternalUnixSockets, Terminal, FileLocks bool
	EmptyNamespaces                                         []string
	CgroupsMode, ImagePath, WorkPath, ParentPath            string
}

func (m *CheckpointOptions) Decode(b []byte) error {
	return wire.Decode(b, &m.Exit, &m.OpenTCP, &m.ExternalUnixSockets, &m.Terminal, &m.FileLocks, &m.EmptyNamespaces, &m.CgroupsMode, &m.ImagePath,
		&m.WorkPath, &m.ParentPath)
}

// UpdateTaskRequest changes resource limits. Resources holds JSON.
type UpdateTaskRequest struct {
	ID        string
	Resources wire.Any
}

func (m *UpdateTaskRequest) Decode(b []byte) error { return wire.Decode(b, &m.ID, &m.Resources) }

// Empty is google.protobuf.Empty.
type Empty struct{}

func (Empty) Encode() []byte { return nil }

// PidResponse answers Create and Start.
type PidResponse struct {
	Pid uint32
}

func (m PidResponse) Encode() []byte { return wire.Encode(m.Pid) }

// DeleteResponse tells how a process ended.
type DeleteResponse struct {
	Pid, ExitStatus uint32
	ExitedAt        time.Time
}

func (m DeleteResponse) Encode() []byte { return wire.Encode(m.Pid, m.ExitStatus, m.ExitedAt) }

// WaitResponse tells how a process ended.
type WaitResponse struct {
	ExitStatus uint32
	ExitedAt   time.Time
}

func (m WaitResponse) Encode() []byte { return wire.Encode(m.ExitStatus, m.ExitedAt) }

// Status is containerd.v1.types.Status.
type Status uint32

// The states of a process.
const (
	StatusUnknown Status = iota
	StatusCreated
	StatusRunning
	StatusStopped
	StatusPaused
	StatusPausing
)

// StateResponse is the state of a process.
type StateResponse struct {
	ID, Bundle            string
	Pid                   uint32
	Status                Status
	Stdin, Stdout, Stderr string
	Terminal              bool
	ExitStatus            uint32
	ExitedAt              time.Time
}

func (m StateResponse) Encode() []byte {
	return wire.Encode(m.ID, m.Bundle, m.Pid, uint32(m.Status), m.Stdin, m.Stdout, m.Stderr, m.Terminal, m.ExitStatus, m.ExitedAt)
}

// ProcessInfo is a process of a container; Info is nil, or says which exec it is.
type ProcessInfo struct {
	Pid  uint32
	Info *wire.Any
}

// PidsResponse lists the processes of a container.
type PidsResponse struct {
	Processes []ProcessInfo
}

func (m PidsResponse) Encode() []byte {
	var b []byte
	for _, p := range m.Processes {
		b = wire.AppendMessage(b, 1, wire.Encode(p.Pid, p.Info))
	}
	return b
}

// StatsResponse has the figures of a container's cgroup.
type StatsResponse struct {
	Stats wire.Any
}

func (m StatsResponse) Encode() []byte { return wire.Encode(&m.Stats) }

// ConnectResponse says who serves.
type ConnectResponse struct {
	ShimPid, TaskPid uint32
}

func (m ConnectResponse) Encode() []byte { return wire.Encode(m.ShimPid, m.TaskPid) }
