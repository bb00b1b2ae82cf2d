package task

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gosuda/gosudacon/internal/wire"
	"github.com/gosuda/gosudacon/shim/events"
	"github.com/gosuda/gosudacon/shim/rpc"
)

// shim is a task service behind a socket, with a client of it.
type shim struct {
	t         *testing.T
	root      string // of the state
	client    api.TTRPCTaskService
	raw       *ttrpc.Client
	server    *rpc.Server
	service   *Service
	shutdowns chan struct{}

	mu      sync.Mutex
	changed *sync.Cond
	seen    []string // "topic id", in the order of arrival
}

func newShim(t *testing.T) *shim {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Fatal("the containers' programs need /bin/busybox, of Debian's busybox-static, which make test-unit installs")
	}
	noFilesLeft(t)
	s := &shim{t: t, root: t.TempDir(), shutdowns: make(chan struct{}, 10)}
	s.changed = sync.NewCond(&s.mu)
	s.service = New(Config{
		Namespace: "testns",
		Publish:   s.publish,
		Shutdown:  func() { s.shutdowns <- struct{}{} },

		LeaveOrphans: true,
	})
	s.server = rpc.NewServer(slog.New(slog.DiscardHandler))
	s.service.Register(s.server)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { s.server.Serve(context.Background(), l) })
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s.raw = ttrpc.NewClient(conn)
	s.client = api.NewTTRPCTaskClient(s.raw)
	t.Cleanup(func() {
		s.removeAll()
		s.raw.Close()
		s.server.Close()
		serving.Wait()
	})
	return s
}

// noFilesLeft fails the test if it ends with more open files than it has now. What closes them may still be on its way.
func noFilesLeft(t *testing.T) {
	t.Helper()
	before := openFiles(t)
	t.Cleanup(func() {
		for end := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
			after := openFiles(t)
			if len(after) <= len(before) {
				return
			}
			if time.Now().After(end) {
				t.Errorf("files before: %q\nafter: %q", before, after)
				return
			}
		}
	})
}

func openFiles(t *testing.T) []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		name, err := os.Readlink("/proc/self/fd/" + e.Name())
		switch {
		case err != nil: // the directory itself, which is closed again
		case name == "/proc", name == "/dev/null", strings.HasPrefix(name, "pid:"): // what an engine keeps open
		default:
			names = append(names, name)
		}
	}
	return names
}

// publish records events. Only the fields that all messages share are looked at.
func (s *shim) publish(e events.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, describe(e))
	s.changed.Broadcast()
}

// describe says what an event is about: "exit c1" or "exit c1/e1".
func describe(e events.Event) string {
	var container, exec string
	for f, err := range wire.Fields(e.Body) {
		if err != nil {
			return err.Error()
		}
		switch {
		case f.Num == 1:
			container = f.String()
		case f.Num == 2 && f.Bytes != nil && e.Topic != "/tasks/create", f.Num == 5 && e.Topic == "/tasks/delete":
			exec = f.String()
		}
	}
	if exec != "" && exec != container {
		container += "/" + exec
	}
	return strings.TrimPrefix(e.Topic, "/tasks/") + " " + container
}

// events returns what was published of a container.
func (s *shim) events(id string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var of []string
	for _, e := range s.seen {
		_, subject, _ := strings.Cut(e, " ")
		if c, _, _ := strings.Cut(subject, "/"); c == id {
			of = append(of, e)
		}
	}
	return of
}

// removeAll deletes what a test has left.
func (s *shim) removeAll() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.service.mu.Lock()
	var ids []string
	for id := range s.service.tasks {
		ids = append(ids, id)
	}
	s.service.mu.Unlock()
	for _, id := range ids {
		s.client.Kill(ctx, &api.KillRequest{ID: id, Signal: 9, All: true})
		s.client.Resume(ctx, &api.ResumeRequest{ID: id})
		if r, err := s.client.State(ctx, &api.StateRequest{ID: id}); err == nil && r.Pid != 0 {
			s.client.Wait(ctx, &api.WaitRequest{ID: id})
		}
		if _, err := s.client.Delete(ctx, &api.DeleteRequest{ID: id}); err != nil {
			s.t.Errorf("delete %s: %v", id, err)
		}
	}
}

// spec is a small container of a shell command.
func spec(args ...string) *specs.Spec {
	return &specs.Spec{
		Version: "1.0.2",
		Root:    &specs.Root{Path: "rootfs"},
		Process: &specs.Process{
			Args: args,
			Env:  []string{"PATH=/bin"},
			Cwd:  "/",
			Capabilities: &specs.LinuxCapabilities{
				Bounding: []string{"CAP_KILL"}, Effective: []string{"CAP_KILL"}, Permitted: []string{"CAP_KILL"},
			},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666", "mode=0620"}},
		},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: "pid"}, {Type: "ipc"}, {Type: "uts"}, {Type: "mount"}, {Type: "network"}}},
	}
}

func sh(script string) *specs.Spec { return spec("/bin/sh", "-c", script) }

