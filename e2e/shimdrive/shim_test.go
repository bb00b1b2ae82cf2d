package shimdrive

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	apitask "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

var shimFlag = flag.String("shim", "", "shim to test (default: the one that make build left)")

// setup is what one test needs: a host, the shim's program and a root file system.
type setup struct {
	*Host
	binary    Binary
	rootfs    string
	namespace string
}

var counter int

func newSetup(t *testing.T) *setup {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root")
	}
	path := *shimFlag
	if path == "" {
		tree, err := containerdtest.FindTree()
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(tree.Bin(), "containerd-shim-gosuda-v2")
	}
	dir, err := os.MkdirTemp("", "shim-")
	if err != nil {
		t.Fatal(err)
	}
	s := &setup{binary: Binary{Path: path}, rootfs: filepath.Join(dir, "rootfs"), namespace: fmt.Sprintf("gosuda-shim-%d", os.Getpid())}
	if err := os.Mkdir(s.rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := containerdtest.WriteRootfs(s.rootfs); err != nil {
		t.Fatal(err)
	}
	if s.Host, err = NewHost(dir, s.namespace); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.reapAll(t)
		s.nothingLeft(t)
		s.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

// reapAll waits for every child, at most until the test binary's patience ends: shims that should have ended by now.
func (s *setup) reapAll(t *testing.T) {
	t.Helper()
	alarm := time.AfterFunc(10*time.Second, func() {
		children, _ := filepath.Glob("/proc/self/task/*/children")
		for _, path := range children {
			text, _ := os.ReadFile(path)
			for pid := range strings.FieldsSeq(string(text)) {
				line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
				t.Errorf("left behind: process %s %q", pid, line)
				var n int
				fmt.Sscan(pid, &n)
				_ = unix.Kill(n, unix.SIGKILL)
			}
		}
	})
	defer alarm.Stop()
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); errors.Is(err, unix.ECHILD) {
			return
		}
	}
}

func (s *setup) nothingLeft(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{
		filepath.Join(s.SocketDir(), "*"),
		filepath.Join("/run/containerd/*", s.namespace, "*"),
		filepath.Join("/sys/fs/cgroup", s.namespace, "*", "cgroup.procs"),
		filepath.Join("/sys/fs/cgroup/*", s.namespace, "*", "cgroup.procs"),
	} {
		found, _ := filepath.Glob(pattern)
		for _, path := range found {
			t.Errorf("left behind: %s", path)
		}
	}
	for _, pattern := range []string{filepath.Join("/run/containerd/*", s.namespace), filepath.Join("/sys/fs/cgroup", s.namespace), filepath.Join("/sys/fs/cgroup/*", s.namespace)} {
		found, _ := filepath.Glob(pattern)
		for _, path := range found {
			_ = os.Remove(path) // the parent of all containers'
		}
	}
}

// spec is containerd's default spec for a container of this test.
func (s *setup) spec(t *testing.T, args ...string) (id string, spec *specs.Spec) {
	t.Helper()
	counter++
	id = fmt.Sprintf("s%d", counter)
	spec, err := Spec(s.namespace, id, oci.WithProcessArgs(args...), oci.WithRootFSPath(s.rootfs), oci.WithCgroup("/"+s.namespace+"/"+id))
	if err != nil {
		t.Fatal(err)
	}
	return id, spec
}

// bundle writes a bundle with the spec.
func (s *setup) bundle(t *testing.T, id string, config []byte) *Bundle {
	t.Helper()
	b, err := s.NewBundle(id, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		log, err := b.Close()
		if err != nil {
			t.Errorf("remove bundle: %v", err)
		}
		if t.Failed() && log != "" {
			t.Logf("the shim's log:\n%s", log)
		}
	})
	return b
}

// started is a container's shim; its end is part of the test's end.
func (s *setup) started(t *testing.T, b *Bundle) *Shim {
	t.Helper()
	shim, err := s.Start(t.Context(), s.binary, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.end(t, shim, b) })
	return shim
}

// end does what containerd does to be rid of a container in whatever state.
func (s *setup) end(t *testing.T, shim *Shim, b *Bundle) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := shim.Task.Kill(ctx, &taskapi.KillRequest{ID: b.ID, Signal: uint32(unix.SIGKILL), All: true}); err == nil {
		if _, err := shim.Task.Wait(ctx, &taskapi.WaitRequest{ID: b.ID}); err != nil {
			t.Errorf("wait: %v", err)
		}
	}
	_, _ = shim.Task.Delete(ctx, &taskapi.DeleteRequest{ID: b.ID})
	if err := shim.Shutdown(ctx, b.ID); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if _, err := s.Delete(ctx, s.binary, b); err != nil {
		t.Errorf("delete verb: %v", err)
	}
}

func config(t *testing.T, spec *specs.Spec) []byte {
	t.Helper()
	text, err := Config(spec)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func create(t *testing.T, shim *Shim, b *Bundle) (*taskapi.CreateTaskResponse, error) {
	t.Helper()
	return shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: b.ID, Bundle: b.Path})
}

