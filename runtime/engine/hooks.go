package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/child"
	"github.com/gosuda/gosudacon/runtime/internal/hooks"
	"github.com/gosuda/gosudacon/runtime/internal/launch"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/store"
)

// The six points, and who runs a hook where:
//
//	prestart         create, init waits before its pivot    the runtime's namespaces
//	createRuntime    the same, next                         the runtime's namespaces
//	createContainer  the same, next                         the container's namespaces, the host's files
//	startContainer   start, init waits at its gate          the container, as its process
//	poststart        start, after execve                    the runtime's namespaces
//	poststop         delete, or the end of a failed create  the runtime's namespaces
//
// A failure of the first five ends the container and is the request's error; one of the last is only reported (runtime.md,
// "Lifecycle").

// ociState is what hooks read on their standard input.
func ociState(r *store.Record, status specs.ContainerState, pid int) specs.State {
	return specs.State{Version: r.OCIVersion, ID: r.ID, Status: status, Pid: pid, Bundle: r.Bundle, Annotations: r.Annotations}
}

// createHooks runs the hooks of one point of create.
func (c *Container) createHooks(ctx context.Context, init *child.Process, point string) error {
	for _, p := range plan.HookPoints(c.spec.Hooks) {
		if p.Name != point {
			continue
		}
		if point != "createContainer" {
			return hooks.Run(ctx, point, p.List, ociState(c.record, specs.StateCreating, init.Pid), hooks.Here(c.bundle, c.engine.StartChild))
		}
		n := &insider{target{engine: c.engine, cgroup: c.cgroup, initPid: init.Pid, initFD: init.FD}}
		pid, err := n.pidInside()
		if err != nil {
			return err
		}
		return hooks.Run(ctx, point, p.List, ociState(c.record, specs.StateCreating, pid), func(h *specs.Hook, stdin, output *os.File) (hooks.Process, error) {
			in := *h
			in.Env = hooks.Env(h)
			return n.start(ctx, plan.CompileCreateContainerHook(c.spec, c.root, &in, c.facts), n.engine.resources(Stdio{In: stdin, Out: output, Err: output}))
		})
	}
	return fmt.Errorf("no hooks.%s (this is a bug)", point)
}

// startHooks runs the startContainer hooks of a created container whose init waits at its gate.
func (n *insider) startHooks(ctx context.Context, spec *specs.Spec, r *store.Record, facts *plan.Facts) error {
	if spec.Hooks == nil || len(spec.Hooks.StartContainer) == 0 {
		return nil
	}
	pid, err := n.pidInside()
	if err != nil {
		return err
	}
	if err := n.open(ctx); err != nil {
		return err
	}
	defer n.entry.Close()
	return hooks.Run(ctx, "startContainer", spec.Hooks.StartContainer, ociState(r, specs.StateCreated, pid),
		func(h *specs.Hook, stdin, output *os.File) (hooks.Process, error) {
			p, err := plan.CompileStartContainerHook(spec, h, facts)
			if err != nil {
				return hooks.Process{}, err
			}
			p.SetHome(func() string { return homeIn(n.root(), spec.Process.User.UID) })
			res := n.engine.resources(Stdio{In: stdin, Out: output, Err: output})
			res.SendListener = sendListener(func(int) specs.State { return ociState(r, specs.StateCreated, n.initPid) })
			return n.start(ctx, p, res)
		})
}

// poststart runs the poststart hooks of a container that has just been started.
func (e *Engine) poststart(ctx context.Context, r *store.Record, list []specs.Hook) error {
	return hooks.Run(ctx, "poststart", list, ociState(r, specs.StateRunning, r.Pid), hooks.Here(r.Bundle, e.StartChild))
}

// poststop runs the poststop hooks that a record names, all of them.
func poststop(ctx context.Context, r *store.Record, start hooks.Starter) error {
	return hooks.RunAll(ctx, "poststop", r.Poststop, ociState(r, specs.StateStopped, 0), hooks.Here(r.Bundle, start))
}

// insider runs hooks in the namespaces and the cgroup of a container.
type insider struct{ target }

// start starts the process of a hook.
func (n *insider) start(ctx context.Context, p *plan.Plan, res *launch.Resources) (hooks.Process, error) {
	ch, err := n.launch(ctx, p, res)
	if err != nil {
		return hooks.Process{}, hookError(err)
	}
	var mu sync.Mutex
	ended := false // its pidfd may be another file by now
	return hooks.Process{
		Kill: func() {
			mu.Lock()
			defer mu.Unlock()
			if !ended {
				ch.Signal(unix.SIGKILL)
			}
		},
		Wait: func() error {
			status, err := ch.Wait()
			mu.Lock()
			defer mu.Unlock()
			ended = true
			ch.Close()
			switch {
			case err != nil:
				return err
			case status.Signaled():
				return fmt.Errorf("signal: %v", status.Signal())
			case status.ExitStatus() != 0:
				return fmt.Errorf("exit status %d", status.ExitStatus())
			}
			return nil
		},
	}, nil
}

// hookError is the failure to start a hook: it must not look like a failed step of the container's own plan.
func hookError(err error) error {
	var step *launch.StepError
	if !errors.As(err, &step) {
		return err
	}
	switch step.Action.(type) {
	case plan.FindExecutable, plan.Exec:
		return step.Err
	}
	return fmt.Errorf("%s: %w", step.What, step.Err)
}

// pidInside returns init's pid as its own pid namespace counts: what a hook in there can use.
func (n *insider) pidInside() (int, error) {
	name := "/proc/" + strconv.Itoa(n.initPid) + "/status"
	data, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if list, ok := strings.CutPrefix(line, "NSpid:"); ok {
			if pids := strings.Fields(list); len(pids) > 0 {
				return strconv.Atoi(pids[len(pids)-1])
			}
		}
	}
	return 0, fmt.Errorf("%s has no NSpid", name)
}
