package shimdrive

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

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
	done := make(chan struct{})
	defer close(done)
	go func() {
		for patience := time.Minute; ; patience = time.Second { // a shim's end may bring its containers
			select {
			case <-time.After(patience):
				killChildren(t)
			case <-done:
				return
			}
		}
	}()
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); errors.Is(err, unix.ECHILD) {
			return
		}
	}
}

func killChildren(t *testing.T) {
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
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := shim.Task.Kill(ctx, &taskapi.KillRequest{ID: b.ID, Signal: uint32(unix.SIGKILL), All: true}); err == nil {
		if _, err := shim.Task.Wait(ctx, &taskapi.WaitRequest{ID: b.ID}); err != nil {
			t.Errorf("wait: %v", err)
		}
	}
	if _, err := shim.Task.Delete(ctx, &taskapi.DeleteRequest{ID: b.ID}); err != nil && !errors.Is(errgrpc.ToNative(err), errdefs.ErrNotFound) {
		t.Errorf("delete: %v", err)
	}
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
// readFIFO makes a FIFO and opens it as a client does, before there is a writer.
func readFIFO(t *testing.T, path string) *os.File {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

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
