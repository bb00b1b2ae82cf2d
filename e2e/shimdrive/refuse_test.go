package shimdrive

import (
	"os"
	"path/filepath"
	"testing"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"
)

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

// TestNobodyReads: a FIFO without a reader is refused, and not waited for until the client gives up.
func TestNobodyReads(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "sh", "-c", "echo into the void")
	b := s.bundle(t, id, config(t, spec))
	fifo := filepath.Join(b.Path, "stdout")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	shim := s.started(t, b)
	_, err := shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path, Stdout: fifo})
	refused(t, err, errdefs.ErrFailedPrecondition, fifo, "nobody reads")
}

// TestReaderGoes: the reader of a FIFO goes before the container has written anything. Neither its end nor its delete waits.
func TestReaderGoes(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "sh", "-c", "echo into the void")
	b := s.bundle(t, id, config(t, spec))
	fifo := filepath.Join(b.Path, "stdout")
	reader := readFIFO(t, fifo)
	shim := s.started(t, b)
	if _, err := shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path, Stdout: fifo}); err != nil {
		t.Fatal(err)
	}
	reader.Close()
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
