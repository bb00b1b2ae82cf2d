package task

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/containerd/containerd/api/runtime/task/v3"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gosuda/gosudacon/internal/wire"
	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/rpc"
)

// A process that ends at once must not confuse the order.
func TestOrderOfShortLives(t *testing.T) {
	s := newShim(t)
	for i := range 20 {
		id := fmt.Sprint("short", i)
		r := s.request(id, spec("/bin/true"))
		s.create(r)
		s.start(id, "")
		s.wait(id, "")
		s.delete(id, "")
		equalEvents(t, s.events(id), "create "+id, "start "+id, "exit "+id, "delete "+id)
	}
}

// Wait asked before the start, and ended by its caller.
func TestWait(t *testing.T) {
	s := newShim(t)
	s.create(s.request("c1", sh("exit 3")))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.client.Wait(ctx, &api.WaitRequest{ID: "c1"}); err == nil {
		t.Error("waited for what has not ended")
	}
	var waiting sync.WaitGroup
	for range 5 {
		waiting.Go(func() { equal(t, "exit status", s.wait("c1", ""), 3) })
	}
	s.start("c1", "")
	waiting.Wait()
}

func TestKill(t *testing.T) {
	s := newShim(t)
	s.create(s.request("c1", sh("sleep 1000 & sleep 1000")))
	s.start("c1", "")
	s.addExec(&api.ExecProcessRequest{ID: "c1", ExecID: "e1"}, "/bin/sleep", "1000")
	_, err := s.client.Kill(t.Context(), &api.KillRequest{ID: "c1", ExecID: "e1", Signal: 9})
	refused(t, "kill of an exec that does not run", err, codes.FailedPrecondition, "process not created")
	s.start("c1", "e1")
	s.kill("c1", "e1", 9)
	equal(t, "exit status", s.wait("c1", "e1"), 137)
	_, err = s.client.Kill(t.Context(), &api.KillRequest{ID: "c1", ExecID: "e1", Signal: 9})
	refused(t, "kill of an exec that ended", err, codes.NotFound, "process already finished")

	if _, err := s.client.Kill(t.Context(), &api.KillRequest{ID: "c1", Signal: 9, All: true}); err != nil {
		t.Fatal(err)
	}
	equal(t, "exit status", s.wait("c1", ""), 137)
	_, err = s.client.Kill(t.Context(), &api.KillRequest{ID: "c1", Signal: 9})
	refused(t, "kill after the end", err, codes.NotFound, "process already finished")
	s.delete("c1", "")
	_, err = s.client.Kill(t.Context(), &api.KillRequest{ID: "c1", Signal: 9})
	refused(t, "kill after delete", err, codes.NotFound, "container not created")
}

func TestDeleteOfCreated(t *testing.T) {
	s := newShim(t)
	r := s.request("c1", sh("true"))
	r.Stdout = s.idleFIFO()
	pid := s.create(r)
	s.delete("c1", "")
	equalEvents(t, s.events("c1"), "create c1", "exit c1", "delete c1")
	if !gone(pid) {
		t.Error("init is left")
	}
	s.nothingLeft(r)
}

