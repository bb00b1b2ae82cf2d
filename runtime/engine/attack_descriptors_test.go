package engine_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// leak opens a directory of the host many times, without close-on-exec, as a careless library in the shim's process would.
func leak(t *testing.T, dir string) {
	t.Helper()
	for range 30 {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
	}
}

// TestAttackLeakedDescriptors: a process looks for descriptors that the engine, other containers' streams among them, left
// open in it (CVE-2024-21626).
func TestAttackLeakedDescriptors(t *testing.T) {
	testkit.NoLeaks(t)
	leak(t, "/")
	e, _ := newEngine(t)
	spec := attackSpec(t)
	other := started(t, e, spec)
	beginAttack(t, other, spec, "look", "1") // its pipe is open while the next starts
	c := started(t, e, spec)
	for name, c := range map[string]*engine.Container{"a container": c, "the other": other} {
		lines := strings.Split(attack(t, c, spec, "descriptors"), "\n")
		if len(lines) != 3 || lines[0] != "0 /dev/null" || !strings.HasPrefix(lines[1], "1 pipe:") || !strings.HasPrefix(lines[2], "2 pipe:") {
			t.Errorf("an exec of %s has %q", name, lines)
		}
	}
	init := attackSpec(t)
	init.Process.Args = []string{attackPath, "descriptors"}
	out, _ := run(t, init)
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[2], "2 pipe:") {
		t.Errorf("an init has %q", lines)
	}
}

// TestAttackWorkDir: process.cwd leads to a directory of the host through a descriptor that is open before execve, in its
// plain form or through a link of the image (CVE-2024-21626).
func TestAttackWorkDir(t *testing.T) {
	testkit.NoLeaks(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "marker"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	leak(t, outside)
	e, _ := newEngine(t)
	ctx := timeout(t)
	spec := attackSpec(t)
	dir := testkit.Bundle(t, spec)
	if err := os.Symlink("/proc/self/fd/9", filepath.Join(dir, "rootfs/link")); err != nil {
		t.Fatal(err)
	}
	spec.Linux.CgroupsPath = "/" + newID()
	testkit.WriteConfig(t, dir, spec)
	box, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { box.Delete(timeout(t)) }()
	cwds := []string{"/link", "/link/sub", "/proc/self/cwd", "/proc/1/cwd", "/proc/self/root", "/proc/self/task/1/fd/9", "/proc/thread-self/fd/9"}
	leaky := 0
	for n := 3; n <= 40; n++ {
		link := "/proc/self/fd/" + itoa(n)
		cwds = append(cwds, link)
		if target, _ := os.Readlink(link); target == outside {
			leaky++
		}
	}
	if leaky < 20 {
		t.Fatalf("only %d descriptors of this process lead outside", leaky)
	}
	// What runs in such a directory says so.
	script := []string{"sh", "-c", "pwd; ls; ls ..; ls ../marker ../../etc"}
	for i, cwd := range cwds {
		ctx := timeout(t)
		evil := attackSpec(t)
		evil.Process.Cwd, evil.Process.Args = cwd, script
		evil.Linux.CgroupsPath = "/" + newID()
		testkit.WriteConfig(t, dir, evil)
		r, w, _ := os.Pipe()
		c, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: dir, Stdio: engine.Stdio{Out: w, Err: w}})
		w.Close()
		if err == nil {
			err = c.Start(ctx)
			out, _ := io.ReadAll(r)
			t.Errorf("create with cwd %s: %v, and it says %q", cwd, err, out)
			c.Delete(ctx)
		} else if !strings.Contains(err.Error(), "process.cwd") && !strings.Contains(err.Error(), "process.user") {
			t.Errorf("create with cwd %s: %v", cwd, err)
		}
		r.Close()

		p := *evil.Process
		id := "x" + itoa(i)
		box.AddExec(ctx, engine.ExecRequest{ID: id, Process: &p})
		r, w, _ = os.Pipe()
		_, _, err = box.StartExec(ctx, id, engine.Stdio{Out: w, Err: w})
		w.Close()
		out, _ := io.ReadAll(r)
		r.Close()
		if strings.Contains(string(out), "marker") && !strings.Contains(string(out), "No such file") || strings.Contains(string(out), "unreachable") {
			t.Errorf("exec with cwd %s: %v, and it says %q", cwd, err, out)
		}
		// Links to directories of the container itself are as good as any other.
		if own := strings.HasSuffix(cwd, "cwd") || strings.HasSuffix(cwd, "root"); err == nil && !own {
			t.Errorf("exec with cwd %s runs: %q", cwd, out)
		}
	}
}

// TestAttackTerminal: a process without a terminal of its own, whose standard input is one of the host, tries to become its
// master and to type on it (TIOCSTI).
func TestAttackTerminal(t *testing.T) {
	testkit.NoLeaks(t)
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	user := exec.Command("sleep", "1000") // somebody's session, whose terminal this is
	user.Stdin = slave
	user.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := user.Start(); err != nil {
		t.Fatal(err)
	}
	defer user.Wait()
	defer user.Process.Kill()

	e, _ := newEngine(t)
	spec := attackSpec(t)
	c := started(t, e, spec)
	p := *spec.Process
	p.Args = []string{attackPath, "tty"}
	ctx := timeout(t)
	c.AddExec(ctx, engine.ExecRequest{ID: "thief", Process: &p})
	r, w, _ := os.Pipe()
	defer r.Close()
	_, _, err = c.StartExec(ctx, "thief", engine.Stdio{In: slave, Out: w, Err: w})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(r)
	c.Wait(ctx, "thief")
	for _, line := range []string{"open no such device or address", "take operation not permitted"} {
		if !strings.Contains(string(out), line) {
			t.Errorf("no %q in\n%s", line, out)
		}
	}
	if strings.Contains(string(out), "type ok") {
		t.Errorf("it typed on the terminal:\n%s", out)
	}
	if waiting, err := unix.IoctlGetInt(int(slave.Fd()), unix.TIOCINQ); err != nil || waiting != 0 {
		t.Errorf("%d bytes were typed, %v", waiting, err)
	}
}
