package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// create makes a container that the test's end removes.
func create(t testing.TB, e *engine.Engine, spec *specs.Spec, out *os.File) *engine.Container {
	t.Helper()
	spec.Linux.CgroupsPath = "/" + newID()
	c, err := e.Create(timeout(t), engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec),
		Stdio: engine.Stdio{Out: out, Err: out}, Terminal: spec.Process != nil && spec.Process.Terminal})
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	t.Cleanup(func() {
		ctx := timeout(t)
		c.Kill(ctx, "", uint32(unix.SIGKILL), true)
		c.Wait(ctx, "")
		c.Delete(ctx)
	})
	return c
}

func kindOf(err error) engine.Kind {
	var e *engine.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return engine.Internal
}

func statOf(t testing.TB, pid int) string {
	b, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))[0]
}

// TestCreated holds create and start apart: nothing of process.args happens before start, init is stopped, and a stray
// SIGCONT starts nothing.
func TestCreated(t *testing.T) {
	testkit.NoLeaks(t)
	e, ev := newEngine(t)
	r, w, _ := os.Pipe()
	defer r.Close()
	c := create(t, e, testkit.Spec("sh", "-c", "echo started"), w)
	w.Close()
	if s := statOf(t, c.Pid()); s != "T" {
		t.Errorf("init is %q before start, want T (stopped)", s)
	}
	if err := unix.Kill(c.Pid(), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := r.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("SIGCONT let init write %d bytes (%v)", n, err)
	}
	if link, _ := os.Readlink("/proc/" + itoa(c.Pid()) + "/exe"); strings.Contains(link, "busybox") {
		t.Fatal("SIGCONT let init execute")
	}
	r.SetReadDeadline(time.Time{})
	ctx := timeout(t)
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if out, _ := io.ReadAll(r); strings.TrimSpace(string(out)) != "started" {
		t.Errorf("output %q", out)
	}
	if exit, err := c.Wait(ctx, ""); err != nil || exit.Status != 0 {
		t.Errorf("wait: %+v, %v", exit, err)
	}
	if err := c.Start(ctx); kindOf(err) != engine.FailedPrecondition {
		t.Errorf("second start: %v", err)
	}
	if _, err := c.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Delete(ctx); kindOf(err) != engine.NotFound {
		t.Errorf("second delete: %v", err)
	}
	want := []engine.EventKind{engine.Created, engine.Started, engine.Exited, engine.Deleted}
	if got := ev.kinds(); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

// TestDeleteCreated deletes a container that was never started: its init is killed and its exit told.
func TestDeleteCreated(t *testing.T) {
	testkit.NoLeaks(t)
	e, ev := newEngine(t)
	c := create(t, e, testkit.Spec("true"), nil)
	exit, err := c.Delete(timeout(t))
	if err != nil || exit.Status != 137 {
		t.Fatalf("delete: %+v, %v", exit, err)
	}
	want := []engine.EventKind{engine.Created, engine.Exited, engine.Deleted}
	if got := ev.kinds(); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

// TestNoProcess: create works without a process, start says what is missing.
func TestNoProcess(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	spec := testkit.Spec()
	spec.Process = nil
	c := create(t, e, spec, nil)
	if err := c.Start(timeout(t)); kindOf(err) != engine.FailedPrecondition || !strings.Contains(err.Error(), "no process") {
		t.Errorf("start: %v", err)
	}
}

// TestExecveFails: start reports the error of execve itself, here one that no look at the file foretells.
func TestExecveFails(t *testing.T) {
	testkit.NoLeaks(t)
	e, ev := newEngine(t)
	spec := testkit.Spec("/bin/broken")
	spec.Linux.CgroupsPath = "/" + newID()
	dir := testkit.Bundle(t, spec)
	if err := os.WriteFile(filepath.Join(dir, "rootfs/bin/broken"), []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx := timeout(t)
	c, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(ctx); !errors.Is(err, unix.ENOEXEC) {
		t.Errorf("start: %v, want ENOEXEC", err)
	}
	if _, err := c.Wait(ctx, ""); err != nil {
		t.Error(err)
	}
	if _, err := c.Delete(ctx); err != nil {
		t.Error(err)
	}
	want := []engine.EventKind{engine.Created, engine.Exited, engine.Deleted}
	if got := ev.kinds(); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

func startExec(t testing.TB, c *engine.Container, id string, args ...string) (string, engine.Exit) {
	t.Helper()
	return execProcess(t, c, id, testkit.Spec(args...).Process)
}

// execProcess runs a process in a container and returns its output and exit.
func execProcess(t testing.TB, c *engine.Container, id string, p *specs.Process) (string, engine.Exit) {
	t.Helper()
	ctx := timeout(t)
	if err := c.AddExec(ctx, engine.ExecRequest{ID: id, Process: p}); err != nil {
		t.Fatalf("add exec: %v", err)
	}
	r, w, _ := os.Pipe()
	defer r.Close()
	_, _, err := c.StartExec(ctx, id, engine.Stdio{Out: w, Err: w})
	w.Close()
	if err != nil {
		t.Fatalf("start exec: %v", err)
	}
	out, _ := io.ReadAll(r)
	exit, err := c.Wait(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteExec(ctx, id); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out)), exit
}

func TestExec(t *testing.T) {
	testkit.NoLeaks(t)
	e, ev := newEngine(t)
	spec := testkit.Spec("sleep", "1000")
	spec.Hostname = "venus"
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	c := create(t, e, spec, nil)
	if out, exit := startExec(t, c, "early", "hostname"); out != "venus" || exit.Status != 0 {
		t.Errorf("exec in a created container: %q %d", out, exit.Status)
	}
	ctx := timeout(t)
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if out, exit := startExec(t, c, "a", "sh", "-c", "hostname; cat /proc/1/comm; grep -vc ':/$' /proc/self/cgroup; exit 3"); out != "venus\nsleep\n0" || exit.Status != 3 {
		t.Errorf("exec: %q %d", out, exit.Status)
	}
	if err := c.AddExec(ctx, engine.ExecRequest{ID: "bad", Process: testkit.Spec("nothing").Process}); err != nil {
		t.Fatal(err)
	}
	if err := c.AddExec(ctx, engine.ExecRequest{ID: "bad", Process: testkit.Spec("nothing").Process}); kindOf(err) != engine.AlreadyExists {
		t.Errorf("the same id twice: %v", err)
	}
	if err := c.Kill(ctx, "bad", 9, false); kindOf(err) != engine.FailedPrecondition {
		t.Errorf("kill before start: %v", err)
	}
	if _, _, err := c.StartExec(ctx, "bad", engine.Stdio{}); err == nil || !strings.Contains(err.Error(), "executable file not found in $PATH") {
		t.Errorf("start of a missing program: %v", err)
	}
	if _, err := c.DeleteExec(ctx, "bad"); err != nil {
		t.Error(err)
	}
	astray := testkit.Spec("pwd").Process
	astray.Cwd = "/missing"
	if err := c.AddExec(ctx, engine.ExecRequest{ID: "astray", Process: astray}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.StartExec(ctx, "astray", engine.Stdio{}); err == nil || !strings.Contains(err.Error(), "process.cwd: enter /missing: no such file or directory") {
		t.Errorf("start in a missing working directory: %v", err)
	}
	if _, err := c.DeleteExec(ctx, "astray"); err != nil {
		t.Error(err)
	}
	if err := c.Kill(ctx, "", 9, false); err != nil {
		t.Fatal(err)
	}
	if exit, err := c.Wait(ctx, ""); err != nil || exit.Status != 137 {
		t.Errorf("wait: %+v %v", exit, err)
	}
	if err := c.Kill(ctx, "", 9, false); kindOf(err) != engine.NotFound || err.Error() != "process already finished" {
		t.Errorf("kill after exit: %v", err)
	}
	for i, k := range ev.kinds() {
		if k == engine.Exited && i == 0 {
			t.Error("an exit came first")
		}
	}
}

// TestManyExecs runs execs in parallel: each is told added, started, exited, in this order, and init's exit is the last.
func TestManyExecs(t *testing.T) {
	testkit.NoLeaks(t)
	e, ev := newEngine(t)
	c := create(t, e, testkit.Spec("sleep", "1000"), nil)
	ctx := timeout(t)
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	const n = 40
	errs := make(chan error, n)
	for i := range n {
		go func() {
			id := "x" + itoa(i)
			err := c.AddExec(ctx, engine.ExecRequest{ID: id, Process: testkit.Spec("true").Process})
			if err == nil {
				_, _, err = c.StartExec(ctx, id, engine.Stdio{})
			}
			if err == nil {
				_, err = c.Wait(ctx, id)
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	c.AddExec(ctx, engine.ExecRequest{ID: "long", Process: testkit.Spec("sleep", "1000").Process})
	if _, _, err := c.StartExec(ctx, "long", engine.Stdio{}); err != nil {
		t.Fatal(err)
	}
	c.Kill(ctx, "", 9, false)
	c.Wait(ctx, "")
	last := map[string]engine.EventKind{}
	for _, v := range ev.list {
		want := map[engine.EventKind]engine.EventKind{engine.ExecAdded: 0, engine.ExecStarted: engine.ExecAdded, engine.Exited: engine.ExecStarted}
		if v.Exec != "" && last[v.Exec] != want[v.Kind] {
			t.Errorf("%s: event %d after %d", v.Exec, v.Kind, last[v.Exec])
		}
		last[v.Exec] = v.Kind
	}
	if end := ev.list[len(ev.list)-1]; end.Kind != engine.Exited || end.Exec != "" {
		t.Errorf("the last event is %+v, not init's exit", end)
	}
	if last["long"] != engine.Exited {
		t.Error("an exec outlived init")
	}
}

func TestTerminal(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	spec := testkit.Spec("sh", "-c", "tty; stty size; test -c /dev/console && read x && echo got $x; ls /proc/self/fd | wc -l")
	spec.Process.Terminal = true
	spec.Process.ConsoleSize = &specs.Box{Width: 100, Height: 33}
	c := create(t, e, spec, nil)
	master := c.TakeConsole()
	if master == nil {
		t.Fatal("no terminal")
	}
	defer master.Close()
	ctx := timeout(t)
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := master.WriteString("mail\n"); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(master)
	if err != nil && !errors.Is(err, unix.EIO) {
		t.Error(err)
	}
	text := strings.ReplaceAll(string(out), "\r", "")
	for _, want := range []string{"/dev/pts/0\n", "33 100\n", "got mail\n", "4\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("output %q lacks %q", text, want)
		}
	}
}

func TestExecTerminal(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	c := create(t, e, testkit.Spec("sleep", "1000"), nil)
	ctx := timeout(t)
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	p := testkit.Spec("sh", "-c", "tty; id -u").Process
	p.Terminal = true
	p.User.UID = 1000
	c.AddExec(ctx, engine.ExecRequest{ID: "tty", Process: p})
	_, master, err := c.StartExec(ctx, "tty", engine.Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	out, _ := io.ReadAll(master)
	if got := strings.ReplaceAll(string(out), "\r", ""); got != "/dev/pts/0\n1000\n" {
		t.Errorf("output %q", got)
	}
}

func TestPause(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	c := create(t, e, testkit.Spec("sleep", "1000"), nil)
	ctx := timeout(t)
	if err := c.Pause(ctx); kindOf(err) != engine.FailedPrecondition {
		t.Errorf("pause of a created container: %v", err)
	}
	c.Start(ctx)
	if err := c.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	if s, _ := c.State(""); s.Status != engine.StatusPaused {
		t.Errorf("status %s", s.Status)
	}
	if err := c.AddExec(ctx, engine.ExecRequest{ID: "x", Process: testkit.Spec("true").Process}); kindOf(err) != engine.FailedPrecondition {
		t.Errorf("exec while paused: %v", err)
	}
	if err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(ctx, "", 9, false); err != nil {
		t.Fatal(err)
	}
	if exit, err := c.Wait(ctx, ""); err != nil || exit.Status != 137 {
		t.Errorf("killed while paused: %+v %v", exit, err)
	}
}

// TestSharedPIDNamespace: whoever init leaves behind in the host's pid namespace is killed before its exit is told.
func TestSharedPIDNamespace(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	spec := testkit.Spec("sh", "-c", "sleep 1000 & sleep 1000 & exit 4")
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	c := create(t, e, spec, nil)
	ctx := timeout(t)
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if exit, err := c.Wait(ctx, ""); err != nil || exit.Status != 4 {
		t.Errorf("%+v %v", exit, err)
	}
	if _, err := c.Delete(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestJoin shares the namespaces of one container with another, by path, as a pod does.
func TestJoin(t *testing.T) {
	testkit.NoLeaks(t)
	for _, user := range []bool{false, true} {
		e, _ := newEngine(t)
		first := testkit.Spec("sleep", "1000")
		first.Hostname = "pod"
		if user {
			first.Linux.Namespaces = append(first.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			first.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 0, Size: 65536}}
			first.Linux.GIDMappings = first.Linux.UIDMappings
		}
		a := create(t, e, first, nil)
		if err := a.Start(timeout(t)); err != nil {
			t.Fatal(err)
		}
		for _, sharePID := range []bool{false, true} {
			second := testkit.Spec("sh", "-c", "hostname; readlink /proc/self/ns/net; echo $$")
			second.Linux.Namespaces = nil
			for _, n := range first.Linux.Namespaces {
				file := map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts",
					specs.UserNamespace: "user", specs.PIDNamespace: "pid"}[n.Type]
				if n.Type == specs.MountNamespace || n.Type == specs.PIDNamespace && !sharePID {
					file = ""
				}
				if file != "" {
					n.Path = "/proc/" + itoa(a.Pid()) + "/ns/" + file
				}
				second.Linux.Namespaces = append(second.Linux.Namespaces, n)
			}
			out, exit := run(t, second)
			net, _ := os.Readlink("/proc/" + itoa(a.Pid()) + "/ns/net")
			lines := strings.Fields(out)
			if exit.Status != 0 || len(lines) != 3 || lines[0] != "pod" || lines[1] != net || (lines[2] == "1") == sharePID {
				t.Errorf("user %t, share pid %t: output %q, status %d", user, sharePID, out, exit.Status)
			}
		}
	}
}

// TestCleanup removes what a process leaves that dies without deleting its containers, here one that another process of
// this test made.
func TestCleanup(t *testing.T) {
	testkit.NoLeaks(t)
	for _, state := range []string{"created", "running", "stopped"} {
		t.Run(state, func(t *testing.T) {
			root, id := filepath.Join(t.TempDir(), "state"), newID()
			spec := testkit.Spec("sh", "-c", "test "+state+" = running && sleep 1000; exit 5")
			spec.Linux.CgroupsPath = "/" + id
			stopped := filepath.Join(t.TempDir(), "stopped")
			spec.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/false"}, {Path: "/bin/sh", Args: []string{"sh", "-c", "cat >> " + stopped}}}}
			dir := testkit.Bundle(t, spec)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "ENGINE_CHILD="+state, "ROOT="+root, "ID="+id, "BUNDLE="+dir)
			cmd.Stderr = os.Stderr
			ready, _ := cmd.StdoutPipe()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			io.ReadFull(ready, make([]byte, 1))
			cmd.Process.Kill()
			cmd.Wait()
			ctx := timeout(t)
			res, err := engine.Cleanup(ctx, root, id, dir)
			if err == nil || err.Error() != "hooks.poststop[0] /bin/false: exit status 1" {
				t.Fatal(err)
			}
			want := map[string]int{"created": 137, "running": 137, "stopped": 5}[state]
			if res.Exit.Status != want || res.Pid == 0 {
				t.Errorf("%+v, want status %d", res, want)
			}
			// A zombie is dead: it waits for the machine's init.
			if b, err := os.ReadFile("/proc/" + itoa(res.Pid) + "/stat"); err == nil && !strings.Contains(string(b), ") Z ") {
				t.Errorf("process %d is alive: %s", res.Pid, b)
			}
			if _, err := os.Stat(filepath.Join(root, id)); !errors.Is(err, os.ErrNotExist) {
				t.Error("state is left")
			}
			if _, err := engine.Cleanup(ctx, root, id, dir); err != nil {
				t.Errorf("again: %v", err)
			}
			var told specs.State
			if b, _ := os.ReadFile(stopped); json.Unmarshal(b, &told) != nil || told.ID != id || told.Status != specs.StateStopped || told.Bundle != dir {
				t.Errorf("the poststop hook read %s", b)
			}
		})
	}
}

// abandon is the process of TestCleanup that dies.
func abandon(state string) {
	ctx := context.Background()
	e, err := engine.New(engine.Options{Root: os.Getenv("ROOT")})
	check(err)
	c, err := e.Create(ctx, engine.CreateRequest{ID: os.Getenv("ID"), Bundle: os.Getenv("BUNDLE")})
	check(err)
	if state != "created" {
		check(c.Start(ctx))
	}
	if state == "stopped" {
		_, err := c.Wait(ctx, "")
		check(err)
	}
	os.Stdout.WriteString("x")
	time.Sleep(time.Hour) // until it is killed
}

func check(err error) {
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func TestMain(m *testing.M) {
	switch state := os.Getenv("ENGINE_CHILD"); state {
	case "":
	case "escape":
		escape()
		return
	case "rootless":
		rootless()
		return
	case "early":
		early()
		return
	default:
		abandon(state)
	}
	if os.Args[0] == attackPath {
		attacker(os.Args[1:])
	}
	haveHostKey()
	code := m.Run()
	if attackDir != "" {
		os.RemoveAll(attackDir)
	}
	os.Exit(code)
}
