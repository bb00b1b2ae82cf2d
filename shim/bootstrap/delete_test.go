package bootstrap

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/config"
)

func TestBundleOf(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ bundle, want string }{
		{"/b/ns/id", "/b/ns/id"},
		{"/b/ns/id/", "/b/ns/id"},
		{"/b/ns/sandbox", "/b/ns/id"}, // the sandbox's, for a container of it
		{"", filepath.Join(filepath.Dir(wd), "id")},
	} {
		if got, err := bundleOf(Flags{ID: "id", Bundle: c.bundle}); err != nil || got != c.want {
			t.Errorf("%q: got %q, %v", c.bundle, got, err)
		}
	}
	if _, err := bundleOf(Flags{ID: "id", Bundle: "b"}); err == nil {
		t.Error("a relative bundle passes")
	}
}

func TestEncodeExit(t *testing.T) {
	at := time.Unix(1700000000, 123456789)
	var got task.DeleteResponse
	if err := proto.Unmarshal(encodeExit(engine.Exit{Pid: 42, Status: 137, At: at}), &got); err != nil {
		t.Fatal(err)
	}
	if got.Pid != 42 || got.ExitStatus != 137 || !got.ExitedAt.AsTime().Equal(at) {
		t.Errorf("got %v", &got)
	}
}

func TestRecordedExit(t *testing.T) {
	bundle := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(bundle, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := recordedExit(bundle); err != nil || got.Pid != 0 || got.Status != 137 || got.At.IsZero() {
		t.Errorf("nothing: got %+v, %v", got, err)
	}
	write("init.pid", "7\n")
	if got, err := recordedExit(bundle); err != nil || got.Pid != 7 || got.Status != 137 {
		t.Errorf("init.pid: got %+v, %v", got, err)
	}
	// As go-runc's Exit encodes.
	write("exit.json", `{"Timestamp":"2024-01-02T03:04:05.6Z","Pid":8,"Status":3}`)
	if got, err := recordedExit(bundle); err != nil || got.Pid != 8 || got.Status != 3 || got.At.Year() != 2024 {
		t.Errorf("exit.json: got %+v, %v", got, err)
	}
	for _, broken := range []string{"{", "{}", `{"pid":1,"status":-1,"timestamp":"2024-01-02T03:04:05Z"}`} {
		write("exit.json", broken)
		if got, err := recordedExit(bundle); err == nil || got.Pid != 7 || got.Status != 137 {
			t.Errorf("%s: got %+v, %v", broken, got, err)
		}
	}
}

func TestReadRuncState(t *testing.T) {
	root := t.TempDir()
	if s, err := readRuncState(root, "id"); s != nil || err != nil {
		t.Errorf("nothing: got %+v, %v", s, err)
	}
	if err := os.Mkdir(filepath.Join(root, "id"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "id", "state.json")
	for text, want := range map[string]*runcState{
		`{"id":"id","init_process_pid":5,"init_process_start":99,"cgroup_paths":{"":"/sys/fs/cgroup/x"}}`: {
			dir: filepath.Join(root, "id"), Pid: 5, StartTime: 99, Cgroups: map[string]string{"": "/sys/fs/cgroup/x"},
		},
		`{"pid":5,"status":"running"}`: nil, // the engine's record
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readRuncState(root, "id")
		if err != nil || (got == nil) != (want == nil) || got != nil && (got.Pid != want.Pid || got.StartTime != want.StartTime || len(got.Cgroups) != 1) {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readRuncState(root, "id"); err == nil {
		t.Error("half a file passes")
	}
}

func TestCgroup1Mounts(t *testing.T) {
	const mountinfo = `25 30 0:23 / /sys rw - sysfs sysfs rw
32 25 0:28 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory
33 25 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 25 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`
	got := cgroup1Mounts(bufio.NewScanner(strings.NewReader(mountinfo)))
	if !slices.Equal(got, []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu,cpuacct"}) {
		t.Errorf("got %q", got)
	}
}

func TestDaemonEnvironment(t *testing.T) {
	env := []string{"PATH=/bin", "HTTP_PROXY=http://user:secret@proxy", "PATHOLOGY=x", "TTRPC_ADDRESS=/old", "GRPC_ADDRESS=/g", "NAMESPACE=old"}
	got := daemonEnvironment(Flags{Namespace: "ns", ID: "id"}, request{ttrpcAddress: "/t"}, env)
	want := []string{"GRPC_ADDRESS=/g", "PATH=/bin", "NAMESPACE=ns", "TTRPC_ADDRESS=/t", "OTEL_SERVICE_NAME=containerd-shim-id", "GOMAXPROCS=1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestRemoveSockets: those of a dead shim go, also of one that recorded only where they are; those of a living one stay.
func TestRemoveSockets(t *testing.T) {
	dir := testSocketDir(t)
	f := Flags{ID: "id", Namespace: "ns", Address: "/c.sock"}
	path, debug := socketPath(dir.Name(), f.Address, "ns", "id", false), socketPath(dir.Name(), f.Address, "ns", "id", true)
	for name, record := range map[string]func(bundle string) error{
		"address":   func(bundle string) error { return config.WriteAddress(bundle, unixScheme+path) },
		"directory": func(bundle string) error { return os.Symlink(dir.Name(), filepath.Join(bundle, socketDirLink)) },
	} {
		t.Run(name, func(t *testing.T) {
			bundle := t.TempDir()
			if err := record(bundle); err != nil {
				t.Fatal(err)
			}
			var sockets []int
			for _, p := range []string{path, debug} {
				fd, err := listen(dir, p)
				if err != nil {
					t.Fatal(err)
				}
				sockets = append(sockets, fd)
			}
			if err := removeSockets(f, bundle); err != nil || !exists(path) || !exists(debug) {
				t.Errorf("of a living shim: %v, exist %t and %t", err, exists(path), exists(debug))
			}
			for _, fd := range sockets {
				unix.Close(fd)
			}
			if err := removeSockets(f, bundle); err != nil || exists(path) || exists(debug) {
				t.Errorf("of a dead shim: %v, exist %t and %t", err, exists(path), exists(debug))
			}
		})
	}
}
