package task

import (
	"os"
	"testing"

	api "github.com/containerd/containerd/api/runtime/task/v3"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"google.golang.org/grpc/codes"
)

func TestLife(t *testing.T) {
	s := newShim(t)
	r := s.request("c1", sh("echo hello; echo trouble >&2; exit 7"))
	var out, errs func() string
	r.Stdout, out = s.output()
	r.Stderr, errs = s.output()
	pid := s.create(r)

	st := s.state("c1", "")
	equal(t, "state", st.Status, tasktypes.Status_CREATED)
	equal(t, "id", st.ID, "c1")
	equal(t, "pid", st.Pid, pid)
	equal(t, "bundle", st.Bundle, r.Bundle)
	equal(t, "stdout", st.Stdout, r.Stdout)
	connect, err := s.client.Connect(t.Context(), &api.ConnectRequest{ID: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "shim's pid", connect.ShimPid, uint32(os.Getpid()))
	equal(t, "task's pid", connect.TaskPid, pid)

	equal(t, "pid", s.start("c1", ""), pid)
	equal(t, "exit status", s.wait("c1", ""), 7)
	equal(t, "stdout", out(), "hello\n")
	equal(t, "stderr", errs(), "trouble\n")
	st = s.state("c1", "")
	equal(t, "state", st.Status, tasktypes.Status_STOPPED)
	equal(t, "exit status", st.ExitStatus, 7)
	equal(t, "exit status again", s.wait("c1", ""), 7)

	d := s.delete("c1", "")
	equal(t, "pid", d.Pid, pid)
	equal(t, "exit status", d.ExitStatus, 7)
	if !d.ExitedAt.AsTime().Equal(st.ExitedAt.AsTime()) {
		t.Errorf("exited at %v, and at %v", d.ExitedAt, st.ExitedAt)
	}
	equalEvents(t, s.events("c1"), "create c1", "start c1", "exit c1", "delete c1")
	s.nothingLeft(r)
}

func TestShutdown(t *testing.T) {
	s := newShim(t)
	s.create(s.request("c1", sh("true")))
	shutdown := func() {
		t.Helper()
		if _, err := s.client.Shutdown(t.Context(), &api.ShutdownRequest{ID: "c1"}); err != nil {
			t.Error(err)
		}
	}
	shutdown()
	equal(t, "shutdowns with a task", len(s.shutdowns), 0)
	s.delete("c1", "")
	shutdown()
	shutdown()
	equal(t, "shutdowns with nothing left", len(s.shutdowns), 1)
	_, err := s.client.Create(t.Context(), s.request("c2", sh("true")))
	refused(t, "create", err, codes.FailedPrecondition, "shim is shutting down")
}
