// Package task serves containerd's task API, versions 2 and 3, with the containers of the engine.
package task

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/gosuda/gosudacon/internal/wire"
	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/config"
	"github.com/gosuda/gosudacon/shim/events"
	api "github.com/gosuda/gosudacon/shim/internal/taskapi"
	"github.com/gosuda/gosudacon/shim/rpc"
)

// Config is what a Service needs from the process around it.
type Config struct {
	// Namespace is the containerd namespace of all containers.
	Namespace string
	// Publish queues an event for containerd. It must not wait.
	Publish func(events.Event)
	// Shutdown is called once, when containerd asks for the end and nothing is left. The answer to that request has not
	// been written yet: leave through rpc.Server.Shutdown, which lets it finish.
	Shutdown func()
	// LeaveOrphans stops the service from adopting and reaping what the containers orphan. A process with several services,
	// such as a test, sets it: one would reap the children of another.
	LeaveOrphans bool
	// Log is told what no caller asked for; nil discards that.
	Log *slog.Logger
}

// Service is the task service. Its requests run concurrently; what one container does to another's is nothing.
type Service struct {
	cfg   Config
	drain time.Duration // drainTimeout

	// prepared is an engine at the default state root. It is made, once, while containerd still gets ready to ask for the
	// first container: probing the host takes a millisecond.
	prepared func() (*engine.Engine, error)

	mu     sync.Mutex
	engine *engine.Engine   // since the first Create
	root   string           // the engine's state root
	tasks  map[string]*task // from the beginning of Create to the Deleted event
	ending int              // Deletes under way, which go on when the task is gone already
	closed bool             // Shutdown was called
	leave  bool             // Shutdown was asked for while a task was being created
	pod    *Pod             // between Enter and Leave
}

// New returns a service without containers.
func New(cfg Config) *Service {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, drain: drainTimeout, tasks: make(map[string]*task)}
	s.prepared = sync.OnceValues(func() (*engine.Engine, error) { return s.makeEngine(s.defaultRoot()) })
	go s.prepared()
	return s
}

func (s *Service) defaultRoot() string { return config.Options{}.StateRoot(s.cfg.Namespace) }

func (s *Service) makeEngine(root string) (*engine.Engine, error) {
	return engine.New(engine.Options{Root: root, OnEvent: s.onEvent, Log: s.cfg.Log})
}

func (s *Service) newEngine(root string) (*engine.Engine, error) {
	if root == s.defaultRoot() {
		return s.prepared()
	}
	return s.makeEngine(root)
}

// Register makes srv answer both versions of the API. Their messages are the same but for the name of the package, so that
// one set of types decodes both.
func (s *Service) Register(srv *rpc.Server) {
	methods := rpc.Service{
		"Create":     Method(s.Create),
		"State":      Method(s.State),
		"Start":      Method(s.Start),
		"Delete":     Method(s.Delete),
		"Pids":       Method(s.Pids),
		"Pause":      action(s.Pause),
		"Resume":     action(s.Resume),
		"Checkpoint": action(s.Checkpoint),
		"Kill":       action(s.Kill),
		"Exec":       action(s.Exec),
		"ResizePty":  action(s.ResizePty),
		"CloseIO":    action(s.CloseIO),
		"Update":     action(s.Update),
		"Wait":       Method(s.Wait),
		"Stats":      Method(s.Stats),
		"Connect":    Method(s.Connect),
		"Shutdown":   action(s.Shutdown),
	}
	srv.Register("containerd.task.v3.Task", methods)
	srv.Register("containerd.task.v2.Task", methods)
}

// message is a pointer to a request that can be decoded.
type message[T any] interface {
	*T
	wire.Decoder
}

// Method adapts a handler to the server: errors of the engine become those that containerd knows.
func Method[T any, Request message[T], Response interface{ Encode() []byte }](handle func(context.Context, Request) (Response, error)) rpc.Method {
	return func(ctx context.Context, b []byte) ([]byte, error) {
		r := Request(new(T))
		if err := r.Decode(b); err != nil {
			return nil, &rpc.Error{Code: rpc.InvalidArgument, Message: "decode request: " + err.Error()}
		}
		answer, err := handle(ctx, r)
		if err != nil {
			return nil, statusOf(err)
		}
		return answer.Encode(), nil
	}
}

// action adapts a handler that answers google.protobuf.Empty.
func action[T any, Request message[T]](handle func(context.Context, Request) error) rpc.Method {
	return Method(func(ctx context.Context, r Request) (api.Empty, error) { return api.Empty{}, handle(ctx, r) })
}

// Connect says who serves. It knows no error: after a restart containerd asks also for what this shim has never heard of.
func (s *Service) Connect(_ context.Context, r *api.ContainerRequest) (*api.ConnectResponse, error) {
	answer := &api.ConnectResponse{ShimPid: uint32(os.Getpid())}
	if t, err := s.task(r.ID); err == nil {
		answer.TaskPid = uint32(t.container.Pid())
	}
	return answer, nil
}

// Shutdown ends the shim if nothing is left, no pod either, and does nothing otherwise: containerd asks after every Delete. A task that is
// being created may be one whose client has given up; nobody asks again for that one.
func (s *Service) Shutdown(context.Context, *api.ContainerRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave = true
	s.leaveLocked()
	return nil
}

func (s *Service) leaveLocked() {
	if s.leave && len(s.tasks) == 0 && s.ending == 0 && s.pod == nil && !s.closed {
		s.closed = true
		s.cfg.Shutdown()
	}
}

// keep forgets an earlier Shutdown: there is a new task, after whose Delete containerd asks again.
func (s *Service) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave = false
}

// settle waits for the end of a Create that is under way: a client that gave up deletes what it no longer waits for.
func (s *Service) settle(ctx context.Context, id string) error {
	s.mu.Lock()
	t := s.tasks[id]
	s.mu.Unlock()
	if t == nil {
		return nil
	}
	select {
	case <-t.settled:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// task returns a created task.
func (s *Service) task(id string) (*task, error) {
	s.mu.Lock()
	t := s.tasks[id]
	s.mu.Unlock()
	if t == nil || !t.isReady() {
		return nil, refuse(engine.NotFound, "container not created")
	}
	return t, nil
}

// reserve makes t's id taken.
func (s *Service) reserve(t *task) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return refuse(engine.FailedPrecondition, "shim is shutting down")
	}
	if _, taken := s.tasks[t.id]; taken {
		return refuse(engine.AlreadyExists, fmt.Sprintf("container %s", t.id))
	}
	s.tasks[t.id] = t
	return nil
}

func (s *Service) forget(t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tasks, t.id)
}

// abandon forgets a task whose Create has failed.
func (s *Service) abandon(t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tasks, t.id)
	s.leaveLocked()
}

// engineAt returns the engine, which the first container makes. Its state root comes with the runtime options, so that all
// containers of a shim must agree on that one.
func (s *Service) engineAt(root string) (*engine.Engine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine != nil {
		if root != s.root {
			return nil, refuse(engine.InvalidArgument, fmt.Sprintf("runtime option Root: this shim keeps its state in %s, not in %s", s.root, root))
		}
		return s.engine, nil
	}
	e, err := s.newEngine(root)
	if err != nil {
		return nil, err
	}
	if !s.cfg.LeaveOrphans {
		if err := e.Reap(); err != nil {
			return nil, err
		}
	}
	s.engine, s.root = e, root
	return e, nil
}
