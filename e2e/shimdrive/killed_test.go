package shimdrive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sys/unix"
)

// TestShimKilled kills the shim at several points; the delete verb must end and remove what is there.
func TestShimKilled(t *testing.T) {
	for _, at := range []string{"before create", "created", "running", "stopped"} {
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
			if at == "running" || at == "stopped" {
				if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
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

// TestShimKilledDuringCreate kills the shim at moments all over a create; wherever it was, the delete verb leaves nothing.
func TestShimKilledDuringCreate(t *testing.T) {
	for i := range 25 {
		s := newSetup(t)
		id, spec := s.spec(t, "sleep", "1000")
		b := s.bundle(t, id, config(t, spec))
		shim, err := s.Start(t.Context(), s.binary, b)
		if err != nil {
			t.Fatal(err)
		}
		r, err := shim.Task.Connect(t.Context(), &taskapi.ConnectRequest{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(i)*400*time.Microsecond, func() { _ = unix.Kill(int(r.ShimPid), unix.SIGKILL) })
		if _, err := create(t, shim, b); err == nil && timer.Stop() {
			_ = unix.Kill(int(r.ShimPid), unix.SIGKILL)
		}
		shim.Close()
		if err := Reap(int(r.ShimPid)); err != nil { // only now no thread of it makes anything any more
			t.Fatal(err)
		}
		answer, err := s.Delete(t.Context(), s.binary, b)
		if err != nil {
			t.Fatalf("killed %d: %v", i, err)
		}
		if answer.ExitStatus != 137 {
			t.Errorf("killed %d: delete verb: status %d", i, answer.ExitStatus)
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
