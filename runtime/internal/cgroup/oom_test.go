package cgroup

import (
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// limited returns a limit for memory with and without swap, in MiB.
func limited(mib int64) *specs.LinuxResources {
	n := mib << 20
	return &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &n, Swap: &n}}
}

// oomCounter counts what WatchOOM tells.
type oomCounter struct {
	mu    sync.Mutex
	calls int
	kills uint64
	first chan struct{} // closed by the first call
}

func watchOOM(t *testing.T, c *Cgroup) (*oomCounter, func()) {
	t.Helper()
	o := &oomCounter{first: make(chan struct{})}
	stop, err := c.WatchOOM(func(kills uint64) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.calls++; o.calls == 1 {
			close(o.first)
		}
		o.kills += kills
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(true) })
	return o, func() { stop(true) }
}

func (o *oomCounter) check(t *testing.T, c *Cgroup, kills uint64) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.kills != kills {
		t.Errorf("told of %d OOM kills, want %d", o.kills, kills)
	}
	if got, err := c.OOMKills(); err != nil || got != kills {
		t.Errorf("%d OOM kills counted, %v; want %d", got, err, kills)
	}
}

// The container's only process is killed: the last look of stop tells, if nothing did before.
func TestOOM(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, limited(64))
		o, stop := watchOOM(t, c)
		p := run(t, c, helperEnv+`=allocate exec "$SELF"`)
		if err := p.Wait(); err == nil {
			t.Error("the process was not killed")
		}
		stop()
		o.check(t, c, 1)
		stop()
		o.check(t, c, 1)
	})
}

// A child is killed and the container lives on: that is told at once.
func TestOOMChild(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, limited(64))
		o, stop := watchOOM(t, c)
		p := run(t, c, helperEnv+`=oom-child "$SELF"; true`)
		if line := p.line(t); line != "child: signal: killed" {
			t.Fatal(line)
		}
		select {
		case <-o.first:
		case <-timeout(t).Done():
			t.Fatal("not told")
		}
		o.check(t, c, 1)
		stop()
		o.check(t, c, 1)
	})
}

// A killed process in a child cgroup counts for the container.
func TestOOMNested(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, limited(64))
		o, stop := watchOOM(t, c)
		child := c.file("memory", "child")
		if err := os.Mkdir(child, 0o755); err != nil {
			t.Fatal(err)
		}
		p := run(t, c, `echo $$ > "`+child+`/cgroup.procs"; `+helperEnv+`=allocate exec "$SELF"`)
		if err := p.Wait(); err == nil {
			t.Error("the process was not killed")
		}
		stop()
		o.check(t, c, 1)
	})
}

// Neither reaching the limit with memory that can be reclaimed, nor SIGKILL, nor the end of the cgroup is an OOM kill.
func TestOOMNone(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, limited(24))
		o, stop := watchOOM(t, c)
		p := run(t, c, `find /usr/bin /usr/sbin -type f -size +400k | xargs cat 2> /dev/null | head -c 33554432 > /dev/null; echo done; read x`)
		if line := p.line(t); line != "done" {
			t.Fatal(line)
		}
		if err := c.Kill(timeout(t)); err != nil {
			t.Fatal(err)
		}
		o.check(t, c, 0)
		if err := c.Destroy(timeout(t)); err != nil {
			t.Fatal(err)
		}
		stop()
		if o.calls != 0 {
			t.Error("told of the end of the cgroup")
		}
	})
}

// A user has 128 instances of inotify and may have more containers: watching takes none, and one descriptor each beside those that the
// containers share.
func TestWatchTakesNoInotify(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		before := openFiles()
		for range 3 {
			watchOOM(t, create(t, h, limited(64)))
		}
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if target, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.Contains(target, "inotify") {
				t.Errorf("descriptor %s is %s", e.Name(), target)
			}
		}
		if now := openFiles(); now > before+3 {
			t.Errorf("%d files are open, were %d", now, before)
		}
	})
}
