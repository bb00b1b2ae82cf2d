package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/cgroup"
	"github.com/gosuda/gosudacon/runtime/internal/child"
	"github.com/gosuda/gosudacon/runtime/internal/hooks"
	"github.com/gosuda/gosudacon/runtime/internal/host"
	"github.com/gosuda/gosudacon/runtime/internal/launch"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/seccomp"
)

// Stats are a container's figures; see Container.Stats.
type (
	Stats        = cgroup.Stats
	StatsV1      = cgroup.StatsV1
	StatsV2      = cgroup.StatsV2
	MemoryV1     = cgroup.MemoryV1
	MemoryV2     = cgroup.MemoryV2
	MemoryEntry  = cgroup.MemoryEntry
	BlkioEntry   = cgroup.BlkioEntry
	Rdma         = cgroup.Rdma
	RdmaEntry    = cgroup.RdmaEntry
	Pressure     = cgroup.Pressure
	PressureData = cgroup.PressureData
)

// Engine makes containers under one state root. Its methods are safe for concurrent use.
type Engine struct {
	opts     Options
	host     *host.Host
	cgroups  *cgroup.Host
	children *child.Table
	profiles *seccomp.Cache

	mu         sync.Mutex
	containers map[string]*Container // from the start of Create to the end of Delete
}

// New returns an engine whose containers live under o.Root. The error names what this kernel lacks.
func New(o Options) (*Engine, error) {
	h, err := host.Probe()
	if err != nil {
		return nil, fmt.Errorf("probe the host: %w", err)
	}
	cg, err := cgroup.Probe()
	if err != nil {
		return nil, fmt.Errorf("probe the host's cgroups: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Engine{opts: o, host: h, cgroups: cg, children: &child.Table{}, profiles: seccomp.NewCache(profileCache),
		containers: map[string]*Container{}}, nil
}

// InUserNamespace tells whether this process is in a user namespace that somebody has made, where root has no privileges on the
// host.
func InUserNamespace() (bool, error) {
	h, err := host.Probe()
	if err != nil {
		return false, fmt.Errorf("probe the host: %w", err)
	}
	return h.InUserNS, nil
}

// profileCache is how many compiled seccomp profiles are kept: the containers of a pod mostly share one.
const profileCache = 4

// Reap makes this process the reaper of its orphaned descendants, for as long as it lives. A shim calls it once.
func (e *Engine) Reap() error { return e.children.Reap() }

// StartChild starts a helper process that Reap must leave to its owner, and returns how to wait for it, which the caller
// must do once.
func (e *Engine) StartChild(cmd *exec.Cmd) (wait func() error, err error) {
	return e.children.Start(cmd)
}

// facts returns what plan.Compile must know.
func (e *Engine) facts(cg *cgroup.Cgroup) *plan.Facts {
	f := &plan.Facts{
		CgroupV2:     e.cgroups.Mode == cgroup.V2,
		Capabilities: e.host.Capabilities,
		LastCap:      e.host.LastCap,
		AppArmor:     host.AppArmor,
		SELinux:      host.SELinux,
		Resctrl:      host.Resctrl,
		HasNamespace: func(n plan.Namespaces) bool { return host.HasNamespace(n.ProcFile()) },
		KCore:        e.host.KCore,
		CompileSeccomp: func(p *specs.LinuxSeccomp) (*seccomp.Filter, error) {
			return e.profiles.Compile(p, seccomp.Options{Arch: nativeArch, SupportedFlags: e.host.SeccompFlags})
		},
	}
	f.Restricted, f.NoMounts = e.host.Restricted(), !e.host.Mounts
	if e.host.User {
		f.User = &plan.User{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	}
	paths := cg.Paths()
	f.NoCgroup = len(paths) == 0 && cg.Unit() == ""
	for _, h := range e.cgroups.Hierarchies {
		path := paths[h.Controllers[0]]
		if path == "" {
			path = h.Own // the container stays there
		}
		f.CgroupV1 = append(f.CgroupV1, plan.Hierarchy{Options: h.Controllers, Dir: filepath.Base(h.Mount), Path: path})
	}
	return f
}

func (e *Engine) hostCgroups() (*cgroup.Host, error) { return e.cgroups, nil }

func (e *Engine) emit(ev Event) {
	if e.opts.OnEvent != nil {
		e.opts.OnEvent(ev)
	}
}

func (e *Engine) forget(id string) {
	e.mu.Lock()
	delete(e.containers, id)
	e.mu.Unlock()
}

func errorf(kind Kind, cause error, format string, args ...any) *Error {
	return &Error{Kind: kind, Msg: clip(fmt.Sprintf(format, args...)), Err: cause}
}

// clip takes the middle out of a text that quotes too much of a config: nobody reads it, and a message of the task API takes
// 4 MiB. The property is named at the start, the cause at the end.
func clip(text string) string {
	const head, tail = 1024, 512
	if len(text) <= head+tail {
		return text
	}
	return strings.ToValidUTF8(text[:head], "") + "..." + strings.ToValidUTF8(text[len(text)-tail:], "")
}

// explain turns an error of a launch into one of the engine, with the text that clients of runc know when the program
// cannot be executed.
func explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var own *Error
	if errors.As(err, &own) {
		return err
	}
	var config *plan.Error
	if errors.As(err, &config) {
		return errorf(InvalidArgument, err, "config.json: %v", err)
	}
	var step *launch.StepError
	if errors.As(err, &step) {
		if text := executableText(step); text != "" {
			return errorf(Internal, err, "%s", text)
		}
	}
	var hook *hooks.Error
	if errors.As(err, &hook) && step != nil { // which only says that hooks are run
		return errorf(Internal, err, "%v", hook)
	}
	return errorf(Internal, err, "%v", err)
}
