package shimdrive

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/runc/options"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// needCriu gives shims a PATH with criu in it.
func needCriu(t *testing.T) {
	t.Helper()
	tree, err := containerdtest.FindTree()
	if err != nil {
		t.Fatal(err)
	}
	dir, missing, err := tree.Criu()
	if err != nil {
		t.Fatal(err)
	}
	if missing != "" {
		t.Skip(missing)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

const countForever = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"

// numbers reads n numbers, each one more than the one before, and returns the last.
func numbers(t *testing.T, lines *bufio.Scanner, last, n int) int {
	t.Helper()
	for range n {
		if !lines.Scan() {
			t.Fatalf("no number after %d: %v", last, lines.Err())
		}
		got, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
		if err != nil || got != last+1 {
			t.Fatalf("%q after %d", lines.Text(), last)
		}
		last = got
	}
	return last
}

// counting is a container that counts, with its stdout.
func (s *setup) counting(t *testing.T) (*specs.Spec, *Bundle, *Shim, *bufio.Scanner) {
	t.Helper()
	id, spec := s.spec(t, "sh", "-c", countForever)
	b := s.bundle(t, id, config(t, spec))
	f := readFIFO(t, filepath.Join(b.Path, "stdout"))
	shim := s.started(t, b)
	if _, err := shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path, Stdout: f.Name()}); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	return spec, b, shim, bufio.NewScanner(f)
}

