package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types"
	runc "github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func socketName(b *bundle, group string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(b.grpcAddress()+"/"+testNamespace+"/"+group)))
}

func TestStart(t *testing.T) {
	b := newBundle(t, "")
	out, err := b.command("start", b.params(timestamppb.Now())).Output()
	if err != nil {
		t.Fatal(err)
	}
	var r bootapi.BootstrapResult
	if err := proto.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	b.endWithTest(r.Address)
	if want := "unix://" + filepath.Join(b.socketDir, socketName(b, b.id)); r.Version != 3 || r.Protocol != "ttrpc" || r.Address != want {
		t.Errorf("got %v, want %s", &r, want)
	}
	if found, err := r.FindExtension(&types.MountCapabilities{}); !found || err != nil {
		t.Errorf("MountCapabilities: %t, %v", found, err)
	}
	if link, err := os.Readlink(filepath.Join(b.dir, "s")); link != b.socketDir {
		t.Errorf("s: got %q, %v", link, err)
	}
	// containerd before 2.0 reconnects by it.
	if text, err := os.ReadFile(filepath.Join(b.dir, "address")); string(text) != r.Address {
		t.Errorf("address: got %q, %v", text, err)
	}
	for name, want := range map[string]os.FileMode{b.socketDir: os.ModeDir | 0o700, path(r.Address): os.ModeSocket | 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: got %v, %v", name, info.Mode(), err)
		}
	}
}

// TestStartClosesItsOutput: containerd reads stdout and stderr, one pipe, until nobody holds it. Start must not say more
// than its answer there.
func TestStartClosesItsOutput(t *testing.T) {
	b := newBundle(t, "")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := b.command("start", b.params())
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	// The daemon lives now: if it held the pipe, the read that follows the answer would find no end of file.
	if err := unix.SetNonblock(int(r.Fd()), true); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := unix.Read(int(r.Fd()), buf)
	if err != nil {
		t.Fatal(err)
	}
	var result bootapi.BootstrapResult
	if err := proto.Unmarshal(buf[:n], &result); err != nil {
		t.Fatalf("decode %q: %v", buf[:n], err)
	}
	b.endWithTest(result.Address)
	if n, err := unix.Read(int(r.Fd()), buf); n != 0 || err != nil {
		t.Errorf("after the answer: %d bytes %q, %v; want the end of file", n, buf[:max(n, 0)], err)
	}
}

// TestStartLegacy: containerd 1.7 to 2.2 sends the options' Any and reads JSON; 1.6 reads an address.
func TestStartLegacy(t *testing.T) {
	withoutDir := func(b *bundle) { // nobody can tell the directory of the sockets in this protocol
		t.Cleanup(func() { os.Remove("/run/containerd/s"); os.Remove("/run/containerd") })
		b.socketDir = "/run/containerd/s"
	}
	options, err := anypb.New(&runc.Options{SystemdCgroup: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, input := range map[string][]byte{"options": marshal(t, options), "none": nil} {
		t.Run("1.7 "+name, func(t *testing.T) {
			b := newBundle(t, "")
			withoutDir(b)
			out, err := b.command("start", input).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var r struct {
				Version           int
				Address, Protocol string
			}
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatalf("%q: %v", out, err)
			}
			b.endWithTest(r.Address)
			t.Cleanup(func() { os.Remove(path(r.Address)) })
			if r.Version != 2 || r.Protocol != "ttrpc" || r.Address != "unix:///run/containerd/s/"+socketName(b, b.id) {
				t.Errorf("got %+v", r)
			}
		})
		t.Run("1.6 "+name, func(t *testing.T) {
			b := newBundle(t, "")
			withoutDir(b)
			cmd := b.command("start", input)
			cmd.Env = slices.DeleteFunc(cmd.Env, func(kv string) bool { return strings.HasPrefix(kv, "MAX_SHIM_VERSION=") })
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if string(out) != "unix:///run/containerd/s/"+socketName(b, b.id) {
				t.Fatalf("got %q", out)
			}
			b.endWithTest(string(out))
			t.Cleanup(func() { os.Remove(path(string(out))) })
		})
	}
}

func TestStartSharesTheShimOfAGroup(t *testing.T) {
	for _, annotation := range []string{"io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"} {
		t.Run(annotation, func(t *testing.T) {
			first := newBundle(t, `{"`+annotation+`":"the-group"}`)
			address := first.start()
			if filepath.Base(address) != socketName(first, "the-group") {
				t.Errorf("got %s", address)
			}
			pid := shimPid(t, address)

			second := first.beside(`{"` + annotation + `":"the-group"}`)
			if got := second.start(); got != address {
				t.Errorf("got %s, want %s", got, address)
			}
			if got := shimPid(t, address); got != pid {
				t.Errorf("another shim, %d, serves the group", got)
			}
			if text, err := os.ReadFile(filepath.Join(second.dir, "address")); string(text) != address {
				t.Errorf("address: got %q, %v", text, err)
			}
			third := first.beside("")
			if got := third.start(); got == address {
				t.Error("a container without the annotation shares the shim")
			}
		})
	}
}

func TestStartReplacesADeadShim(t *testing.T) {
	b := newBundle(t, "")
	address := b.start()
	pid := shimPid(t, address)
	end(t, pid, unix.SIGKILL)
	if !exists(path(address)) {
		t.Fatal("a killed shim removed its socket")
	}
	if got := b.start(); got != address {
		t.Errorf("got %s, want %s", got, address)
	}
	if got := shimPid(t, address); got == pid {
		t.Error("the dead shim answers")
	}
}

// TestStartWithoutConfig: the bundle of a sandbox has none.
func TestStartWithoutConfig(t *testing.T) {
	b := newBundle(t, "")
	if err := os.Remove(filepath.Join(b.dir, "config.json")); err != nil {
		t.Fatal(err)
	}
	if got := b.start(); filepath.Base(got) != socketName(b, b.id) {
		t.Errorf("got %s", got)
	}
}

func TestStartIgnoresUnknownOptions(t *testing.T) {
	b := newBundle(t, "")
	b.start(&types.RuntimeInfo{Name: "not options"})
	options, err := anypb.New(&types.RuntimeInfo{Name: "not options"})
	if err != nil {
		t.Fatal(err)
	}
	legacy := newBundle(t, "")
	out, err := legacy.command("start", marshal(t, options)).Output()
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ Address string }
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	legacy.endWithTest(r.Address)
	t.Cleanup(func() { os.Remove(path(r.Address)); os.Remove("/run/containerd/s"); os.Remove("/run/containerd") })
}

