package cgroup

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// testRoot is the cgroup, in every hierarchy, below which the tests of one process work.
var testRoot = fmt.Sprintf("/gosuda-test-%d", os.Getpid())

// helperEnv makes the test binary be a process in a container.
const helperEnv = "GOSUDA_CGROUP_HELPER"

func TestMain(m *testing.M) {
	if mode := os.Getenv(helperEnv); mode != "" {
		helper(mode)
		return
	}
	fds := openFiles()
	code := m.Run()
	h, err := Probe()
	if err == nil {
		err = removeRoot(h)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "left behind:", err)
		code = 1
	}
	if now := openFiles(); now != fds {
		fmt.Fprintf(os.Stderr, "left behind: %d file descriptors, were %d\n", now, fds)
		code = 1
	}
	os.Exit(code)
}

// removeRoot fails when a test left a cgroup behind.
func removeRoot(h *Host) error {
	mounts := []string{h.Unified}
	for _, hier := range h.Hierarchies {
		mounts = append(mounts, hier.Mount)
	}
	for _, mount := range mounts {
		if mount == "" {
			continue
		}
		if err := rmdir(mount + testRoot); err != nil {
			names, _ := children(mount + testRoot)
			return fmt.Errorf("%w (children: %q)", err, names)
		}
	}
	return nil
}

func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	n := 0
	for _, e := range entries {
		// Go's own poller appears when it is first needed.
		if target, _ := os.Readlink("/proc/self/fd/" + e.Name()); !strings.Contains(target, "anon_inode:[event") {
			n++
		}
	}
	return n
}

// helper is what processes in the test containers do.
func helper(mode string) {
	switch mode {
	case "allocate": // until the OOM killer comes
		var hog [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			hog = append(hog, b)
		}
	case "hold": // 16 MiB until the input ends
		b := make([]byte, 16<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		fmt.Println("holding")
		_, _ = io.Copy(io.Discard, os.Stdin)
		runtime.KeepAlive(b)
	case "oom-child": // survives its child's OOM kill
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{helperEnv + "=allocate"}
		err := cmd.Run()
		fmt.Println("child:", err)
		_, _ = io.Copy(io.Discard, os.Stdin)
	default:
		panic("unknown helper " + mode)
	}
}

// probe returns this machine's cgroups.
func probe(t testing.TB) *Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	h, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// hosts runs a test with this machine's cgroups and, where they are hybrid, once more as if the cgroup2 tree were not
// mounted.
func hosts(t *testing.T, test func(t *testing.T, h *Host)) {
	h := probe(t)
	if h.Mode == V2 {
		t.Run("v2", func(t *testing.T) { test(t, h) })
		return
	}
	if h.Unified != "" {
		t.Run("hybrid", func(t *testing.T) { test(t, h) })
	}
	t.Run("v1", func(t *testing.T) { test(t, &Host{Mode: V1, Hierarchies: h.Hierarchies}) })
}

// create makes a cgroup that is killed and removed after the test.
func create(t testing.TB, h *Host, r *specs.LinuxResources) *Cgroup {
	t.Helper()
	name := strings.NewReplacer("/", "_", " ", "_").Replace(t.Name())
	c, err := New(h, Config{Path: filepath.Join(testRoot, name), Resources: r})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Kill(timeout(t)); err != nil {
			t.Error(err)
		}
		if err := c.Destroy(timeout(t)); err != nil {
			t.Error(err)
		}
		for _, path := range c.all() {
			if _, err := os.Stat(path); !os.IsNotExist(err) {
				t.Errorf("%s is left behind: %v", path, err)
			}
		}
	})
	return c
}

// timeout bounds waits that should not be long.
func timeout(t testing.TB) context.Context {
	// Not t.Context(), which is over when cleanups run.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// process is a process in a container; its standard input is held open until it is waited for.
type process struct {
	*exec.Cmd
	in  io.WriteCloser
	out *os.File
}

// run starts a shell in the cgroup, in the way that the launch does: born in the cgroup2 directory, moving itself by the
// tasks files. It returns when the shell is in.
func run(t testing.TB, c *Cgroup, script string) *process {
	t.Helper()
	j, err := c.Join()
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	return runVia(t, j, script)
}

func runVia(t testing.TB, j *JoinFDs, script string) *process {
	t.Helper()
	p, err := tryRun(t, j, script)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tryRun(t testing.TB, j *JoinFDs, script string) (*process, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// A shell has one thread, but may not know descriptors of two digits.
	prefix := `for fd in $FDS; do echo 0 > /proc/self/fd/$fd || exit 99; done; echo in; `
	p := &process{Cmd: exec.Command("/bin/sh", "-c", prefix+script), out: r}
	p.Stdout, p.Stderr = w, os.Stderr
	p.Env = append(os.Environ(), "SELF="+exe)
	var fds []string
	for i, fd := range j.Tasks {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(dup), "tasks")
		defer f.Close()
		p.ExtraFiles = append(p.ExtraFiles, f)
		fds = append(fds, strconv.Itoa(3+i))
	}
	p.Env = append(p.Env, "FDS="+strings.Join(fds, " "))
	p.SysProcAttr = &unix.SysProcAttr{UseCgroupFD: j.Unified >= 0, CgroupFD: j.Unified}
	if p.in, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		p.in.Close()
		r.Close()
		return nil, err
	}
	t.Cleanup(func() {
		r.Close()
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	if line := p.line(t); line != "in" {
		t.Fatalf("the shell says %q", line)
	}
	return p, nil
}

// line reads one line of the process's output.
func (p *process) line(t testing.TB) string {
	t.Helper()
	var line []byte
	var b [1]byte
	for {
		if _, err := p.out.Read(b[:]); err != nil {
			t.Fatalf("read the output of the process: %v after %q", err, line)
		}
		if b[0] == '\n' {
			return string(line)
		}
		line = append(line, b[0])
	}
}

func ptr[T any](v T) *T { return &v }