func checkpoint(t *testing.T, shim *Shim, id, images string, o *options.CheckpointOptions) error {
	t.Helper()
	any, err := anypb.New(o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = shim.Task.Checkpoint(t.Context(), &taskapi.CheckpointTaskRequest{ID: id, Path: images, Options: any})
	return err
}

// TestCheckpointTask: a counter goes on counting in another container, made by another shim, which then is one as any other.
func TestCheckpointTask(t *testing.T) {
	needCriu(t)
	s := newSetup(t)
	_, b, shim, lines := s.counting(t)
	last := numbers(t, lines, 0, 5)

	// It goes on, paused or not, until the checkpoint that says otherwise.
	work := t.TempDir()
	every := &options.CheckpointOptions{OpenTcp: true, ExternalUnixSockets: true, FileLocks: true, EmptyNamespaces: []string{"network"}, WorkPath: work}
	if err := checkpoint(t, shim, b.ID, t.TempDir(), every); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(work, "dump.log")); err != nil {
		t.Error(err)
	}
	last = numbers(t, lines, last, 5)
	every.EmptyNamespaces = []string{"uts"}
	refused(t, checkpoint(t, shim, b.ID, t.TempDir(), every), errdefs.ErrInvalidArgument, "empty_namespaces", "uts")
	if _, err := shim.Task.Exec(t.Context(), execRequest(t, b.ID, "e", "sleep", "1000")); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: b.ID, ExecID: "e"}); err != nil {
		t.Fatal(err)
	}
	refused(t, checkpoint(t, shim, b.ID, t.TempDir(), &options.CheckpointOptions{}), errdefs.ErrFailedPrecondition, "exec e is running")
	if _, err := shim.Task.Kill(t.Context(), &taskapi.KillRequest{ID: b.ID, ExecID: "e", Signal: 9}); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: b.ID, ExecID: "e"}); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Pause(t.Context(), &taskapi.PauseRequest{ID: b.ID}); err != nil {
		t.Fatal(err)
	}
	images := t.TempDir()
	if err := checkpoint(t, shim, b.ID, images, &options.CheckpointOptions{Exit: true}); err != nil {
		t.Fatal(err)
	}
	if r, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: b.ID}); err != nil || r.ExitStatus != 137 {
		t.Fatalf("wait: %v, %v", r, err)
	}
	if left, _ := filepath.Glob(filepath.Join(b.Path, "criu*")); left != nil {
		t.Errorf("left in the bundle: %q", left)
	}
	if _, err := shim.Task.Delete(t.Context(), &taskapi.DeleteRequest{ID: b.ID}); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // what was written before
		last, _ = strconv.Atoi(lines.Text())
	}

	id, spec := s.spec(t, "sh", "-c", countForever)
	again := s.bundle(t, id, config(t, spec))
	f := readFIFO(t, filepath.Join(again.Path, "stdout"))
	shim = s.started(t, again)
	created, err := shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: again.Path, Stdout: f.Name(), Checkpoint: images})
	if err != nil || created.Pid != 0 {
		t.Fatalf("create: %v, %v", created, err)
	}
	if state, err := shim.Task.State(t.Context(), &taskapi.StateRequest{ID: id}); err != nil || state.Status != tasktypes.Status_CREATED || state.Pid != 0 {
		t.Errorf("state: %v, %v", state, err)
	}
	_, err = shim.Task.Kill(t.Context(), &taskapi.KillRequest{ID: id, Signal: 9})
	refused(t, err, errdefs.ErrFailedPrecondition, "process not created")
	started, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id})
	if err != nil || started.Pid == 0 {
		t.Fatalf("start: %v, %v", started, err)
	}
	lines = bufio.NewScanner(f)
	numbers(t, lines, last, 5)
	if state, err := shim.Task.State(t.Context(), &taskapi.StateRequest{ID: id}); err != nil || state.Status != tasktypes.Status_RUNNING || state.Pid != started.Pid {
		t.Errorf("state: %v, %v", state, err)
	}
	pids, err := shim.Task.Pids(t.Context(), &taskapi.PidsRequest{ID: id})
	if err != nil || !slices.ContainsFunc(pids.Processes, func(p *tasktypes.ProcessInfo) bool { return p.Pid == started.Pid }) {
		t.Errorf("pids: %v, %v", pids, err)
	}
	if stats, err := shim.Task.Stats(t.Context(), &taskapi.StatsRequest{ID: id}); err != nil || len(stats.Stats.Value) == 0 {
		t.Errorf("stats: %v, %v", stats, err)
	}
	if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err == nil {
		t.Error("it was started twice")
	}
	if _, err := shim.Task.Exec(t.Context(), execRequest(t, id, "e", "sh", "-c", "exit 5")); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id, ExecID: "e"}); err != nil {
		t.Fatal(err)
	}
	if r, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: id, ExecID: "e"}); err != nil || r.ExitStatus != 5 {
		t.Errorf("exec: %v, %v", r, err)
	}
	if _, err := shim.Task.Kill(t.Context(), &taskapi.KillRequest{ID: id, Signal: uint32(unix.SIGKILL)}); err != nil {
		t.Fatal(err)
	}
	if r, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: id}); err != nil || r.ExitStatus != 137 {
		t.Errorf("wait: %v, %v", r, err)
	}
}

func execRequest(t *testing.T, id, exec string, args ...string) *taskapi.ExecProcessRequest {
	t.Helper()
	text, err := json.Marshal(&specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}})
	if err != nil {
		t.Fatal(err)
	}
	return &taskapi.ExecProcessRequest{ID: id, ExecID: exec, Spec: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: text}}
}

