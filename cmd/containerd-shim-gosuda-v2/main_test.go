package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// TestMain makes the test binary the shim when it is called as one: the verbs are tested as processes.
func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == attackPath && os.Args[1] == "collect":
		collect()
	case os.Args[0] == attackPath:
		os.Exit(0)
	case len(os.Args) > 1 && os.Args[1] == "-linger":
		linger()
		os.Exit(0)
	case filepath.Base(os.Args[0]) == "gosudacon":
		main()
	}
	for _, arg := range os.Args[1:] {
		if slices.Contains([]string{"-namespace", "-info", "-v", "-frobnicate"}, arg) {
			main()
			os.Exit(0)
		}
	}
	// Daemons, whose parent exits at once, become children of the test, which can then wait for them.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "become subreaper:", err)
		os.Exit(1)
	}
	code := m.Run()
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		fmt.Fprintf(os.Stderr, "a test left a process behind: %d, %v\n", pid, err)
		code = 1
	}
	os.Exit(code)
}

const testNamespace = "gosuda-test"

// bundle is a container's bundle as containerd makes it, and what is needed to call the shim for it.
type bundle struct {
	t         *testing.T
	id        string
	dir       string
	socketDir string
	stateRoot string   // Root of the recorded options
	env       []string // beside what containerd sets
	debug     bool
	program   string // the shim
}

// newBundle makes a bundle of its own, with its own directory of sockets and its own state root. annotations is the text
// of config.json's annotations.
func newBundle(t *testing.T, annotations string) *bundle {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the shim's sockets and mounts")
	}
	top, err := os.MkdirTemp("", "gosuda") // t.TempDir's names are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(top); err != nil {
			t.Error(err)
		}
	})
	b := &bundle{t: t, id: filepath.Base(top), socketDir: filepath.Join(top, "s"), stateRoot: filepath.Join(top, "root"), program: os.Args[0]}
	b.dir = filepath.Join(top, testNamespace, b.id)
	b.make(annotations)
	return b
}

// beside makes another container's bundle, with the same sockets and state root.
func (b *bundle) beside(annotations string) *bundle {
	b.t.Helper()
	other := *b
	for exists(other.dir) {
		other.id += "-"
		other.dir += "-"
	}
	other.make(annotations)
	return &other
}

func (b *bundle) make(annotations string) {
	b.t.Helper()
	if annotations == "" {
		annotations = "{}"
	}
	for _, err := range []error{
		os.MkdirAll(filepath.Join(b.dir, "rootfs"), 0o700),
		os.WriteFile(filepath.Join(b.dir, "config.json"), []byte(`{"ociVersion":"1.2.0","annotations":`+annotations+`}`), 0o600),
		os.WriteFile(filepath.Join(b.dir, "options.json"), []byte(`{"root":"`+b.stateRoot+`"}`), 0o600),
		unix.Mkfifo(filepath.Join(b.dir, "log"), 0o700),
	} {
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// grpcAddress is containerd's socket. It does not exist, but is a part of the shim's socket name.
func (b *bundle) grpcAddress() string { return filepath.Join(b.socketDir, "containerd.sock") }

// command is how containerd calls a verb.
func (b *bundle) command(verb string, stdin []byte) *exec.Cmd {
	args := []string{"-namespace", testNamespace, "-address", b.grpcAddress(), "-publish-binary", "/usr/bin/containerd", "-id", b.id}
	if verb == "delete" {
		args = append(args, "-bundle", b.dir)
	}
	if b.debug {
		args = append(args, "-debug")
	}
	cmd := exec.Command(b.program, append(args, verb)...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2", "MAX_SHIM_VERSION=2", "NAMESPACE="+testNamespace, "TTRPC_ADDRESS="+b.grpcAddress()+".ttrpc",
		"GRPC_ADDRESS="+b.grpcAddress(), "SECRET=swordfish")
	cmd.Env = append(cmd.Env, b.env...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// params is the input of start since containerd 2.3.
func (b *bundle) params(extensions ...proto.Message) []byte {
	b.t.Helper()
	p := &bootapi.BootstrapParams{
		InstanceID: b.id, Namespace: testNamespace, ContainerdVersion: "2.4.2", ContainerdBinary: "/usr/bin/containerd",
		ContainerdGrpcAddress: b.grpcAddress(), ContainerdTtrpcAddress: b.grpcAddress() + ".ttrpc", SocketDir: &b.socketDir,
	}
	for _, m := range extensions {
		if err := p.AddExtension(m); err != nil {
			b.t.Fatal(err)
		}
	}
	return marshal(b.t, p)
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	text, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// start calls start as containerd 2.3 does and returns the address. The daemon is ended with the test.
func (b *bundle) start(extensions ...proto.Message) string {
	b.t.Helper()
	out, err := b.command("start", b.params(extensions...)).CombinedOutput()
	if err != nil {
		b.t.Fatalf("start: %v: %s", err, out)
	}
	var r bootapi.BootstrapResult
	if err := proto.Unmarshal(out, &r); err != nil {
		b.t.Fatalf("decode %q: %v", out, err)
	}
	b.endWithTest(r.Address)
	return r.Address
}

func (b *bundle) endWithTest(address string) {
	pid := shimPid(b.t, address)
	b.t.Cleanup(func() { end(b.t, pid, unix.SIGKILL) })
}

// path returns the path of an address.
func path(address string) string { return strings.TrimPrefix(address, "unix://") }

// shimPid asks the shim for its pid.
func shimPid(t *testing.T, address string) int {
	t.Helper()
	conn, err := net.Dial("unix", path(address))
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := task.NewTTRPCTaskClient(client).Connect(ctx, &task.ConnectRequest{ID: "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	return int(r.ShimPid)
}

// end signals a daemon and waits for its end. One that ended before is fine.
func end(t *testing.T, pid int, signal syscall.Signal) {
	t.Helper()
	unix.Kill(pid, signal)
	for {
		_, err := unix.Wait4(pid, nil, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil && err != unix.ECHILD {
			t.Errorf("wait for shim %d: %v", pid, err)
		}
		return
	}
}

// children returns the pids of the test's children.
func children(t *testing.T) []string {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, task := range tasks {
		text, err := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		if err == nil {
			pids = append(pids, strings.Fields(string(text))...)
		}
	}
	return pids
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// fails runs cmd, which must fail with a text that contains want and with nothing left behind.
func (b *bundle) fails(cmd *exec.Cmd, want string) {
	b.t.Helper()
	before := children(b.t)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), want) {
		b.t.Errorf("got %v, %q, want %q", err, out, want)
	}
	if after := children(b.t); len(after) != len(before) {
		b.t.Errorf("processes left: %v", after)
	}
	if entries, _ := os.ReadDir(b.socketDir); len(entries) > 0 {
		b.t.Errorf("sockets left: %v", entries)
	}
}
