package task

import (
	"time"

	"github.com/gosuda/gosudacon/internal/wire"
	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/events"
	api "github.com/gosuda/gosudacon/shim/internal/taskapi"
)

// onEvent is told by a container's driver of each step of its life, in order. Until Create has succeeded the steps are kept:
// a container that nobody has heard of has no events.
func (s *Service) onEvent(e engine.Event) {
	s.mu.Lock()
	t, pod := s.tasks[e.Container], s.pod
	s.mu.Unlock()
	if pod != nil && e.Container == pod.ID {
		pod.OnEvent(e)
		return
	}
	if t == nil {
		s.cfg.Log.Error("event of an unknown container: a bug of ours", "container", e.Container, "kind", e.Kind)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ready {
		t.backlog = append(t.backlog, e)
		return
	}
	s.publishLocked(t, e)
}

// publishLocked queues an event while it holds t.mu, which keeps the order. What was deleted is gone before anybody hears of
// it.
func (s *Service) publishLocked(t *task, e engine.Event) {
	switch e.Kind {
	case engine.Deleted:
		s.forget(t)
	case engine.ExecDeleted:
		delete(t.execs, e.Exec)
	}
	out, ok := translate(e, t.created)
	if !ok {
		s.cfg.Log.Error("event of an unknown kind: a bug of ours", "container", e.Container, "kind", e.Kind)
		return
	}
	if e.Kind == engine.Created {
		t.created = nil
	}
	out.At = time.Now()
	s.cfg.Publish(out)
}

// translate turns an event of the engine into one of containerd. created is the TaskCreate message but for its pid. The
// messages are containerd.events.* of containerd/api; the numbers are their fields.
func translate(e engine.Event, created []byte) (events.Event, bool) {
	b := wire.AppendString(nil, 1, e.Container)
	pid := uint64(e.Pid)
	switch e.Kind {
	case engine.Created:
		return events.Event{Topic: "/tasks/create", Type: "containerd.events.TaskCreate", Essential: true,
			Body: wire.AppendVarint(created, 6, pid)}, true
	case engine.Started:
		return events.Event{Topic: "/tasks/start", Type: "containerd.events.TaskStart", Essential: true,
			Body: wire.AppendVarint(b, 2, pid)}, true
	case engine.ExecAdded:
		return events.Event{Topic: "/tasks/exec-added", Type: "containerd.events.TaskExecAdded",
			Body: wire.AppendString(b, 2, e.Exec)}, true
	case engine.ExecStarted:
		b = wire.AppendString(b, 2, e.Exec)
		return events.Event{Topic: "/tasks/exec-started", Type: "containerd.events.TaskExecStarted",
			Body: wire.AppendVarint(b, 3, pid)}, true
	case engine.Exited:
		id := e.Exec
		if id == "" {
			id = e.Container
		}
		b = wire.AppendString(b, 2, id)
		b = wire.AppendVarint(b, 3, pid)
		b = wire.AppendVarint(b, 4, uint64(e.Exit.Status))
		return events.Event{Topic: "/tasks/exit", Type: "containerd.events.TaskExit", Essential: true,
			Body: wire.AppendMessage(b, 5, wire.Time(e.Exit.At))}, true
	case engine.Deleted, engine.ExecDeleted:
		b = wire.AppendVarint(b, 2, pid)
		b = wire.AppendVarint(b, 3, uint64(e.Exit.Status))
		b = wire.AppendMessage(b, 4, wire.Time(e.Exit.At))
		return events.Event{Topic: "/tasks/delete", Type: "containerd.events.TaskDelete", Essential: true,
			Body: wire.AppendString(b, 5, e.Exec)}, true
	case engine.OOM:
		return events.Event{Topic: "/tasks/oom", Type: "containerd.events.TaskOOM", Body: b}, true
	case engine.Paused:
		return events.Event{Topic: "/tasks/paused", Type: "containerd.events.TaskPaused", Body: b}, true
	case engine.Resumed:
		return events.Event{Topic: "/tasks/resumed", Type: "containerd.events.TaskResumed", Body: b}, true
	case engine.Checkpointed:
		return events.Event{Topic: "/tasks/checkpointed", Type: "containerd.events.TaskCheckpointed", Body: b}, true
	}
	return events.Event{}, false
}

// encodeCreate encodes the TaskCreate message of a request, but for the pid.
func encodeCreate(r *api.CreateTaskRequest) []byte {
	b := wire.AppendString(nil, 1, r.ID)
	b = wire.AppendString(b, 2, r.Bundle)
	for _, m := range r.Rootfs {
		b = wire.AppendMessage(b, 3, m.Encode())
	}
	b = wire.AppendMessage(b, 4, wire.Encode(r.Stdin, r.Stdout, r.Stderr, r.Terminal))
	return wire.AppendString(b, 5, r.Checkpoint)
}
