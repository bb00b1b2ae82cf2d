package shimdrive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	apitask "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// TestShimKilled kills the shim at several points; the delete verb must end and remove what is there.
func TestShimKilled(t *testing.T) {
	for _, at := range []string{"before create", "created", "running", "paused", "stopped"} {
		t.Run(at, func(t *testing.T) {
			s := newSetup(t)
			script, status := "sleep 1000 & sleep 1000", uint32(137)
			if at == "stopped" {
				script, status = "exit 6", 6
			}
			id, spec := s.spec(t, "sh", "-c", script)
			b := s.bundle(t, id, config(t, spec))
			shim, err := s.Start(t.Context(), s.binary, b)
			if err != nil {
				t.Fatal(err)
			}
			r, err := shim.Task.Connect(t.Context(), &taskapi.ConnectRequest{ID: id})
			if err != nil {
				t.Fatal(err)
			}
			var pid uint32
			if at != "before create" {
				created, err := create(t, shim, b)
				if err != nil {
					t.Fatal(err)
				}
				pid = created.Pid
			}
			if at == "running" || at == "paused" || at == "stopped" {
				if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
					t.Fatal(err)
				}
			}
			if at == "paused" {
				if _, err := shim.Task.Pause(t.Context(), &taskapi.PauseRequest{ID: id}); err != nil {
					t.Fatal(err)
				}
			}
			if at == "stopped" {
				if _, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: id}); err != nil {
					t.Fatal(err)
				}
			}
			if err := unix.Kill(int(r.ShimPid), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			shim.Close()
			if err := Reap(int(r.ShimPid)); err != nil { // it is as dead as containerd finds it
				t.Fatal(err)
			}
			answer, err := s.Delete(t.Context(), s.binary, b)
			if err != nil {
				t.Fatal(err)
			}
			if answer.Pid != pid || answer.ExitStatus != status {
				t.Errorf("delete verb: pid %d status %d, want %d and %d", answer.Pid, answer.ExitStatus, pid, status)
			}
			if _, err := s.Delete(t.Context(), s.binary, b); err != nil {
				t.Errorf("delete verb again: %v", err)
			}
		})
	}
}

// TestShimKilledDuring kills the shim at moments all over a request; wherever it was, the delete verb leaves nothing and tells the truth.
func TestShimKilledDuring(t *testing.T) {
	for _, test := range []struct {
		request string
		script  string
		step    time.Duration // between the moments
		status  []uint32      // what may be told
		before  func(*testing.T, *Shim, *Bundle)
		during  func(context.Context, *Shim, *Bundle) error
	}{
		{"create", "sleep 1000", 600 * time.Microsecond, []uint32{137}, nil, func(ctx context.Context, shim *Shim, b *Bundle) error {
			_, err := shim.Task.Create(ctx, &taskapi.CreateTaskRequest{ID: b.ID, Bundle: b.Path})
			return err
		}},
		{"start", "exit 6", 150 * time.Microsecond, []uint32{137, 6}, mustCreate, startInit},
		{"exec", "sleep 1000", 300 * time.Microsecond, []uint32{137}, mustStart, func(ctx context.Context, shim *Shim, b *Bundle) error {
			process := &anypb.Any{Value: []byte(`{"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"]}`)}
			if _, err := shim.Task.Exec(ctx, &taskapi.ExecProcessRequest{ID: b.ID, ExecID: "e", Spec: process}); err != nil {
				return err
			}
			_, err := shim.Task.Start(ctx, &taskapi.StartRequest{ID: b.ID, ExecID: "e"})
			return err
		}},
		{"pause", "sleep 1000 & sleep 1000", 100 * time.Microsecond, []uint32{137}, mustStart, func(ctx context.Context, shim *Shim, b *Bundle) error {
			_, err := shim.Task.Pause(ctx, &taskapi.PauseRequest{ID: b.ID})
			return err
		}},
		{"resume", "sleep 1000 & sleep 1000", 100 * time.Microsecond, []uint32{137}, mustPause, func(ctx context.Context, shim *Shim, b *Bundle) error {
			_, err := shim.Task.Resume(ctx, &taskapi.ResumeRequest{ID: b.ID})
			return err
		}},
		// The record goes last: until then there is the exit to tell.
		{"delete", "sleep 1000 & exit 6", 500 * time.Microsecond, []uint32{6}, mustEnd, func(ctx context.Context, shim *Shim, b *Bundle) error {
			_, err := shim.Task.Delete(ctx, &taskapi.DeleteRequest{ID: b.ID})
			return err
		}},
	} {
		t.Run(test.request, func(t *testing.T) {
			for i := range 16 {
				s := newSetup(t)
				id, spec := s.spec(t, "sh", "-c", test.script)
				b := s.bundle(t, id, config(t, spec))
				shim, err := s.Start(t.Context(), s.binary, b)
				if err != nil {
					t.Fatal(err)
				}
				r, err := shim.Task.Connect(t.Context(), &taskapi.ConnectRequest{ID: id})
				if err != nil {
					t.Fatal(err)
				}
				if test.before != nil {
					test.before(t, shim, b)
				}
				timer := time.AfterFunc(time.Duration(i)*test.step, func() { _ = unix.Kill(int(r.ShimPid), unix.SIGKILL) })
				done := test.during(t.Context(), shim, b)
				if done == nil && timer.Stop() {
					_ = unix.Kill(int(r.ShimPid), unix.SIGKILL)
				}
				shim.Close()
				if err := Reap(int(r.ShimPid)); err != nil { // only now no thread of it makes anything any more
					t.Fatal(err)
				}
				answer, err := s.deleteOrphaned(t.Context(), b)
				if err != nil {
					t.Fatalf("killed %d: %v", i, err)
				}
				if answer.Pid == 0 && test.request == "delete" {
					continue // everything was gone, and only the answer had not been sent
				}
				if !slices.Contains(test.status, answer.ExitStatus) {
					t.Errorf("killed %d, request: %v: delete verb: pid %d, status %d", i, done, answer.Pid, answer.ExitStatus)
				}
			}
		})
	}
}