func TestStartFailures(t *testing.T) {
	toml := func(text string) proto.Message { return &runtimeoptions.Options{ConfigBody: []byte(text)} }
	b := newBundle(t, "")
	b.fails(b.command("start", b.params(toml("NoSuchKey = 1"))), "runtime option NoSuchKey: unknown")
	b.fails(b.command("start", b.params(toml("IoUid = true"))), "runtime option IoUid: ")
	b.fails(b.command("start", []byte("hello")), "neither bootstrap parameters nor runtime options")
	b.fails(b.command("stop", nil), `unknown verb "stop"`)

	// After the daemon was started: it must not survive.
	b.fails(b.command("start", b.params(&runc.Options{ShimCgroup: "/no/such/cgroup"})), "join cgroup /no/such/cgroup")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cmd := b.command("start", b.params())
	cmd.Stdout = full
	if err := cmd.Run(); err == nil || len(children(t)) > 0 {
		t.Errorf("answer that cannot be written: %v, processes left %v", err, children(t))
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd = b.command("start", b.params())
	cmd.Stdout = w
	err = cmd.Run()
	w.Close()
	if err == nil || len(children(t)) > 0 {
		t.Errorf("answer that nobody reads: %v, processes left %v", err, children(t))
	}
	if entries, _ := os.ReadDir(b.socketDir); len(entries) > 0 {
		t.Errorf("sockets left: %v", entries)
	}

	b.socketDir = "/tmp/" + strings.Repeat("long", 12)
	b.fails(b.command("start", b.params()), "longer than 42 bytes")
	b.socketDir = "/dev/null/s"
	b.fails(b.command("start", b.params()), "make socket directory")

	broken := newBundle(t, `{"io.containerd.runc.v2.group":`)
	broken.fails(broken.command("start", broken.params()), "decode config.json")
}

// TestStartSchedCore: where the kernel cannot isolate the shim's core, start says so and leaves nothing behind.
func TestStartSchedCore(t *testing.T) {
	b := newBundle(t, "")
	b.env = append(b.env, "SCHED_CORE=1")
	const threadGroup, create = 1, unix.PR_SCHED_CORE_CREATE
	if err := unix.Prctl(unix.PR_SCHED_CORE, create, 0, threadGroup, 0); err != nil {
		b.fails(b.command("start", b.params()), "enable core scheduling: "+err.Error())
		t.Skipf("the kernel has no core scheduling here: %v", err)
	}
	b.start()
}

// TestStartJoinsShimCgroup checks every hierarchy that has the cgroup.
func TestStartJoinsShimCgroup(t *testing.T) {
	b := newBundle(t, "")
	name := "/" + b.id
	var dirs []string
	mounts, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if exists("/sys/fs/cgroup/cgroup.controllers") {
		mounts = []string{"/sys/fs/cgroup/cgroup.procs"}
	}
	for _, m := range mounts {
		dir := filepath.Dir(m) + name
		var st unix.Statfs_t
		if err := unix.Statfs(filepath.Dir(m), &st); err != nil || (len(mounts) > 1 && st.Type == unix.CGROUP2_SUPER_MAGIC) ||
			strings.Contains(m, "cpuset") { // has to be configured before anybody joins
			continue
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			if exists(dir) { // two mount points of one hierarchy
				continue
			}
			t.Skipf("cgroups cannot be made: %v", err)
		}
		dirs = append(dirs, dir)
		t.Cleanup(func() { unix.Rmdir(dir) })
	}
	if len(dirs) == 0 {
		t.Skip("no cgroup hierarchy is mounted")
	}
	address := b.start(&runc.Options{ShimCgroup: name})
	pid := shimPid(t, address)
	for _, dir := range dirs {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(pid) {
			t.Errorf("%s: got %q, %v, want %d", dir, text, err, pid)
		}
	}
	end(t, pid, unix.SIGKILL)
}
