package shimdrive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	apitask "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestLife(t *testing.T) {
	for name, start := range map[string]func(*Host, context.Context, Binary, *Bundle) (*Shim, error){"bootstrap protocol": (*Host).Start, "legacy": (*Host).StartLegacy} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t)
			id, spec := s.spec(t, "sh", "-c", "exit 5")
			b := s.bundle(t, id, config(t, spec))
			shim, err := start(s.Host, t.Context(), s.binary, b)
			if err != nil {
				t.Fatal(err)
			}
			created, err := create(t, shim, b)
			if err != nil {
				t.Fatal(err)
			}
			state, err := shim.Task.State(t.Context(), &taskapi.StateRequest{ID: id})
			if err != nil || state.Status != apitask.Status_CREATED || state.Pid != created.Pid {
				t.Errorf("state: %v, %v", state, err)
			}
			if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
				t.Fatal(err)
			}
			exit, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: id})
			if err != nil || exit.ExitStatus != 5 {
				t.Errorf("wait: %v, %v", exit, err)
			}
			deleted, err := shim.Task.Delete(t.Context(), &taskapi.DeleteRequest{ID: id})
			if err != nil || deleted.ExitStatus != 5 || deleted.Pid != created.Pid {
				t.Errorf("delete: %v, %v", deleted, err)
			}
			if err := shim.Shutdown(t.Context(), id); err != nil {
				t.Error(err)
			}
			if _, err := s.Delete(t.Context(), s.binary, b); err != nil {
				t.Error(err)
			}
			s.reapAll(t)
			want := []string{"/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"}
			if got := s.Topics(); !slices.Equal(got, want) {
				t.Errorf("events: %q", got)
			}
		})
	}
}

// TestCreated: what may be asked of a container that nobody has started.
func TestCreated(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "sh", "-c", "touch /ran; exit 3")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	created, err := create(t, shim, b)
	if err != nil {
		t.Fatal(err)
	}
	// A stray SIGCONT starts nothing.
	if err := unix.Kill(int(created.Pid), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	process, err := json.Marshal(&specs.Process{Args: []string{"sh", "-c", "test ! -e /ran"}, Env: []string{"PATH=/bin"}, Cwd: "/"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Exec(t.Context(), &taskapi.ExecProcessRequest{ID: id, ExecID: "e", Spec: &anypb.Any{Value: process}}); err != nil {
		t.Fatalf("exec: %v", err)
	}
	if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id, ExecID: "e"}); err != nil {
		t.Fatalf("start exec: %v", err)
	}
	exit, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: id, ExecID: "e"})
	if err != nil || exit.ExitStatus != 0 {
		t.Errorf("exec in created: %v, %v", exit, err)
	}
	if _, err := shim.Task.Delete(t.Context(), &taskapi.DeleteRequest{ID: id, ExecID: "e"}); err != nil {
		t.Errorf("delete exec: %v", err)
	}
	if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
		t.Fatalf("start: %v", err)
	}
	if exit, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: id}); err != nil || exit.ExitStatus != 3 {
		t.Errorf("wait: %v, %v", exit, err)
	}
	_, err = shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id})
	refused(t, err, nil)
	_, err = shim.Task.Kill(t.Context(), &taskapi.KillRequest{ID: id, Signal: 9})
	refused(t, err, errdefs.ErrNotFound, "process already finished")
}

func TestDeleteOfCreated(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "true")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	created, err := create(t, shim, b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Delete(t.Context(), &taskapi.DeleteRequest{ID: id}); err != nil {
		t.Fatalf("delete: %v", err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", created.Pid)); err == nil {
		t.Error("init is still there")
	}
}

// TestUnknown: requests about what is not there.
func TestUnknown(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "sleep", "1000")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	ctx := t.Context()
	if r, err := shim.Task.Connect(ctx, &taskapi.ConnectRequest{ID: id}); err != nil || r.ShimPid == 0 || r.TaskPid != 0 {
		t.Errorf("connect before create: %v, %v", r, err)
	}
	_, err := shim.Task.State(ctx, &taskapi.StateRequest{ID: id})
	refused(t, err, errdefs.ErrNotFound, "container not created")
	_, err = shim.Task.Pids(ctx, &taskapi.PidsRequest{ID: "other"})
	refused(t, err, errdefs.ErrNotFound)
	if _, err := create(t, shim, b); err != nil {
		t.Fatal(err)
	}
	_, err = shim.Task.State(ctx, &taskapi.StateRequest{ID: id, ExecID: "none"})
	refused(t, err, errdefs.ErrNotFound, "none")
	_, err = shim.Task.Checkpoint(ctx, &taskapi.CheckpointTaskRequest{ID: id, Path: "/nowhere"})
	refused(t, err, nil)
	if _, err := shim.Task.ResizePty(ctx, &taskapi.ResizePtyRequest{ID: id, Width: 80, Height: 24}); err != nil {
		t.Errorf("resize without a terminal: %v", err)
	}
	if _, err := shim.Task.CloseIO(ctx, &taskapi.CloseIORequest{ID: id, Stdin: true}); err != nil {
		t.Errorf("close stdin without one: %v", err)
	}
	if _, err := shim.Task.Shutdown(ctx, &taskapi.ShutdownRequest{ID: id}); err != nil {
		t.Errorf("shutdown with a task: %v", err)
	}
	if _, err := shim.Task.State(ctx, &taskapi.StateRequest{ID: id}); err != nil {
		t.Errorf("state after it: %v", err)
	}
}

// TestVerbs: what containerd and people execute besides.
func TestVerbs(t *testing.T) {
	s := newSetup(t)
	out, err := exec.Command(s.binary.Path, "-v").CombinedOutput()
	if err != nil || len(out) == 0 {
		t.Errorf("-v: %v %s", err, out)
	}
	cmd := exec.Command(s.binary.Path, "-info")
	cmd.Stdin = strings.NewReader("")
	if out, err = cmd.Output(); err != nil || !strings.Contains(string(out), "rro") {
		t.Errorf("-info: %v %q", err, out)
	}
	if out, err := exec.Command(s.binary.Path, "-no-such-flag").CombinedOutput(); err == nil {
		t.Errorf("an unknown flag is accepted: %s", out)
	}
}

// TestStartHoldsNothing: containerd waits for the end of both output streams of the start verb, so the shim must not hold them.
func TestStartHoldsNothing(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "true")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	r, err := shim.Task.Connect(t.Context(), &taskapi.ConnectRequest{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	for fd := range 3 {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", r.ShimPid, fd))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(link, "pipe:") {
			t.Errorf("descriptor %d of the shim is %s", fd, link)
		}
	}
}

// TestStartHandsDown: what start changed of itself, to be quick, is not the shim's.
func TestStartHandsDown(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "true")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	r, err := shim.Task.Connect(t.Context(), &taskapi.ConnectRequest{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", r.ShimPid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads of the shim: %v %v", threads, err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile("/proc/" + filepath.Base(thread) + "/timerslack_ns")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil || string(text) != "50000\n" {
			t.Errorf("timer slack of thread %s: %q, %v", filepath.Base(thread), text, err)
		}
	}
}
