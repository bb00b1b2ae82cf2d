package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// rootlessID is the user and the group of these tests, who need not exist.
const rootlessID = 61501

// rootless is a process without privileges that leads a container through its life and prints what it sees: "STEP: result". It
// stops at the first failure.
func rootless() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var kinds []string
	e, err := engine.New(engine.Options{Root: os.Getenv("ROOT"), OnEvent: func(ev engine.Event) { kinds = append(kinds, strconv.Itoa(int(ev.Kind))) }})
	if err != nil {
		fmt.Println("engine:", err)
		return
	}
	step := func(name string, err error) {
		if err != nil {
			fmt.Printf("%s: %v\n", name, err)
			os.Exit(0)
		}
	}
	r, w, err := os.Pipe()
	step("pipe", err)
	c, err := e.Create(ctx, engine.CreateRequest{ID: os.Getenv("ID"), Bundle: os.Getenv("BUNDLE"), Stdio: engine.Stdio{Out: w, Err: w}})
	step("create", err)
	w.Close()
	step("start", c.Start(ctx))
	var said []byte // until it has said what it has to say
	for buf := make([]byte, 1); !bytes.HasSuffix(said, []byte("started\n")); said = append(said, buf...) {
		if _, err := r.Read(buf); err != nil {
			step("read "+string(said), err)
		}
	}
	step("add exec", c.AddExec(ctx, engine.ExecRequest{ID: "x", Process: &specs.Process{Args: []string{"sh", "-c", "id -u; cat /proc/self/cgroup; tty"}, Cwd: "/",
		Env: []string{"PATH=/bin"}, Terminal: true}}))
	_, console, err := c.StartExec(ctx, "x", engine.Stdio{})
	step("start exec", err)
	out, _ := io.ReadAll(console) // EIO is its end
	console.Close()
	fmt.Printf("exec: %q\n", out)
	_, err = c.Wait(ctx, "x")
	step("wait exec", err)
	_, err = c.DeleteExec(ctx, "x")
	step("delete exec", err)
	pids, err := c.Pids()
	step("pids", err)
	fmt.Println("pids:", len(pids))
	err = c.Pause(ctx)
	fmt.Println("pause:", err)
	if err == nil {
		step("resume", c.Resume(ctx))
		step("update", c.Update(ctx, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(20))}}))
		var s *engine.Stats
		s, err = c.Stats()
		step("stats", err)
		switch {
		case s.V2 != nil:
			fmt.Println("limit:", s.V2.Pids.Limit)
		case s.V1 != nil && s.V1.Pids != nil:
			fmt.Println("limit:", s.V1.Pids.Limit)
		}
	}
	step("kill", c.Kill(ctx, "", uint32(unix.SIGKILL), true))
	exit, err := c.Wait(ctx, "")
	step("wait", err)
	_, err = c.Delete(ctx)
	step("delete", err)
	fmt.Printf("status: %d\noutput: %q\nevents: %s\n", exit.Status, said, strings.Join(kinds, " "))
	left, _ := os.ReadDir(os.Getenv("ROOT"))
	fmt.Println("left:", len(left))
}

// rootlessRun runs that in a process with the attributes, in a bundle that belongs to owner, and returns what it printed.
func rootlessRun(t *testing.T, spec *specs.Spec, owner int, attr *syscall.SysProcAttr) string {
	t.Helper()
	return rootlessChild(t, "rootless", spec, owner, attr)
}

// rootlessChild is rootlessRun with another life than that of rootless.
func rootlessChild(t *testing.T, life string, spec *specs.Spec, owner int, attr *syscall.SysProcAttr) string {
	t.Helper()
	dir := testkit.Bundle(t, spec)
	for d := dir; d != os.TempDir() && len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(p, owner, owner))
	}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"ENGINE_CHILD=" + life, "ROOT=" + filepath.Join(dir, "state"), "BUNDLE=" + dir, "ID=" + newID()}
	cmd.Dir, cmd.SysProcAttr = "/", attr
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || errs.Len() > 0 {
		t.Errorf("%v: %s", err, errs.Bytes())
	}
	return string(out)
}