func TestExec(t *testing.T) {
	s := newShim(t)
	s.create(s.request("c1", sh("sleep 1000")))
	s.start("c1", "")
	r := &api.ExecProcessRequest{ID: "c1", ExecID: "e1"}
	var out func() string
	r.Stdout, out = s.output()
	s.addExec(r, "/bin/sh", "-c", "echo hello; exit 5")
	st := s.state("c1", "e1")
	equal(t, "state", st.Status, tasktypes.Status_CREATED)
	equal(t, "id", st.ID, "e1")
	_, err := s.client.Exec(t.Context(), execRequest(&api.ExecProcessRequest{ID: "c1", ExecID: "e1"}, "/bin/true"))
	refused(t, "exec again", err, codes.AlreadyExists, "id e1: already exists")

	pid := s.start("c1", "e1")
	equal(t, "exit status", s.wait("c1", "e1"), 5)
	equal(t, "output", out(), "hello\n")
	st = s.state("c1", "e1")
	equal(t, "state", st.Status, tasktypes.Status_STOPPED)
	equal(t, "pid", st.Pid, pid)
	_, err = s.client.Start(t.Context(), &api.StartRequest{ID: "c1", ExecID: "e1"})
	refused(t, "start again", err, codes.FailedPrecondition, "cannot start a stopped process")
	d := s.delete("c1", "e1")
	equal(t, "exit status", d.ExitStatus, 5)
	equal(t, "pid", d.Pid, pid)
	_, err = s.client.State(t.Context(), &api.StateRequest{ID: "c1", ExecID: "e1"})
	refused(t, "state after delete", err, codes.NotFound, "process does not exist e1")

	s.addExec(&api.ExecProcessRequest{ID: "c1", ExecID: "e1"}, "/bin/true") // the id is free again
	s.delete("c1", "e1")
	equalEvents(t, s.events("c1"), "create c1", "start c1",
		"exec-added c1/e1", "exec-started c1/e1", "exit c1/e1", "delete c1/e1", "exec-added c1/e1", "delete c1/e1")
}

func TestExecsInParallel(t *testing.T) {
	const n = 20
	s := newShim(t)
	s.create(s.request("c1", sh("sleep 1000")))
	s.start("c1", "")
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			id := fmt.Sprint("e", i)
			s.addExec(&api.ExecProcessRequest{ID: "c1", ExecID: id}, "/bin/sh", "-c", fmt.Sprint("exit ", i))
			s.start("c1", id)
			equal(t, "exit status of "+id, s.wait("c1", id), uint32(i))
			s.delete("c1", id)
		})
	}
	all.Wait()
	got := s.events("c1")
	for i := range n {
		var mine []string
		for _, e := range got {
			if strings.HasSuffix(e, fmt.Sprint("/e", i)) {
				mine = append(mine, strings.Fields(e)[0])
			}
		}
		equalEvents(t, mine, "exec-added", "exec-started", "exit", "delete")
	}
}

// Init's exit is the last, and what is left of execs goes with the container.
func TestExecsEndWithInit(t *testing.T) {
	s := newShim(t)
	r := s.request("c1", sh("sleep 1000"))
	s.create(r)
	s.start("c1", "")
	for _, id := range []string{"e1", "e2", "e3"} {
		x := &api.ExecProcessRequest{ID: "c1", ExecID: id, Stdout: s.idleFIFO(), Stdin: s.fifo()}
		s.addExec(x, "/bin/sleep", "1000")
	}
	s.start("c1", "e1")
	s.start("c1", "e2")
	s.kill("c1", "", 9)
	s.wait("c1", "")
	_, err := s.client.Start(t.Context(), &api.StartRequest{ID: "c1", ExecID: "e3"})
	refused(t, "start of an exec", err, codes.FailedPrecondition)
	_, err = s.client.Exec(t.Context(), execRequest(&api.ExecProcessRequest{ID: "c1", ExecID: "e4"}, "/bin/true"))
	refused(t, "exec", err, codes.FailedPrecondition, "cannot exec", "stopped")
	got := s.events("c1")
	equal(t, "last event", got[len(got)-1], "exit c1")
	s.delete("c1", "")
	s.nothingLeft(r)
}

func TestExecThatCannotRun(t *testing.T) {
	s := newShim(t)
	s.create(s.request("c1", sh("sleep 1000")))
	s.start("c1", "")
	s.addExec(&api.ExecProcessRequest{ID: "c1", ExecID: "e1"}, "no-such-program")
	_, err := s.client.Start(t.Context(), &api.StartRequest{ID: "c1", ExecID: "e1"})
	refused(t, "start", err, codes.Unknown, "OCI runtime exec failed: exec failed: ", `"no-such-program": executable file not found in $PATH`)
	equal(t, "state", s.state("c1", "e1").Status, tasktypes.Status_STOPPED)
	s.delete("c1", "e1")

	s.addExec(&api.ExecProcessRequest{ID: "c1", ExecID: "e2", Stdout: "gopher:///x"}, "/bin/true")
	_, err = s.client.Start(t.Context(), &api.StartRequest{ID: "c1", ExecID: "e2"})
	refused(t, "start", err, codes.InvalidArgument, "unknown STDIO scheme gopher")
	s.delete("c1", "e2")
}

