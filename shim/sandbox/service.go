// Package sandbox serves containerd's sandbox API: pods that need no pause container. The shim itself keeps what the containers of a
// pod share, and adds to their configs what CRI leaves to it.
package sandbox

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/gosuda/gosudacon/runtime/engine"
	api "github.com/gosuda/gosudacon/shim/internal/sandboxapi"
	"github.com/gosuda/gosudacon/shim/internal/taskapi"
	"github.com/gosuda/gosudacon/shim/rpc"
	"github.com/gosuda/gosudacon/shim/task"
)

// Service is the sandbox service. A shim has one sandbox at most: containerd starts a shim for each.
type Service struct {
	tasks *task.Service

	changing sync.Mutex // held by requests that make or remove the sandbox
	mu       sync.Mutex
	pod      *pod // from the beginning of CreateSandbox to the end of ShutdownSandbox
}

// New returns a service without a sandbox. The containers of its sandbox will be those of tasks.
func New(tasks *task.Service) *Service { return &Service{tasks: tasks} }

// Register makes srv answer the API, but for UpdateSandbox: there is nothing in a sandbox that could change, and containerd takes
// Unimplemented for an answer.
func (s *Service) Register(srv *rpc.Server) {
	srv.Register("containerd.runtime.sandbox.v1.Sandbox", rpc.Service{
		"CreateSandbox":   task.Method(s.Create),
		"StartSandbox":    task.Method(s.Start),
		"Platform":        task.Method(s.Platform),
		"StopSandbox":     task.Method(s.Stop),
		"WaitSandbox":     task.Method(s.Wait),
		"SandboxStatus":   task.Method(s.Status),
		"PingSandbox":     task.Method(s.Ping),
		"ShutdownSandbox": task.Method(s.Shutdown),
		"SandboxMetrics":  task.Method(s.Metrics),
	})
}

// Create makes what the containers of a pod share. After an error nothing is left of it.
func (s *Service) Create(_ context.Context, r *api.CreateSandboxRequest) (taskapi.Empty, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	p, err := newPod(r, s.tasks)
	if err != nil {
		return taskapi.Empty{}, err
	}
	if err := p.make(); err != nil {
		return taskapi.Empty{}, err
	}
	s.mu.Lock()
	s.pod = p
	s.mu.Unlock()
	return taskapi.Empty{}, nil
}

// Start makes the sandbox ready for containers.
func (s *Service) Start(ctx context.Context, r *api.SandboxRequest) (*api.StartSandboxResponse, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	p, err := s.find(r.ID)
	if err != nil {
		return nil, err
	}
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	st := p.status()
	return &api.StartSandboxResponse{Pid: uint32(st.pid), CreatedAt: st.createdAt}, nil
}

// Platform says for which images the sandbox is.
func (s *Service) Platform(_ context.Context, r *api.SandboxRequest) (*api.PlatformResponse, error) {
	if _, err := s.find(r.ID); err != nil {
		return nil, err
	}
	return &api.PlatformResponse{OS: runtime.GOOS, Architecture: runtime.GOARCH}, nil
}

// Stop ends everything in the sandbox. It is idempotent.
func (s *Service) Stop(ctx context.Context, r *api.StopSandboxRequest) (taskapi.Empty, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	p, err := s.find(r.ID)
	if err != nil {
		return taskapi.Empty{}, err
	}
	if r.TimeoutSecs > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.TimeoutSecs)*time.Second)
		defer cancel()
	}
	return taskapi.Empty{}, p.stop(ctx)
}

// Wait waits for the end of the sandbox.
func (s *Service) Wait(ctx context.Context, r *api.SandboxRequest) (*api.WaitSandboxResponse, error) {
	p, err := s.find(r.ID)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	st := p.status()
	return &api.WaitSandboxResponse{ExitStatus: uint32(st.exit), ExitedAt: st.exitedAt}, nil
}

// Status tells the state of the sandbox.
func (s *Service) Status(_ context.Context, r *api.SandboxStatusRequest) (*api.SandboxStatusResponse, error) {
	p, err := s.find(r.ID)
	if err != nil {
		return nil, err
	}
	st := p.status()
	answer := &api.SandboxStatusResponse{ID: p.id, Pid: uint32(st.pid), State: api.NotReady, CreatedAt: st.createdAt, ExitedAt: st.exitedAt}
	if st.ready {
		answer.State = api.Ready
	}
	if r.Verbose {
		text, err := p.info(st)
		if err != nil {
			return nil, err
		}
		answer.Info = map[string]string{"info": text}
	}
	return answer, nil
}

// Ping answers when the sandbox is there.
func (s *Service) Ping(_ context.Context, r *api.SandboxRequest) (taskapi.Empty, error) {
	_, err := s.find(r.ID)
	return taskapi.Empty{}, err
}

// Metrics returns the figures of the pod's cgroup, which is the parent of its containers'.
func (s *Service) Metrics(_ context.Context, r *api.SandboxRequest) (*api.SandboxMetricsResponse, error) {
	p, err := s.find(r.ID)
	if err != nil {
		return nil, err
	}
	if p.figures == nil {
		return nil, refuse(engine.NotFound, "sandbox %s has no cgroup: linux.cgroup_parent is empty", p.id)
	}
	stats, err := p.figures.Stats()
	if err != nil {
		return nil, err
	}
	data, err := task.EncodeStats(stats)
	if err != nil {
		return nil, err
	}
	return &api.SandboxMetricsResponse{At: time.Now(), ID: p.id, Data: data}, nil
}

// Shutdown removes the sandbox, and ends the shim once no container is left to be deleted. containerd asks for it also when there is
// no sandbox, because CreateSandbox has failed.
func (s *Service) Shutdown(ctx context.Context, r *api.SandboxRequest) (taskapi.Empty, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if p, err := s.find(r.ID); err == nil {
		if err := p.stop(ctx); err != nil {
			return taskapi.Empty{}, err
		}
		s.mu.Lock()
		s.pod = nil
		s.mu.Unlock()
	}
	go s.leave(rpc.Gone(ctx))
	return taskapi.Empty{}, nil
}

// leavePatience is how long a client that has had its answer may stay connected.
const leavePatience = time.Second

// leave lets the shim end once the client is gone: containerd's takes an answer that is followed by the end of the connection for none,
// every now and then, and RemovePodSandbox would fail (the client of ttrpc 1.2 chooses between the two at random).
func (s *Service) leave(gone <-chan struct{}) {
	select {
	case <-gone:
	case <-time.After(leavePatience):
	}
	s.tasks.Leave()
}

func (s *Service) find(id string) (*pod, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pod == nil || s.pod.id != id {
		return nil, refuse(engine.NotFound, "sandbox %s", id)
	}
	return s.pod, nil
}

func refuse(kind engine.Kind, format string, args ...any) error {
	return &engine.Error{Kind: kind, Msg: fmt.Sprintf(format, args...)}
}