// request makes a bundle for the spec.
func (s *shim) request(id string, config *specs.Spec) *api.CreateTaskRequest {
	s.t.Helper()
	bundle := s.t.TempDir()
	if config.Linux != nil {
		config.Linux.CgroupsPath = "/gosuda-task-test-" + id
	}
	s.write(filepath.Join(bundle, "config.json"), config)
	if err := os.Mkdir(filepath.Join(bundle, "rootfs"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	return &api.CreateTaskRequest{
		ID:      id,
		Bundle:  bundle,
		Rootfs:  []*types.Mount{{Type: "bind", Source: rootfs(s.t), Options: []string{"rbind", "ro"}}},
		Options: &anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: wire.AppendString(nil, 7, s.root)},
	}
}

func (s *shim) write(path string, v any) {
	s.t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// rootfs makes the root file system of all containers of a test.
func rootfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"bin", "proc", "dev", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	in, err := os.Open("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(dir, "bin/busybox"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	for _, applet := range []string{"sh", "cat", "sleep", "true", "false", "stty", "echo"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// output makes a FIFO and collects what is written to it.
func (s *shim) output() (string, func() string) {
	s.t.Helper()
	path, f := s.reader()
	var all []byte
	done := make(chan struct{})
	return path, func() string {
		// Only now there is a writer, without which a FIFO has an end.
		go func() {
			all, _ = io.ReadAll(f)
			f.Close()
			close(done)
		}()
		<-done
		return string(all)
	}
}

// reader makes a FIFO and opens it as a client does, before there is a writer.
func (s *shim) reader() (path string, f *os.File) {
	s.t.Helper()
	path = s.fifo()
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return path, f
}

// idleFIFO makes a FIFO whose reader never reads.
func (s *shim) idleFIFO() string {
	s.t.Helper()
	path, f := s.reader()
	s.t.Cleanup(func() { f.Close() })
	return path
}

func (s *shim) fifo() string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// The calls of a test that must not fail.

func (s *shim) create(r *api.CreateTaskRequest) uint32 {
	s.t.Helper()
	answer, err := s.client.Create(s.t.Context(), r)
	if err != nil {
		s.t.Fatalf("create %s: %v", r.ID, err)
	}
	return answer.Pid
}

func (s *shim) start(id, exec string) uint32 {
	s.t.Helper()
	answer, err := s.client.Start(s.t.Context(), &api.StartRequest{ID: id, ExecID: exec})
	if err != nil {
		s.t.Fatalf("start %s/%s: %v", id, exec, err)
	}
	return answer.Pid
}

func (s *shim) wait(id, exec string) uint32 {
	s.t.Helper()
	answer, err := s.client.Wait(s.t.Context(), &api.WaitRequest{ID: id, ExecID: exec})
	if err != nil {
		s.t.Fatalf("wait %s/%s: %v", id, exec, err)
	}
	return answer.ExitStatus
}

func (s *shim) delete(id, exec string) *api.DeleteResponse {
	s.t.Helper()
	answer, err := s.client.Delete(s.t.Context(), &api.DeleteRequest{ID: id, ExecID: exec})
	if err != nil {
		s.t.Fatalf("delete %s/%s: %v", id, exec, err)
	}
	return answer
}

func (s *shim) state(id, exec string) *api.StateResponse {
	s.t.Helper()
	answer, err := s.client.State(s.t.Context(), &api.StateRequest{ID: id, ExecID: exec})
	if err != nil {
		s.t.Fatalf("state %s/%s: %v", id, exec, err)
	}
	return answer
}

func (s *shim) kill(id, exec string, signal uint32) {
	s.t.Helper()
	if _, err := s.client.Kill(s.t.Context(), &api.KillRequest{ID: id, ExecID: exec, Signal: signal}); err != nil {
		s.t.Fatalf("kill %s/%s: %v", id, exec, err)
	}
}

// addExec adds a shell command.
func (s *shim) addExec(r *api.ExecProcessRequest, args ...string) {
	s.t.Helper()
	if _, err := s.client.Exec(s.t.Context(), execRequest(r, args...)); err != nil {
		s.t.Fatalf("exec %s/%s: %v", r.ID, r.ExecID, err)
	}
}

func execRequest(r *api.ExecProcessRequest, args ...string) *api.ExecProcessRequest {
	text, err := json.Marshal(&specs.Process{Args: args, Env: []string{"PATH=/bin"}, Cwd: "/"})
	if err != nil {
		panic(err)
	}
	r.Spec = &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: text}
	return r
}

// refused checks the code of an error and that its text has the parts.
func refused(t *testing.T, what string, err error, code codes.Code, parts ...string) {
	t.Helper()
	if err == nil || status.Code(err) != code {
		t.Errorf("%s: got %v (%v), want %v", what, err, status.Code(err), code)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %q does not say %q", what, err, part)
		}
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func equalEvents(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("events %q\nwant   %q", got, want)
	}
}

func gone(pid uint32) bool { return errors.Is(unix.Kill(int(pid), 0), unix.ESRCH) }

// nothingLeft checks that a container has left no state, cgroup or mount.
func (s *shim) nothingLeft(r *api.CreateTaskRequest) {
	s.t.Helper()
	if _, err := os.Stat(filepath.Join(s.root, "testns", r.ID)); !errors.Is(err, os.ErrNotExist) {
		s.t.Errorf("state is left: %v", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		s.t.Fatal(err)
	}
	if strings.Contains(string(mounts), r.Bundle) {
		s.t.Error("a mount is left in the bundle")
	}
	cgroups, _ := exec.Command("find", "/sys/fs/cgroup", "-path", "*/gosuda-task-test-"+r.ID).Output()
	if len(cgroups) > 0 {
		s.t.Errorf("cgroups are left: %s", cgroups)
	}
}