// rootlessSpec is a config that an ordinary user can have.
func rootlessSpec(args ...string) *specs.Spec {
	spec := testkit.Spec(args...)
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	spec.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: rootlessID, Size: 1}}
	spec.Linux.GIDMappings = spec.Linux.UIDMappings
	for i := range spec.Mounts {
		spec.Mounts[i].Options = slices.DeleteFunc(spec.Mounts[i].Options, func(o string) bool { return o == "gid=5" })
	}
	return spec
}

func asUser() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: rootlessID, Gid: rootlessID}}
}

// wantLines compares lines that begin with a key.
func wantLines(t *testing.T, out string, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		got[key] = value
	}
	for key, value := range want {
		if !strings.Contains(got[key], value) || value == "" && got[key] != "" {
			t.Errorf("%s: %q, want %q; all of it:\n%s", key, got[key], value, out)
		}
	}
}

// theLife is how a life without cgroups goes.
var theLife = map[string]string{"exec": `"0\r\n`, "pids": "1", "pause": "the container has no cgroup of its own", "status": "137", "output": "started",
	"events": "1 2 3 4 5 9 5 10", "left": "0"}

// TestRootlessUser: the engine as an ordinary user whose cgroups are the host's.
func TestRootlessUser(t *testing.T) {
	testkit.NoLeaks(t)
	if os.Getenv("TMPDIR") == "/root" {
		t.Fatal("the tests' directory must be everybody's")
	}
	spec := rootlessSpec("sh", "-c", "echo started; exec sleep 1000")
	wantLines(t, rootlessRun(t, spec, rootlessID, asUser()), theLife)
	spec.Linux.CgroupsPath = "/" + newID()
	wantLines(t, rootlessRun(t, spec, rootlessID, asUser()), map[string]string{"create": "permission denied"})
	spec.Linux.CgroupsPath = ""
	spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: new(int64(10))}
	wantLines(t, rootlessRun(t, spec, rootlessID, asUser()), map[string]string{"create": "linux.resources.pids.limit: make a cgroup in /sys/fs/cgroup"})
}

// TestRootlessInUserNamespace: the engine as root of a user namespace, with one id or with many.
func TestRootlessInUserNamespace(t *testing.T) {
	for name, attr := range map[string]*syscall.SysProcAttr{
		"one id": {Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{HostID: rootlessID, Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: rootlessID, Size: 1}}},
		"many ids": {Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC, GidMappingsEnableSetgroups: true,
			UidMappings: []syscall.SysProcIDMap{{HostID: rootlessID, Size: 1}, {ContainerID: 1, HostID: 1 << 20, Size: 65536}},
			GidMappings: []syscall.SysProcIDMap{{HostID: rootlessID, Size: 1}, {ContainerID: 1, HostID: 1 << 20, Size: 65536}}},
		"the host's mounts": {Cloneflags: unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: rootlessID, Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: rootlessID, Size: 1}}},
	} {
		for _, nested := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, nested %t", name, nested), func(t *testing.T) {
				testkit.NoLeaks(t)
				spec := rootlessSpec("sh", "-c", "echo started; exec sleep 1000")
				if !nested {
					spec.Linux.Namespaces = spec.Linux.Namespaces[:len(spec.Linux.Namespaces)-1]
					spec.Linux.UIDMappings, spec.Linux.GIDMappings = nil, nil
				} else {
					spec.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} // of the namespace around it
					spec.Linux.GIDMappings = spec.Linux.UIDMappings
				}
				own := *attr
				own.Credential = &syscall.Credential{}
				wantLines(t, rootlessRun(t, spec, rootlessID, &own), theLife)
			})
		}
	}
}