// The child of an exec keeps its output for as long as the container lives: its delete must not wait for that.
func TestDeleteOfExecWithHeldOutput(t *testing.T) {
	s := newShim(t)
	s.create(s.request("c1", sh("sleep 1000")))
	s.start("c1", "")
	s.addExec(&api.ExecProcessRequest{ID: "c1", ExecID: "e1", Stdout: s.idleFIFO()}, "/bin/sh", "-c", "sleep 1000 & exit 0")
	s.start("c1", "e1")
	s.wait("c1", "e1")
	s.service.drain = 50 * time.Millisecond
	s.delete("c1", "e1")
}

func TestPids(t *testing.T) {
	s := newShim(t)
	init := s.create(s.request("c1", sh("sleep 1000")))
	s.start("c1", "")
	s.addExec(&api.ExecProcessRequest{ID: "c1", ExecID: "e1"}, "/bin/sleep", "1000")
	exec := s.start("c1", "e1")
	answer, err := s.client.Pids(t.Context(), &api.PidsRequest{ID: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[uint32]string{}
	for _, p := range answer.Processes {
		got[p.Pid] = ""
		if p.Info != nil {
			equal(t, "type of info", p.Info.TypeUrl, "containerd.runc.v1.ProcessDetails")
			got[p.Pid] = string(p.Info.Value)
		}
	}
	if details, ok := got[exec]; !ok || details != string(wire.AppendString(nil, 1, "e1")) {
		t.Errorf("exec's details %q", details)
	}
	if details, ok := got[init]; !ok || details != "" {
		t.Errorf("init's details %q", details)
	}
	s.kill("c1", "", 9)
	s.wait("c1", "")
	answer, err = s.client.Pids(t.Context(), &api.PidsRequest{ID: "c1"})
	if err != nil || len(answer.Processes) != 1 || answer.Processes[0].Pid != init {
		t.Errorf("pids of a stopped container: %v, %v; init was %d", answer, err, init)
	}
}

func TestPause(t *testing.T) {
	s := newShim(t)
	s.create(s.request("c1", sh("sleep 1000")))
	_, err := s.client.Pause(t.Context(), &api.PauseRequest{ID: "c1"})
	refused(t, "pause of a created container", err, codes.FailedPrecondition, "cannot pause")
	s.start("c1", "")
	s.addExec(&api.ExecProcessRequest{ID: "c1", ExecID: "e1"}, "/bin/sleep", "1000")
	s.start("c1", "e1")
	_, err = s.client.Resume(t.Context(), &api.ResumeRequest{ID: "c1"})
	refused(t, "resume of a running container", err, codes.FailedPrecondition, "cannot resume")
	if _, err := s.client.Pause(t.Context(), &api.PauseRequest{ID: "c1"}); err != nil {
		t.Fatal(err)
	}
	equal(t, "state", s.state("c1", "").Status, tasktypes.Status_PAUSED)
	equal(t, "state of the exec", s.state("c1", "e1").Status, tasktypes.Status_PAUSED)
	_, err = s.client.Exec(t.Context(), execRequest(&api.ExecProcessRequest{ID: "c1", ExecID: "e2"}, "/bin/true"))
	refused(t, "exec", err, codes.FailedPrecondition, "cannot exec in a paused")
	_, err = s.client.Delete(t.Context(), &api.DeleteRequest{ID: "c1"})
	refused(t, "delete", err, codes.FailedPrecondition, "cannot delete")
	if _, err := s.client.Resume(t.Context(), &api.ResumeRequest{ID: "c1"}); err != nil {
		t.Fatal(err)
	}
	equal(t, "state", s.state("c1", "").Status, tasktypes.Status_RUNNING)
	equalEvents(t, s.events("c1"), "create c1", "start c1", "exec-added c1/e1", "exec-started c1/e1", "paused c1", "resumed c1")
}

func TestStatsAndUpdate(t *testing.T) {
	s := newShim(t)
	s.create(s.request("c1", sh("sleep 1000")))
	s.start("c1", "")
	stats := func() {
		t.Helper()
		answer, err := s.client.Stats(t.Context(), &api.StatsRequest{ID: "c1"})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains([]string{"io.containerd.cgroups.v1.Metrics", "io.containerd.cgroups.v2.Metrics"}, answer.Stats.TypeUrl) || len(answer.Stats.Value) == 0 {
			t.Errorf("got %v", answer.Stats)
		}
	}
	stats()
	update := func(text string) error {
		_, err := s.client.Update(t.Context(), &api.UpdateTaskRequest{ID: "c1", Resources: &anypb.Any{Value: []byte(text)}})
		return err
	}
	if err := update(`{"pids":{"limit":50}}`); err != nil {
		t.Error(err)
	}
	refused(t, "update with nonsense", update(`{"pids":7}`), codes.InvalidArgument, "decode resources of container c1")
	s.kill("c1", "", 9)
	s.wait("c1", "")
	stats() // the last ones
	refused(t, "update after the end", update(`{"pids":{"limit":60}}`), codes.FailedPrecondition)
}

func TestUnknownIDs(t *testing.T) {
	s := newShim(t)
	ctx := t.Context()
	s.create(s.request("c1", sh("true")))
	for _, id := range []string{"c2", "c1"} {
		exec := ""
		text := "container not created: not found"
		if id == "c1" {
			exec, text = "e1", "process does not exist e1: not found"
		}
		calls := map[string]func() error{
			"state":  func() error { _, err := s.client.State(ctx, &api.StateRequest{ID: id, ExecID: exec}); return err },
			"start":  func() error { _, err := s.client.Start(ctx, &api.StartRequest{ID: id, ExecID: exec}); return err },
			"delete": func() error { _, err := s.client.Delete(ctx, &api.DeleteRequest{ID: id, ExecID: exec}); return err },
			"kill": func() error {
				_, err := s.client.Kill(ctx, &api.KillRequest{ID: id, ExecID: exec, Signal: 9})
				return err
			},
			"wait": func() error { _, err := s.client.Wait(ctx, &api.WaitRequest{ID: id, ExecID: exec}); return err },
			"resize": func() error {
				_, err := s.client.ResizePty(ctx, &api.ResizePtyRequest{ID: id, ExecID: exec})
				return err
			},
			"close": func() error { _, err := s.client.CloseIO(ctx, &api.CloseIORequest{ID: id, ExecID: exec}); return err },
		}
		if exec == "" {
			calls["pids"] = func() error { _, err := s.client.Pids(ctx, &api.PidsRequest{ID: id}); return err }
			calls["pause"] = func() error { _, err := s.client.Pause(ctx, &api.PauseRequest{ID: id}); return err }
			calls["resume"] = func() error { _, err := s.client.Resume(ctx, &api.ResumeRequest{ID: id}); return err }
			calls["stats"] = func() error { _, err := s.client.Stats(ctx, &api.StatsRequest{ID: id}); return err }
			calls["update"] = func() error { _, err := s.client.Update(ctx, &api.UpdateTaskRequest{ID: id}); return err }
			calls["checkpoint"] = func() error { _, err := s.client.Checkpoint(ctx, &api.CheckpointTaskRequest{ID: id}); return err }
			calls["exec"] = func() error { _, err := s.client.Exec(ctx, &api.ExecProcessRequest{ID: id, ExecID: "e"}); return err }
		}
		for name, call := range calls {
			refused(t, name+" "+id+"/"+exec, call(), codes.NotFound, text)
		}
	}
	if answer, err := s.client.Connect(ctx, &api.ConnectRequest{ID: "c2"}); err != nil || answer.TaskPid != 0 {
		t.Errorf("connect: %v, %v", answer, err)
	}
	_, err := s.client.Checkpoint(ctx, &api.CheckpointTaskRequest{ID: "c1"})
	refused(t, "checkpoint to nowhere", err, codes.InvalidArgument, "must be absolute")
	for name, o := range map[string]*anypb.Any{
		"of an unknown type": {TypeUrl: "some.Options", Value: []byte{8, 1}}, "malformed": {TypeUrl: checkpointOptions, Value: []byte{0xff}},
		`namespace "ipc"`: {TypeUrl: checkpointOptions, Value: wire.AppendString(nil, 6, "ipc")},
		`mode "x"`:        {TypeUrl: checkpointOptions, Value: wire.AppendString(nil, 7, "x")},
	} {
		_, err := s.client.Checkpoint(ctx, &api.CheckpointTaskRequest{ID: "c1", Path: t.TempDir(), Options: o})
		refused(t, "checkpoint with options: "+name, err, codes.InvalidArgument, "checkpoint")
	}
	for name, text := range map[string]string{"no json": "{", "no process": ""} {
		_, err := s.client.Exec(ctx, &api.ExecProcessRequest{ID: "c1", ExecID: "e1", Spec: &anypb.Any{Value: []byte(text)}})
		refused(t, name, err, codes.InvalidArgument, "decode process of exec e1")
	}
	_, err = s.client.Exec(ctx, execRequest(&api.ExecProcessRequest{ID: "c1"}, "/bin/true"))
	refused(t, "exec without an id", err, codes.InvalidArgument, "exec id is empty")
}

// Both versions of the API are served, with the same messages.
func TestVersion2(t *testing.T) {
	s := newShim(t)
	call := func(method string, request, answer any) error {
		return s.raw.Call(t.Context(), "containerd.task.v2.Task", method, request, answer)
	}
	var created api.CreateTaskResponse
	if err := call("Create", s.request("c1", sh("exit 4")), &created); err != nil {
		t.Fatal(err)
	}
	if err := call("Start", &api.StartRequest{ID: "c1"}, &api.StartResponse{}); err != nil {
		t.Fatal(err)
	}
	var waited api.WaitResponse
	if err := call("Wait", &api.WaitRequest{ID: "c1"}, &waited); err != nil || waited.ExitStatus != 4 {
		t.Errorf("got %v, %v", &waited, err)
	}
	if err := call("Delete", &api.DeleteRequest{ID: "c1"}, &api.DeleteResponse{}); err != nil {
		t.Error(err)
	}
	refused(t, "unknown id", call("Start", &api.StartRequest{ID: "c1"}, &api.StartResponse{}), codes.NotFound)
}

func TestMalformedRequest(t *testing.T) {
	_, err := Method(newShim(t).service.State)(t.Context(), []byte("no message"))
	var e *rpc.Error
	if !errors.As(err, &e) || e.Code != rpc.InvalidArgument {
		t.Errorf("got %v", err)
	}
}

// Nothing of the engine's vocabulary is untranslated.
func TestStatusWords(t *testing.T) {
	for word, want := range map[engine.Status]tasktypes.Status{
		engine.StatusCreating: tasktypes.Status_UNKNOWN,
		engine.StatusCreated:  tasktypes.Status_CREATED,
		engine.StatusRunning:  tasktypes.Status_RUNNING,
		engine.StatusPausing:  tasktypes.Status_PAUSING,
		engine.StatusPaused:   tasktypes.Status_PAUSED,
		engine.StatusStopped:  tasktypes.Status_STOPPED,
	} {
		equal(t, string(word), tasktypes.Status(statusWord(word)), want)
	}
}
