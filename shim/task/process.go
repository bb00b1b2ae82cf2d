package task

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/internal/wire"
	"github.com/gosuda/gosudacon/runtime/engine"
	api "github.com/gosuda/gosudacon/shim/internal/taskapi"
	"github.com/gosuda/gosudacon/shim/stdio"
)

// drainTimeout is how long Delete waits for output that somebody still holds, such as a child of an exec that outlives it.
const drainTimeout = 10 * time.Second

// find returns a task and its init ("") or exec.
func (s *Service) find(id, exec string) (*task, *process, error) {
	t, err := s.task(id)
	if err != nil {
		return nil, nil, err
	}
	p, err := t.process(exec)
	if err != nil {
		return nil, nil, err
	}
	return t, p, nil
}

// Start runs init, or an exec that Exec has added.
func (s *Service) Start(ctx context.Context, r *api.ProcessRequest) (*api.PidResponse, error) {
	t, p, err := s.find(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if p != t.init {
		pid, err := s.startExec(ctx, t, p)
		return &api.PidResponse{Pid: uint32(pid)}, err
	}
	if err := t.container.Start(ctx); err != nil {
		return nil, ofRuntime("OCI runtime start failed", err)
	}
	// A terminal that is there since Create was attached then; that of a restored process is here now.
	if master := t.container.TakeConsole(); master != nil {
		if err := p.io.Load().AttachConsole(master); err != nil {
			return nil, err // it runs, and is the caller's to kill and delete
		}
	}
	return &api.PidResponse{Pid: uint32(t.container.Pid())}, nil
}

func (s *Service) startExec(ctx context.Context, t *task, p *process) (pid int, err error) {
	p.starting.Lock()
	defer p.starting.Unlock()
	state, err := t.container.State(p.exec)
	if err != nil {
		return 0, err
	}
	if state.Status != engine.StatusCreated { // before another logger is started
		return 0, refuse(engine.FailedPrecondition, fmt.Sprintf("cannot start a %s process", state.Status))
	}
	o, err := stdio.Open(ctx, p.config(t, &s.cfg))
	if err != nil {
		return 0, err
	}
	pid, master, err := t.container.StartExec(ctx, p.exec, ends(o))
	if err != nil {
		o.Close()
		return 0, ofRuntime("OCI runtime exec failed: exec failed", err)
	}
	o.CloseContainerEnds()
	p.attach(o)
	if p.terminal {
		if err := o.AttachConsole(master); err != nil {
			return 0, err // it runs, and is the caller's to kill and delete
		}
	}
	return pid, nil
}

// Exec adds a process, which Start runs.
func (s *Service) Exec(ctx context.Context, r *api.ExecProcessRequest) error {
	t, err := s.task(r.ID)
	if err != nil {
		return err
	}
	var spec specs.Process
	if err := engine.Decode(r.Spec.Value, &spec); err != nil {
		return refuse(engine.InvalidArgument, fmt.Sprintf("decode process of exec %s: %v", r.ExecID, err))
	}
	if r.ExecID == "" {
		return refuse(engine.InvalidArgument, "exec id is empty")
	}
	spec.Terminal = r.Terminal
	p := &process{exec: r.ExecID, stdin: r.Stdin, stdout: r.Stdout, stderr: r.Stderr, terminal: r.Terminal}
	if err := t.addExec(p); err != nil {
		return err
	}
	if err := t.container.AddExec(ctx, engine.ExecRequest{ID: r.ExecID, Process: &spec}); err != nil {
		t.removeExec(r.ExecID)
		return err
	}
	return nil
}

// Delete removes a container that has ended or never started, or an exec. It returns when all output has been delivered, or
// drainTimeout has passed.
func (s *Service) Delete(ctx context.Context, r *api.ProcessRequest) (*api.DeleteResponse, error) {
	s.mu.Lock()
	s.ending++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.ending--
		s.mu.Unlock()
	}()

	if err := s.settle(ctx, r.ID); err != nil {
		return nil, err
	}
	t, p, err := s.find(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	// What is begun is finished, even if the client is gone, as when containerd restarts: half a Delete helps nobody, and the
	// rest of the output belongs into the log all the same.
	ctx = context.WithoutCancel(ctx)
	var exit engine.Exit
	if p == t.init {
		exit, err = t.container.Delete(ctx)
	} else {
		exit, err = t.container.DeleteExec(ctx, p.exec)
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.drain)
	defer cancel()
	s.finish(ctx, t, p)
	if p == t.init {
		for _, exec := range t.takeExecs() {
			s.finish(ctx, t, exec)
		}
	}
	return &api.DeleteResponse{Pid: uint32(exit.Pid), ExitStatus: uint32(exit.Status), ExitedAt: exit.At}, nil
}

// finish delivers the rest of a process's output and closes its stdio.
func (s *Service) finish(ctx context.Context, t *task, p *process) {
	o := p.io.Load()
	if o == nil {
		return
	}
	if err := o.Drain(ctx); err != nil {
		s.cfg.Log.Warn("output may be lost", "container", t.id, "exec", p.exec, "error", err)
	}
	o.Close()
}

// Kill sends a signal to a process, or to all of the container.
func (s *Service) Kill(ctx context.Context, r *api.KillRequest) error {
	if err := s.settle(ctx, r.ID); err != nil {
		return err
	}
	t, p, err := s.find(r.ID, r.ExecID)
	if err != nil {
		return err
	}
	return t.container.Kill(ctx, p.exec, r.Signal, r.All)
}

// settleTime bounds how long the answer to Wait is held back for a client that is slow to read the output: ctr and nerdctl close
// their ends of the FIFOs when the answer comes, read or not.
const settleTime = time.Second

// Wait returns when the process has ended, at once if it has already.
func (s *Service) Wait(ctx context.Context, r *api.ProcessRequest) (*api.WaitResponse, error) {
	t, p, err := s.find(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	exit, err := t.container.Wait(ctx, p.exec)
	if err != nil {
		return nil, err
	}
	if o := p.io.Load(); o != nil {
		ctx, cancel := context.WithTimeout(ctx, settleTime)
		defer cancel()
		o.Settle(ctx)
	}
	return &api.WaitResponse{ExitStatus: uint32(exit.Status), ExitedAt: exit.At}, nil
}

// statusWord translates the engine's word. `creating` is never seen: there is no task before Create has succeeded.
func statusWord(s engine.Status) api.Status {
	switch s {
	case engine.StatusCreated:
		return api.StatusCreated
	case engine.StatusRunning:
		return api.StatusRunning
	case engine.StatusPausing:
		return api.StatusPausing
	case engine.StatusPaused:
		return api.StatusPaused
	case engine.StatusStopped:
		return api.StatusStopped
	}
	return api.StatusUnknown
}

// State returns the state of a process. It waits for nothing: containerd gives it two seconds.
func (s *Service) State(_ context.Context, r *api.ProcessRequest) (*api.StateResponse, error) {
	t, p, err := s.find(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	state, err := t.container.State(p.exec)
	if err != nil {
		return nil, err
	}
	id := t.id
	if p != t.init {
		id = p.exec // and no exec_id: what clients know from containerd-shim-runc-v2
	}
	return &api.StateResponse{
		ID:         id,
		Bundle:     t.bundle,
		Pid:        uint32(state.Pid),
		Status:     statusWord(state.Status),
		Stdin:      p.stdin,
		Stdout:     p.stdout,
		Stderr:     p.stderr,
		Terminal:   p.terminal,
		ExitStatus: uint32(state.Exit.Status),
		ExitedAt:   state.Exit.At,
	}, nil
}

// Pids lists the processes of a container; those of execs carry their exec's id.
//
// A container that has ended lists its init, as State does. When containerd starts again it removes, with the exit code that somebody
// still waits for, a task that lists nothing, and containerd 1.7 also one that answers with an error.
func (s *Service) Pids(_ context.Context, r *api.ContainerRequest) (*api.PidsResponse, error) {
	t, err := s.task(r.ID)
	if err != nil {
		return nil, err
	}
	list, err := t.container.Pids()
	if err != nil {
		init, stateErr := t.container.State("")
		if stateErr != nil || init.Status != engine.StatusStopped {
			return nil, err
		}
		list = []engine.ProcessInfo{{Pid: init.Pid}}
	}
	answer := &api.PidsResponse{Processes: make([]api.ProcessInfo, len(list))}
	for i, p := range list {
		answer.Processes[i] = api.ProcessInfo{Pid: uint32(p.Pid)}
		if p.Exec != "" {
			answer.Processes[i].Info = &wire.Any{
				TypeURL: "containerd.runc.v1.ProcessDetails",
				Value:   wire.AppendString(nil, 1, p.Exec),
			}
		}
	}
	return answer, nil
}

// ResizePty sets the size of a process's terminal. Without one it does nothing.
func (s *Service) ResizePty(_ context.Context, r *api.ResizePtyRequest) error {
	t, p, err := s.find(r.ID, r.ExecID)
	if err != nil {
		return err
	}
	o := p.io.Load()
	if !p.terminal || o == nil {
		return nil
	}
	state, err := t.container.State(p.exec)
	if err != nil {
		return err
	}
	if state.Status == engine.StatusStopped {
		return refuse(engine.FailedPrecondition, "cannot resize a stopped container")
	}
	return o.Resize(uint16(r.Width), uint16(r.Height))
}

// CloseIO ends a process's stdin as far as the shim holds it. Without stdin, and again, it does nothing.
func (s *Service) CloseIO(_ context.Context, r *api.CloseIORequest) error {
	_, p, err := s.find(r.ID, r.ExecID)
	if err != nil {
		return err
	}
	p.closeStdin()
	return nil
}