// TestCheckpointTaskTerminal: the restored process has a terminal, which the shim copies from and to.
func TestCheckpointTaskTerminal(t *testing.T) {
	needCriu(t)
	s := newSetup(t)
	images := t.TempDir()
	for round, from := range []string{"", images} {
		id, spec := s.spec(t, "sh", "-c", "n=0; while read line; do n=$((n+1)); echo got $line $n; done")
		spec.Process.Terminal = true
		b := s.bundle(t, id, config(t, spec))
		out := readFIFO(t, filepath.Join(b.Path, "stdout"))
		if err := unix.Mkfifo(filepath.Join(b.Path, "stdin"), 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := os.OpenFile(filepath.Join(b.Path, "stdin"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		shim := s.started(t, b)
		if _, err := shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path, Terminal: true, Stdin: in.Name(), Stdout: out.Name(), Checkpoint: from}); err != nil {
			t.Fatal(err)
		}
		if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintln(in, "word"); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("got word %d", round+1)
		for lines := bufio.NewScanner(out); !strings.Contains(lines.Text(), want); {
			if !lines.Scan() {
				t.Fatalf("no line with %q: %v", want, lines.Err())
			}
		}
		if _, err := shim.Task.ResizePty(t.Context(), &taskapi.ResizePtyRequest{ID: id, Width: 80, Height: 24}); err != nil {
			t.Errorf("resize: %v", err)
		}
		if err := checkpoint(t, shim, id, images, &options.CheckpointOptions{Exit: true, Terminal: true}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestoreThatFails: a container whose images are no good, or that nobody starts, can be deleted; nothing is left.
func TestRestoreThatFails(t *testing.T) {
	needCriu(t)
	s := newSetup(t)
	images := t.TempDir()
	if err := os.WriteFile(filepath.Join(images, "descriptors.json"), []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, start := range []bool{true, false} {
		id, spec := s.spec(t, "true")
		b := s.bundle(t, id, config(t, spec))
		shim := s.started(t, b)
		if _, err := shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path, Checkpoint: images}); err != nil {
			t.Fatal(err)
		}
		if start {
			_, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id})
			refused(t, err, nil, "restore: criu failed", "restore.log")
		}
		if r, err := shim.Task.Delete(t.Context(), &taskapi.DeleteRequest{ID: id}); err != nil || r.Pid != 0 {
			t.Errorf("delete: %v, %v", r, err)
		}
	}
}

// TestShimKilledDuringCheckpoint kills the shim at moments all over a checkpoint and a restore; wherever it was, the delete verb
// leaves nothing.
func TestShimKilledDuringCheckpoint(t *testing.T) {
	needCriu(t)
	images := t.TempDir()
	for i := range 8 {
		s := newSetup(t)
		id, spec := s.spec(t, "sh", "-c", countForever)
		b := s.bundle(t, id, config(t, spec))
		shim, err := s.Start(t.Context(), s.binary, b)
		if err != nil {
			t.Fatal(err)
		}
		r, err := shim.Task.Connect(t.Context(), &taskapi.ConnectRequest{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		restore := i%2 == 1
		request := &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path}
		if restore {
			request.Checkpoint = images
		}
		if _, err := shim.Task.Create(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		kill := func() { _ = unix.Kill(int(r.ShimPid), unix.SIGKILL) }
		after := time.Duration(i/2*25) * time.Millisecond
		if restore {
			defer time.AfterFunc(after, kill).Stop()
			_, err = shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id})
		} else {
			if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
				t.Fatal(err)
			}
			if i == 0 { // for the restores
				if err := checkpoint(t, shim, id, images, &options.CheckpointOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			defer time.AfterFunc(after, kill).Stop()
			err = checkpoint(t, shim, id, t.TempDir(), &options.CheckpointOptions{})
		}
		t.Logf("killed after %v, restore %t: %v", after, restore, err)
		kill()
		shim.Close()
		if err := Reap(int(r.ShimPid)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Delete(t.Context(), s.binary, b); err != nil {
			t.Errorf("killed after %v, restore %t: delete verb: %v", after, restore, err)
		}
	}
}

// TestCheckpointWithoutCriu: that it is missing is said, and nothing else changes.
func TestCheckpointWithoutCriu(t *testing.T) {
	t.Setenv("PATH", "/usr/bin:/bin")
	s := newSetup(t)
	_, b, shim, lines := s.counting(t)
	last := numbers(t, lines, 0, 3)
	images := filepath.Join(t.TempDir(), "images")
	refused(t, checkpoint(t, shim, b.ID, images, &options.CheckpointOptions{Exit: true}), errdefs.ErrFailedPrecondition, "criu is not installed")
	numbers(t, lines, last, 3)
	if _, err := os.Stat(images); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("images: %v", err)
	}
}