// refused checks an error of the shim: that there is one, its kind, and that it names things.
func refused(t *testing.T, err error, kind error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	if kind != nil && !errors.Is(errgrpc.ToNative(err), kind) {
		t.Errorf("error is not %q: %v", kind, err)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error lacks %q: %v", p, err)
		}
	}
}

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

func TestMissingConfig(t *testing.T) {
	s := newSetup(t)
	b := s.bundle(t, "missing", nil)
	shim := s.started(t, b) // a sandbox's bundle has none, so start goes on
	_, err := create(t, shim, b)
	refused(t, err, nil, "config.json", "no such file or directory")
}

func TestBrokenConfig(t *testing.T) {
	s := newSetup(t)
	b := s.bundle(t, "broken", []byte(`{"ociVersion": "1.0.2", "process": [}`))
	shim, err := s.Start(t.Context(), s.binary, b)
	if err != nil {
		refused(t, err, nil, "config.json")
		return
	}
	t.Cleanup(func() { s.end(t, shim, b) })
	_, err = create(t, shim, b)
	refused(t, err, nil, "config.json")
}

func TestNoProcess(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "true")
	spec.Process = nil
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	if _, err := create(t, shim, b); err != nil {
		t.Fatalf("create: %v", err)
	}
	_, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id})
	refused(t, err, nil, "process")
}

func TestEscapingRootfs(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "true")
	spec.Root.Path = "../../../../../../../../no/such"
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	_, err := create(t, shim, b)
	refused(t, err, nil, "root")
}

func TestDuplicateContainer(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "sleep", "1000")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	if _, err := create(t, shim, b); err != nil {
		t.Fatal(err)
	}
	_, err := create(t, shim, b)
	refused(t, err, errdefs.ErrAlreadyExists, id)
	if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
		t.Errorf("start of the first: %v", err)
	}
}

func TestInvalidID(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "true")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	for _, bad := range []string{"../up", "a/b", "..", ""} {
		_, err := shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: bad, Bundle: b.Path})
		refused(t, err, errdefs.ErrInvalidArgument)
	}
}

func TestUnknownStdioScheme(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "true")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	_, err := shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path, Stdout: "gopher:///x"})
	refused(t, err, nil, "unknown STDIO scheme", "gopher")
}

// TestNobodyReads: neither the create nor the end of a container waits for the reader of a FIFO.
func TestNobodyReads(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "sh", "-c", "echo into the void")
	b := s.bundle(t, id, config(t, spec))
	fifo := filepath.Join(b.Path, "stdout")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	shim := s.started(t, b)
	if _, err := shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path, Stdout: fifo}); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
}

func TestUnwritableStateRoot(t *testing.T) {
	s := newSetup(t)
	s.binary.Options = runtimeOptions(t, `Root = "/proc/no-such-directory"`)
	id, spec := s.spec(t, "true")
	b := s.bundle(t, id, config(t, spec))
	shim, err := s.Start(t.Context(), s.binary, b)
	if err != nil {
		refused(t, err, nil, "/proc/no-such-directory")
		return
	}
	t.Cleanup(func() { s.end(t, shim, b) })
	_, err = shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path, Options: s.binary.Options})
	refused(t, err, nil, "/proc/no-such-directory")
}

func TestBadOptions(t *testing.T) {
	for body, name := range map[string]string{`SystemdCgroup = "maybe"`: "SystemdCgroup", `NoSuchKey = 1`: "NoSuchKey", `= nonsense`: "TOML"} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t)
			id, spec := s.spec(t, "true")
			b := s.bundle(t, id, config(t, spec))
			s.binary.Options = runtimeOptions(t, body)
			shim, err := s.Start(t.Context(), s.binary, b)
			if err == nil {
				defer func() { s.end(t, shim, b) }()
				_, err = shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path, Options: s.binary.Options})
			}
			if name == "TOML" {
				name = ""
			}
			refused(t, err, nil, name)
		})
	}
}

func TestRuncOptions(t *testing.T) {
	s := newSetup(t)
	root := filepath.Join(filepath.Dir(s.SocketDir()), "state")
	any, err := anypb.New(&options.Options{Root: root, BinaryName: "ignored"})
	if err != nil {
		t.Fatal(err)
	}
	any.TypeUrl = "containerd.runc.v1.Options"
	s.binary.Options = any
	id, spec := s.spec(t, "sleep", "1000")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	if _, err := shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path, Options: any}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, s.namespace, id)); err != nil {
		t.Errorf("state in Root: %v", err)
	}
}

func runtimeOptions(t *testing.T, body string) *anypb.Any {
	t.Helper()
	any, err := anypb.New(&runtimeoptions.Options{TypeUrl: "io.containerd.gosuda.v2.options", ConfigBody: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	any.TypeUrl = "runtimeoptions.v1.Options"
	return any
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
