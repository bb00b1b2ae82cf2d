package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types"
	runc "github.com/containerd/containerd/api/types/runc/options"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// delete calls delete as containerd does, and expects it to have nothing to complain about.
func (b *bundle) delete() *task.DeleteResponse {
	b.t.Helper()
	cmd := b.command("delete", nil)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		b.t.Fatalf("delete: %v, %q", err, &stderr)
	}
	r := &task.DeleteResponse{}
	if err := proto.Unmarshal(out, r); err != nil {
		b.t.Fatal(err)
	}
	return r
}

func TestDeleteOfNothing(t *testing.T) {
	b := newBundle(t, "")
	before := time.Now()
	for range 2 {
		r := b.delete()
		if at := r.ExitedAt.AsTime(); r.Pid != 0 || r.ExitStatus != 137 || at.Before(before) || at.After(time.Now()) {
			t.Errorf("got %v", r)
		}
	}
	// Even without a bundle: another delete was faster.
	gone := b.command("delete", nil)
	gone.Dir = "/"
	if err := os.RemoveAll(b.dir); err != nil {
		t.Fatal(err)
	}
	if out, err := gone.CombinedOutput(); err != nil {
		t.Errorf("without a bundle: %v, %q", err, out)
	}
}

func TestDeleteRemovesTheSocketOfADeadShim(t *testing.T) {
	// The socket is named after the group, not after the container.
	b := newBundle(t, `{"io.containerd.runc.v2.group":"the-group"}`)
	b.debug = true
	address := b.start()
	pid := shimPid(t, address)

	b.delete()
	if entries, err := os.ReadDir(b.socketDir); len(entries) != 2 {
		t.Errorf("sockets of the live shim: %v, %v", entries, err)
	}
	if got := shimPid(t, address); got != pid {
		t.Errorf("another shim: %d", got)
	}
	end(t, pid, unix.SIGKILL)
	b.delete()
	if entries, err := os.ReadDir(b.socketDir); len(entries) != 0 {
		t.Errorf("sockets of the dead shim: %v, %v", entries, err)
	}
}