// deleteOrphaned is Delete that waits meanwhile, as the first process of a machine does, for the children of a dead shim: an exec for
// which nobody waits keeps the container's init from ending.
func (s *setup) deleteOrphaned(ctx context.Context, b *Bundle) (*taskapi.DeleteResponse, error) {
	cmd := s.verb(ctx, s.binary, b, "delete")
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			if err != nil || stderr.Len() > 0 {
				return nil, fmt.Errorf("delete verb: %w: %s", err, &stderr)
			}
			var r taskapi.DeleteResponse
			return &r, proto.Unmarshal(out.Bytes(), &r)
		case <-time.After(time.Millisecond):
		}
		lists, _ := filepath.Glob("/proc/self/task/*/children")
		for _, list := range lists {
			text, _ := os.ReadFile(list)
			for child := range strings.FieldsSeq(string(text)) {
				if pid, err := strconv.Atoi(child); err == nil && pid != cmd.Process.Pid {
					_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
				}
			}
		}
	}
}

func mustCreate(t *testing.T, shim *Shim, b *Bundle) {
	t.Helper()
	if _, err := create(t, shim, b); err != nil {
		t.Fatal(err)
	}
}

func startInit(ctx context.Context, shim *Shim, b *Bundle) error {
	_, err := shim.Task.Start(ctx, &taskapi.StartRequest{ID: b.ID})
	return err
}

func mustStart(t *testing.T, shim *Shim, b *Bundle) {
	t.Helper()
	mustCreate(t, shim, b)
	if err := startInit(t.Context(), shim, b); err != nil {
		t.Fatal(err)
	}
}

func mustPause(t *testing.T, shim *Shim, b *Bundle) {
	t.Helper()
	mustStart(t, shim, b)
	if _, err := shim.Task.Pause(t.Context(), &taskapi.PauseRequest{ID: b.ID}); err != nil {
		t.Fatal(err)
	}
}

func mustEnd(t *testing.T, shim *Shim, b *Bundle) {
	t.Helper()
	mustStart(t, shim, b)
	if _, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: b.ID}); err != nil {
		t.Fatal(err)
	}
}

