package cgroup

import (
	"context"
	"errors"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// checkKilled kills a cgroup and looks whether anything lived on.
func checkKilled(t *testing.T, c *Cgroup, processes ...*process) {
	t.Helper()
	if err := c.Kill(timeout(t)); err != nil {
		t.Fatal(err)
	}
	for _, path := range c.all() {
		if pids, err := pidsBelow(path); err != nil || len(pids) > 0 {
			t.Errorf("processes in %s: %v, %v", path, pids, err)
		}
	}
	for _, p := range processes {
		_ = p.Wait()
		if status := p.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != unix.SIGKILL {
			t.Errorf("process %d ended with %#x, not by SIGKILL", p.Process.Pid, status)
		}
	}
}

func TestKillForkBomb(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(200))}})
		p := run(t, c, `echo started; bomb() { bomb & bomb & while :; do :; done; }; bomb 2> /dev/null`)
		p.line(t)
		checkKilled(t, c, p)
	})
}

func TestKillFrozen(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, nil)
		p := run(t, c, "read x")
		if err := c.Freeze(timeout(t)); err != nil {
			t.Fatal(err)
		}
		checkKilled(t, c, p)
	})
}

func TestKillNested(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, nil)
		p := run(t, c, "read x")
		q := run(t, c, "read x")
		for _, path := range c.all() { // one moves down, and is killed there
			if err := os.Mkdir(path+"/child", 0o755); err != nil {
				t.Fatal(err)
			}
			if path != c.dir("cpuset") || path == c.unified {
				if err := writeFile(path+"/child/cgroup.procs", strconv.Itoa(q.Process.Pid)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if pids, err := c.Pids(); err != nil || len(pids) != 2 {
			t.Fatalf("processes %v, %v", pids, err)
		}
		checkKilled(t, c, p, q)
	})
}

// On a hybrid host, a process may have been put into the v1 cgroups alone.
func TestKillStray(t *testing.T) {
	h := probe(t)
	if h.Mode != V1 || h.Unified == "" {
		t.Skip("the host is not hybrid")
	}
	c := create(t, h, nil)
	p := run(t, c, "read x")
	stray := runVia(t, &JoinFDs{Unified: -1}, "read x")
	for _, d := range c.dirs {
		if err := writeFile(d.path+"/cgroup.procs", strconv.Itoa(stray.Process.Pid)); err != nil {
			t.Fatal(err)
		}
	}
	checkKilled(t, c, p, stray)
}

func TestKillGivesUp(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, nil)
		run(t, c, "read x")
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := c.Destroy(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("destroyed with a process in it: %v", err)
		}
	})
}

func TestSignal(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, nil)
		p := run(t, c, `exec 2> /dev/null; trap 'echo got; exit 3' TERM; (trap '' TERM; while :; do sleep 0.02; done) & echo ready; while :; do sleep 0.02; done`)
		p.line(t)
		if err := c.Signal(unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if line := p.line(t); line != "got" {
			t.Error(line)
		}
		_ = p.Wait()
		if code := p.ProcessState.ExitCode(); code != 3 {
			t.Errorf("exit code %d", code)
		}
		if err := c.Freeze(timeout(t)); err != nil {
			t.Fatal(err)
		}
		if err := c.Signal(unix.SIGKILL); err != nil { // reaches the child, which is deaf and frozen
			t.Fatal(err)
		}
		if err := c.Destroy(timeout(t)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFreeze(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, nil)
		p := run(t, c, "echo ready; while read x; do echo $x; done")
		p.line(t)
		checkFrozen := func(want bool) {
			t.Helper()
			if got, err := c.Frozen(); err != nil || got != want {
				t.Errorf("frozen: %v, %v", got, err)
			}
		}
		checkFrozen(false)
		for range 3 {
			if err := c.Freeze(timeout(t)); err != nil {
				t.Fatal(err)
			}
			checkFrozen(true)
			if _, err := p.in.Write([]byte("hello\n")); err != nil {
				t.Fatal(err)
			}
			_ = p.out.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			if n, err := p.out.Read(make([]byte, 8)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a frozen process wrote %d bytes, %v", n, err)
			}
			_ = p.out.SetReadDeadline(time.Time{})
			if err := c.Thaw(); err != nil {
				t.Fatal(err)
			}
			checkFrozen(false)
			if line := p.line(t); line != "hello" {
				t.Error(line)
			}
		}
		if err := c.Thaw(); err != nil {
			t.Errorf("thaw what is not frozen: %v", err)
		}
	})
}

// The cgroup of this very process is not to be killed, signalled or limited, whatever a record says.
func TestRefuseOwn(t *testing.T) {
	h := probe(t)
	paths := map[string]string{"": h.UnifiedOwn}
	for _, hier := range h.Hierarchies {
		paths[hier.Controllers[0]] = hier.Own
	}
	c := Load(h, paths, "")
	if err := c.Kill(timeout(t)); err == nil {
		t.Error("killed") // would not be written
	}
	if err := c.Signal(unix.SIGCONT); err == nil {
		t.Error("signalled")
	}
}