func TestDeleteUnmountsTheRootfs(t *testing.T) {
	b := newBundle(t, "")
	rootfs := filepath.Join(b.dir, "rootfs")
	t.Cleanup(func() { unix.Unmount(rootfs, unix.MNT_DETACH); unix.Unmount(rootfs, unix.MNT_DETACH) })
	for range 2 {
		if err := unix.Mount("tmpfs", rootfs, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(rootfs, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", filepath.Join(rootfs, "sub"), "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	b.delete()
	if text := proc(t, os.Getpid(), "mountinfo"); strings.Contains(text, rootfs) {
		t.Errorf("mounts left: %s", text)
	}
}

// TestDeleteOfRuncsContainer: this program took the place of containerd-shim-runc-v2 while a container ran.
func TestDeleteOfRuncsContainer(t *testing.T) {
	b := newBundle(t, "")
	init := exec.Command("sleep", "1000")
	if err := init.Start(); err != nil {
		t.Fatal(err)
	}
	dead := make(chan error, 1)
	go func() { dead <- init.Wait() }()
	t.Cleanup(func() { init.Process.Kill() })
	stat := proc(t, init.Process.Pid, "stat")
	start, err := strconv.ParseUint(strings.Fields(stat[strings.LastIndex(stat, ")")+1:])[19], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(b.stateRoot, testNamespace, b.id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	state := func(start uint64, cgroups map[string]string) {
		t.Helper()
		text, err := json.Marshal(map[string]any{"id": b.id, "init_process_pid": init.Process.Pid, "init_process_start": start, "cgroup_paths": cgroups})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{
			os.WriteFile(filepath.Join(dir, "state.json"), text, 0o600),
			os.WriteFile(filepath.Join(b.dir, "init.pid"), fmt.Append(nil, init.Process.Pid), 0o600),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}

	// Another process has the pid now: it is not touched.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	state(start+1, nil)
	if r := b.delete(); int(r.Pid) != init.Process.Pid || r.ExitStatus != 137 {
		t.Errorf("got %v", r)
	}
	select {
	case err := <-dead:
		t.Fatalf("a process that only has the pid was killed: %v", err)
	default:
	}
	if exists(dir) {
		t.Error("runc's state is left")
	}

	// The real one, with a child in a cgroup of its own.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cgroup, child := childInCgroup(t, b.id)
	state(start, map[string]string{"pids": cgroup})
	if r := b.delete(); int(r.Pid) != init.Process.Pid || r.ExitStatus != 137 {
		t.Errorf("got %v", r)
	}
	if err := <-dead; err == nil {
		t.Error("init was not killed")
	}
	if cgroup != "" {
		if err := <-child; err == nil {
			t.Error("the process in the cgroup was not killed")
		}
	}
	if exists(dir) || cgroup != "" && exists(cgroup) {
		t.Error("runc's state or cgroup is left")
	}
}

// childInCgroup starts a process in a new cgroup; cgroup is "" where none can be made.
func childInCgroup(t *testing.T, name string) (cgroup string, dead <-chan error) {
	t.Helper()
	for _, hierarchy := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		cgroup = filepath.Join(hierarchy, name)
		if !exists(filepath.Join(hierarchy, "cgroup.procs")) || os.Mkdir(cgroup, 0o755) != nil {
			continue
		}
		inner := filepath.Join(cgroup, "inner")
		t.Cleanup(func() { unix.Rmdir(inner); unix.Rmdir(cgroup) })
		if err := os.Mkdir(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill() })
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		if err := os.WriteFile(filepath.Join(inner, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
			t.Fatal(err)
		}
		return cgroup, done
	}
	t.Log("no cgroup can be made: only init is killed")
	return "", nil
}

// TestDeleteSaysWhatItCouldNotDo, and answers all the same.
func TestDeleteSaysWhatItCouldNotDo(t *testing.T) {
	b := newBundle(t, "")
	if err := os.WriteFile(filepath.Join(b.dir, "exit.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := b.command("delete", nil)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r task.DeleteResponse
	if err := proto.Unmarshal(out, &r); err != nil || r.ExitStatus != 137 {
		t.Errorf("got %v, %v", &r, err)
	}
	if text := stderr.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "read exit.json: ") {
		t.Errorf("stderr: %q", text)
	}
}

// deadMount mounts a file system that never answers, as one over the network does whose server is gone.
func deadMount(t *testing.T, dir string) {
	t.Helper()
	node := filepath.Join(t.TempDir(), "fuse")
	if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 229))); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		t.Skipf("the kernel has no FUSE: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) }) // ends whoever waits
	if err := unix.Mount("dead", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestDeleteThatIsStuckAnswers: containerd kills delete after 5 s, and keeps the bundle.
func TestDeleteThatIsStuckAnswers(t *testing.T) {
	b := newBundle(t, "")
	if err := os.Mkdir(b.stateRoot, 0o700); err != nil {
		t.Fatal(err)
	}
	deadMount(t, b.stateRoot)
	cmd := b.command("delete", nil)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	kill := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
	defer kill.Stop()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r task.DeleteResponse
	if err := proto.Unmarshal(out, &r); err != nil || r.ExitStatus != 137 {
		t.Errorf("got %v, %v", &r, err)
	}
	if text := stderr.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "clean up "+b.id+": still at it") {
		t.Errorf("stderr: %q", text)
	}
}

func TestInfo(t *testing.T) {
	options, err := anypb.New(&runc.Options{Root: "/r"})
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := anypb.New(&types.MountCapabilities{Types: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []*anypb.Any{nil, options, unknown} {
		var stdin []byte
		if want != nil {
			stdin = marshal(t, want)
		}
		cmd := exec.Command(os.Args[0], "-info")
		cmd.Stdin = bytes.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var info types.RuntimeInfo
		if err := proto.Unmarshal(out, &info); err != nil {
			t.Fatal(err)
		}
		if info.Name != "io.containerd.gosuda.v2" || info.Version.GetVersion() == "" || !proto.Equal(info.Options, want) {
			t.Errorf("got %v", &info)
		}
		if want := "types.containerd.io/opencontainers/runtime-spec/1/features/Features"; info.Features.GetTypeUrl() != want {
			t.Errorf("features: got %s", info.Features.GetTypeUrl())
		}
		var f features.Features
		if err := json.Unmarshal(info.Features.GetValue(), &f); err != nil || f.OCIVersionMax == "" || len(f.MountOptions) == 0 {
			t.Errorf("features: got %s, %v", info.Features.GetValue(), err)
		}
	}
}

func TestVersion(t *testing.T) {
	out, err := exec.Command(os.Args[0], "-v").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Version: ") || !strings.Contains(string(out), "Go version: go1.") {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestUnknownFlag(t *testing.T) {
	out, err := exec.Command(os.Args[0], "-frobnicate").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "-frobnicate") || strings.Count(string(out), "\n") != 1 {
		t.Errorf("got %q, %v", out, err)
	}
}