// TestRootlessDelegated: a cgroup that was given to the user is used, with its limits.
func TestRootlessDelegated(t *testing.T) {
	testkit.NoLeaks(t)
	spec := rootlessSpec("sh", "-c", "echo started; exec sleep 1000")
	spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: new(int64(10))}
	v2 := exists("/sys/fs/cgroup/cgroup.controllers")
	attr := asUser()
	name := newID() + "-delegated"
	var inside []string // directories of the process, which begin where it may make others
	if v2 {
		// The process is in a child of what is given away: a cgroup with processes has no controllers for its children.
		parent := "/sys/fs/cgroup/" + name
		delegateTo(t, parent, rootlessID, "cgroup.procs", "cgroup.threads", "cgroup.subtree_control")
		own := parent + "/own"
		delegateTo(t, own, rootlessID, "cgroup.procs", "cgroup.threads", "cgroup.subtree_control")
		fd, err := os.Open(own)
		if err != nil {
			t.Fatal(err)
		}
		defer fd.Close()
		attr.UseCgroupFD, attr.CgroupFD = true, int(fd.Fd())
		inside = []string{parent}
		if err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+pids"), 0); err != nil {
			t.Fatal(err)
		}
	} else {
		// The process is moved while it waits for nothing: by this thread, whose children are born where it is.
		for _, h := range []string{"pids", "freezer"} {
			dir := "/sys/fs/cgroup/" + h + "/" + name
			delegateTo(t, dir, rootlessID, "cgroup.procs", "tasks")
			inside = append(inside, dir)
		}
		leave := enterV1(t, inside)
		defer leave()
	}
	out := rootlessRun(t, spec, rootlessID, attr)
	want := map[string]string{"exec": name, "pids": "1", "pause": "<nil>", "limit": "20", "status": "137", "output": "started", "left": "0"}
	wantLines(t, out, want)
	for _, dir := range inside {
		left, err := filepath.Glob(dir + "/" + testkit.Prefix + "*")
		if err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
	spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: new(int64(64 << 20))}
	out = rootlessRun(t, spec, rootlessID, attr)
	if v2 {
		if memory, _ := os.ReadFile("/sys/fs/cgroup/" + name + "/cgroup.controllers"); strings.Contains(string(memory), "memory") {
			wantLines(t, out, want)
		} else {
			wantLines(t, out, map[string]string{"create": "linux.resources.memory.limit: the memory controller is not handed down"})
		}
		return
	}
	wantLines(t, out, map[string]string{"create": "linux.resources.memory.limit: make a cgroup in /sys/fs/cgroup/memory"})
}

// delegateTo makes a cgroup and gives it to a user; the test's end removes it.
func delegateTo(t *testing.T, dir string, uid int, files ...string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chown(dir, uid, uid); err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if err := os.Chown(dir+"/"+name, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
}

// enterV1 moves this process into cgroups, and back.
func enterV1(t *testing.T, dirs []string) (leave func()) {
	t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	move := func(dir string) {
		if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			t.Error(err)
		}
	}
	var back []string
	for _, dir := range dirs {
		controller := filepath.Base(filepath.Dir(dir))
		for line := range strings.Lines(string(own)) {
			if _, rest, _ := strings.Cut(strings.TrimSpace(line), ":"); strings.HasPrefix(rest, controller+":") {
				back = append(back, "/sys/fs/cgroup/"+controller+strings.TrimPrefix(rest, controller+":"))
			}
		}
		move(dir)
	}
	return func() {
		for _, dir := range back {
			move(dir)
		}
	}
}

// TestRootlessCgroupMount: a container of spec --rootless, whose /sys is the host's, sees its cgroups, its own as the root, and
// cannot write to them.
func TestRootlessCgroupMount(t *testing.T) {
	for _, own := range []bool{false, true} {
		t.Run(fmt.Sprintf("cgroup namespace %t", own), func(t *testing.T) {
			testkit.NoLeaks(t)
			spec := rootlessSpec("sh", "-c", "ls /sys/fs/cgroup | grep -c .; touch /sys/fs/cgroup/x 2>&1; echo started; exec sleep 1000")
			for i := range spec.Mounts {
				if spec.Mounts[i].Destination == "/sys" {
					spec.Mounts[i] = specs.Mount{Destination: "/sys", Source: "/sys", Type: "none", Options: []string{"rbind", "nosuid", "noexec", "nodev", "ro"}}
				}
			}
			spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Source: "cgroup", Type: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}})
			if own {
				spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
			}
			out := rootlessRun(t, spec, rootlessID, asUser())
			wantLines(t, out, map[string]string{"output": `\ntouch: /sys/fs/cgroup/x: Read-only file system`, "left": "0"})
			if strings.Contains(out, `output: "0`) {
				t.Errorf("no cgroups are seen: %s", out)
			}
		})
	}
}
