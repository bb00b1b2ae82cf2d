// Package sandboxapi has the messages of containerd's sandbox API, as far as a shim reads and writes them. The fields are those of
// containerd/api/runtime/sandbox/v1/sandbox.proto, each at its number; taskapi says why they are written by hand.
package sandboxapi

import (
	"maps"
	"slices"
	"time"

	"github.com/gosuda/gosudacon/internal/wire"
	"github.com/gosuda/gosudacon/shim/internal/taskapi"
)

// CreateSandboxRequest asks for a sandbox. Annotations, which CRI does not send, are left out.
type CreateSandboxRequest struct {
	ID, Bundle string
	Rootfs     taskapi.Mounts
	Options    wire.Any // PodSandboxConfig
	Netns      string   // path of the network namespace, "" for the host's
}

func (m *CreateSandboxRequest) Decode(b []byte) error {
	return wire.Decode(b, &m.ID, &m.Bundle, &m.Rootfs, &m.Options, &m.Netns)
}

// SandboxRequest names a sandbox: StartSandbox, Platform, WaitSandbox, PingSandbox, ShutdownSandbox and SandboxMetrics.
type SandboxRequest struct {
	ID string
}

func (m *SandboxRequest) Decode(b []byte) error { return wire.Decode(b, &m.ID) }

// StopSandboxRequest ends a sandbox, in this many seconds; 0 leaves it to the caller's own patience.
type StopSandboxRequest struct {
	ID          string
	TimeoutSecs uint32
}

func (m *StopSandboxRequest) Decode(b []byte) error { return wire.Decode(b, &m.ID, &m.TimeoutSecs) }

// SandboxStatusRequest asks for the status, and for Info if it is Verbose.
type SandboxStatusRequest struct {
	ID      string
	Verbose bool
}

func (m *SandboxStatusRequest) Decode(b []byte) error { return wire.Decode(b, &m.ID, &m.Verbose) }

// StartSandboxResponse says which process has the sandbox's namespaces.
type StartSandboxResponse struct {
	Pid       uint32
	CreatedAt time.Time
}

func (m StartSandboxResponse) Encode() []byte { return wire.Encode(m.Pid, m.CreatedAt) }

// PlatformResponse says for which images the sandbox is.
type PlatformResponse struct {
	OS, Architecture string
}

func (m PlatformResponse) Encode() []byte {
	return wire.AppendMessage(nil, 1, wire.Encode(m.OS, m.Architecture))
}

// WaitSandboxResponse tells how a sandbox ended.
type WaitSandboxResponse struct {
	ExitStatus uint32
	ExitedAt   time.Time
}

func (m WaitSandboxResponse) Encode() []byte { return wire.Encode(m.ExitStatus, m.ExitedAt) }

// The states of a sandbox, in CRI's words.
const (
	Ready    = "SANDBOX_READY"
	NotReady = "SANDBOX_NOTREADY"
)

// SandboxStatusResponse is the state of a sandbox. ExitedAt is left out when it is zero.
type SandboxStatusResponse struct {
	ID                  string
	Pid                 uint32
	State               string
	Info                map[string]string
	CreatedAt, ExitedAt time.Time
}

func (m SandboxStatusResponse) Encode() []byte {
	b := wire.Encode(m.ID, m.Pid, m.State)
	for _, key := range slices.Sorted(maps.Keys(m.Info)) {
		b = wire.AppendMessage(b, 4, wire.Encode(key, m.Info[key]))
	}
	b = wire.AppendMessage(b, 5, wire.Time(m.CreatedAt))
	if m.ExitedAt.IsZero() {
		return b
	}
	return wire.AppendMessage(b, 6, wire.Time(m.ExitedAt))
}

// SandboxMetricsResponse has the figures of a sandbox's cgroup.
type SandboxMetricsResponse struct {
	At   time.Time
	ID   string
	Data wire.Any
}

func (m SandboxMetricsResponse) Encode() []byte {
	return wire.AppendMessage(nil, 1, wire.Encode(m.At, m.ID, &m.Data))
}