// TestShimOutOfMemory has the kernel's OOM killer end a shim. Its container is removed and told of as killed, without a word of an OOM
// kill of its own; one with another shim notices nothing.
func TestShimOutOfMemory(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "sleep", "1000")
	beside := s.bundle(t, id, config(t, spec))
	other := s.started(t, beside)
	mustStart(t, other, beside)

	id, spec = s.spec(t, "sleep", "1000")
	b := s.bundle(t, id, config(t, spec))
	shim, err := s.Start(t.Context(), s.binary, b)
	if err != nil {
		t.Fatal(err)
	}
	r, err := shim.Task.Connect(t.Context(), &taskapi.ConnectRequest{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	mustStart(t, shim, b)
	state, err := shim.Task.State(t.Context(), &taskapi.StateRequest{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	starve(t, s, int(r.ShimPid))
	// Requests of almost 4 MiB, more at a time than it may have.
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			huge := &anypb.Any{Value: make([]byte, 4<<20-1000)}
			_, _ = shim.Task.Exec(t.Context(), &taskapi.ExecProcessRequest{ID: id, ExecID: "e", Spec: huge})
		})
	}
	calls.Wait()
	_, err = shim.Task.Connect(t.Context(), &taskapi.ConnectRequest{ID: id})
	if err == nil {
		t.Fatal("the shim lives")
	}
	shim.Close()
	if err := Reap(int(r.ShimPid)); err != nil {
		t.Fatal(err)
	}
	answer, err := s.Delete(t.Context(), s.binary, b)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Pid != state.Pid || answer.ExitStatus != 137 {
		t.Errorf("delete verb: pid %d status %d, want %d and 137", answer.Pid, answer.ExitStatus, state.Pid)
	}
	if slices.Contains(s.Topics(), "/tasks/oom") {
		t.Errorf("events: %q", s.Topics())
	}
	if state, err := other.Task.State(t.Context(), &taskapi.StateRequest{ID: beside.ID}); err != nil || state.Status != apitask.Status_RUNNING {
		t.Errorf("the other container: %v, %v", state, err)
	}
}

// starve moves a process into a cgroup with hardly more memory than it has.
func starve(t *testing.T, s *setup, pid int) {
	t.Helper()
	dir, limit := "/sys/fs/cgroup", "memory.max"
	if _, err := os.Stat(dir + "/memory"); err == nil {
		dir, limit = dir+"/memory", "memory.limit_in_bytes"
	}
	dir = filepath.Join(dir, s.namespace+"-starve")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	for _, file := range []struct{ name, text string }{{limit, fmt.Sprint(2 << 20)}, {"cgroup.procs", fmt.Sprint(pid)}} {
		if err := os.WriteFile(filepath.Join(dir, file.name), []byte(file.text), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCreateIsCancelled ends the context of a create at moments all over it: either the container is there, or nothing of it.
func TestCreateIsCancelled(t *testing.T) {
	for i := range 20 {
		t.Run(fmt.Sprintf("after %d µs", (i+1)*300), func(t *testing.T) {
			s := newSetup(t)
			id, spec := s.spec(t, "sleep", "1000")
			b := s.bundle(t, id, config(t, spec))
			shim := s.started(t, b)
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*300*time.Microsecond)
			_, err := shim.Task.Create(ctx, &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path})
			cancel()
			if err == nil {
				return
			}
			// The shim may still be undoing; a second create of the same id waits for that or succeeds.
			if _, err := create(t, shim, b); err != nil && !errors.Is(errgrpc.ToNative(err), errdefs.ErrAlreadyExists) {
				t.Errorf("create after a cancelled one: %v", err)
			}
		})
	}
}

// TestContainerdIsGone: what happens while containerd is away is told when it is back, in order.
func TestContainerdIsGone(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "sh", "-c", "exit 4")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	if _, err := create(t, shim, b); err != nil {
		t.Fatal(err)
	}
	if err := s.StopEvents(); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second) // longer than a few attempts
	if err := s.TakeEvents(); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Delete(t.Context(), &taskapi.DeleteRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	want := []string{"/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"}
	if got := s.WaitTopic("/tasks/delete", time.Minute); !slices.Equal(got, want) {
		t.Errorf("events: %q", got)
	}
}
