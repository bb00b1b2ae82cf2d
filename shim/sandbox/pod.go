package sandbox

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/config"
	api "github.com/gosuda/gosudacon/shim/internal/sandboxapi"
	"github.com/gosuda/gosudacon/shim/task"
)

// pod is one sandbox.
//
// The containers of a pod find its namespaces by the process id that StartSandbox answers: CRI writes /proc/PID/ns/TYPE into their
// configs. It is that of a thread of the shim or, in a pod whose containers share their process ids, that of their first process.
type pod struct {
	id, bundle, netns string
	config            api.PodSandboxConfig
	options           config.Options
	tasks             *task.Service
	files             files

	engine  *engine.Engine
	held    *engine.Held    // nil when given up
	tid     int             // the thread's that has the namespaces
	user    string          // the path of the user namespace that owns them; "" when this process's does
	figures *engine.Figures // nil without a cgroup

	first first // of the pod's process ids

	ended chan struct{} // closed with the end of being ready, or of what never was
	mu    sync.Mutex
	state state
}

// state is what there is to tell of a pod.
type state struct {
	ready               bool
	over                bool
	pid                 int // 0 unless ready
	exit                int
	createdAt, exitedAt time.Time
}

func (p *pod) status() state {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// newPod checks a request, without making anything.
func newPod(r *api.CreateSandboxRequest, tasks *task.Service) (*pod, error) {
	p := &pod{id: r.ID, bundle: r.Bundle, netns: r.Netns, tasks: tasks, ended: make(chan struct{})}
	if !filepath.IsAbs(r.Bundle) {
		return nil, refuse(engine.InvalidArgument, "sandbox %s: bundle %q is not an absolute path", r.ID, r.Bundle)
	}
	if len(r.Rootfs) > 0 {
		return nil, refuse(engine.InvalidArgument, "sandbox %s: rootfs: it has no container of its own", r.ID)
	}
	if r.Options.TypeURL != "" {
		if name := r.Options.Name(); name != api.PodSandboxConfigName {
			return nil, refuse(engine.InvalidArgument, "sandbox %s: options are a %s, not a %s", r.ID, name, api.PodSandboxConfigName)
		}
		if err := p.config.Decode(r.Options.Value); err != nil {
			return nil, refuse(engine.InvalidArgument, "sandbox %s: decode options: %v", r.ID, err)
		}
	}
	if err := p.checkNamespaces(); err != nil {
		return nil, err
	}
	var err error
	if p.options, err = config.ReadBundle(r.Bundle); err != nil {
		return nil, err
	}
	p.files = filesIn(r.Bundle)
	return p, nil
}

// make makes namespaces and files.
func (p *pod) make() (err error) {
	p.engine, err = p.tasks.Enter(&task.Pod{ID: p.id, Edit: p.edit, OnEvent: p.onEvent}, p.options)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.release(context.Background()))
			p.tasks.Withdraw()
		}
	}()
	if parent := p.config.Linux.CgroupParent; parent != "" {
		if p.figures, err = p.engine.Figures(parent); err != nil {
			return fmt.Errorf("linux.cgroup_parent: %w", err)
		}
	}
	if p.held, err = p.engine.Hold(p.holdRequest()); err != nil {
		return err
	}
	p.tid, p.user = p.held.TID(), p.held.UserPath()
	uid, gid := p.rootIDs()
	return p.files.make(&p.config, uid, gid)
}

// start makes the pod ready.
func (p *pod) start(ctx context.Context) error {
	if st := p.status(); st.ready || st.over {
		return refuse(engine.FailedPrecondition, "sandbox %s was started already", p.id)
	}
	pid := p.tid
	if p.config.Linux.Security.Namespaces.Pid == api.ModePod {
		var err error
		if pid, err = p.first.start(ctx, p); err != nil {
			return err
		}
		p.held.Close() // the process is in the namespaces
		p.held = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.over {
		return refuse(engine.FailedPrecondition, "sandbox %s: its first process has ended", p.id)
	}
	p.state.ready, p.state.pid, p.state.createdAt = true, pid, time.Now()
	return nil
}

// stop ends what runs in the pod and gives up what it holds. After an error it can be called again.
func (p *pod) stop(ctx context.Context) error {
	p.end(0)
	if err := p.tasks.End(ctx); err != nil {
		return err
	}
	return p.release(ctx)
}

// release gives up what make and start have made.
func (p *pod) release(ctx context.Context) error {
	if err := p.first.stop(ctx, p.bundle); err != nil {
		return err
	}
	if p.held != nil {
		p.held.Close()
		p.held = nil
	}
	if p.figures != nil {
		p.figures.Close()
	}
	return p.files.remove()
}

// end makes the pod one that no container can join any more. The first reason counts.
func (p *pod) end(exit int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.over {
		return
	}
	p.state.ready, p.state.over, p.state.pid = false, true, 0
	p.state.exit, p.state.exitedAt = exit, time.Now()
	close(p.ended)
}

// onEvent is told of the first process.
func (p *pod) onEvent(e engine.Event) {
	if e.Kind == engine.Exited {
		p.end(e.Exit.Status)
	}
}
