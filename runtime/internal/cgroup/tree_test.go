package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The owner may make cgroups and move its processes, and may not touch a limit. v1 stays root's.
func TestOwner(t *testing.T) {
	const owner = 12345
	hosts(t, func(t *testing.T, h *Host) {
		c, err := New(h, Config{Path: testRoot + "/owner", Owner: owner, Resources: &specs.LinuxResources{
			Pids: &specs.LinuxPids{Limit: ptr(int64(50))}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Create(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Destroy(timeout(t)); err != nil {
				t.Error(err)
			}
		})
		given := append(delegated(), ".")
		for _, dir := range c.all() {
			names, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range append(entryNames(names), ".") {
				var st unix.Stat_t
				if err := unix.Stat(filepath.Join(dir, name), &st); err != nil {
					t.Fatal(err)
				}
				want := uint32(0)
				if h.Mode == V2 && slices.Contains(given, name) {
					want = owner
				}
				if st.Uid != want {
					t.Errorf("%s/%s is of user %d, want %d", dir, name, st.Uid, want)
				}
			}
		}
	})
}

func entryNames(entries []os.DirEntry) (names []string) {
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Below a threaded cgroup there are only such: the container's becomes one, if nothing asks for what does not work there.
func TestThreadedParent(t *testing.T) {
	h := probe(t)
	if h.Mode != V2 {
		t.Skip("the controllers are in cgroup v1")
	}
	parent := create(t, h, nil)
	if err := os.Mkdir(parent.unified+"/threaded", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(parent.unified+"/threaded/cgroup.type", "threaded"); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(parent.unified, h.Unified) + "/threaded/a/b"
	limited, err := New(h, Config{Path: path, Resources: &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20))}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := limited.Create(); err == nil || !strings.Contains(err.Error(), "linux.resources.memory.limit: cgroup") ||
		!strings.Contains(err.Error(), "can only be threaded") {
		t.Errorf("a limit of memory: %v", err)
	}
	c, err := New(h, Config{Path: path, Resources: &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(20))}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Create(); err != nil {
		t.Fatal(err)
	}
	checkFiles(t, c, nil, nil, map[string]string{"pids.max": "20"})
	p := run(t, c, "echo in the cgroup; read x; echo thawed; read x")
	p.line(t)
	if pids, err := c.Pids(); err != nil || !slices.Equal(pids, []int{p.Process.Pid}) {
		t.Errorf("processes %v, %v", pids, err)
	}
	_, stop := watchOOM(t, c)
	stop()
	if err := c.Freeze(timeout(t)); err != nil {
		t.Fatal(err)
	}
	if err := c.Thaw(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if line := p.line(t); line != "thawed" {
		t.Error(line)
	}
	checkKilled(t, c, p)
	if err := c.Destroy(timeout(t)); err != nil {
		t.Fatal(err)
	}
}

// A process is put into cgroups that the container has made below its own.
func TestJoinBelow(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, nil)
		for _, path := range c.all() {
			if err := os.Mkdir(path+"/sub", 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if d := c.dir("cpuset"); d != "" {
			if err := inheritCpuset(d, d+"/sub", true); err != nil {
				t.Fatal(err)
			}
		}
		join := func(below map[string]string) *process {
			t.Helper()
			j, err := c.JoinBelow(below)
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			return runVia(t, j, "read x")
		}
		p := join(map[string]string{"": "/sub"})
		inSub := &Cgroup{host: h, unified: c.unified}
		if c.unified != "" {
			inSub.unified += "/sub"
		}
		for _, d := range c.dirs {
			d.path += "/sub"
			inSub.dirs = append(inSub.dirs, d)
		}
		checkMember(t, inSub, p.Process.Pid)

		if d := c.dir("memory"); d != "" {
			p := join(map[string]string{"memory": "sub"})
			for i, d := range inSub.dirs {
				if !d.has("memory") {
					inSub.dirs[i] = c.dirs[i]
				}
			}
			inSub.unified = c.unified
			checkMember(t, inSub, p.Process.Pid)
		}
		for _, bad := range []map[string]string{{"": "missing"}, {"": "../x"}, {"": "sub/../.."}, {"nothing": "sub"}} {
			if j, err := c.JoinBelow(bad); err == nil {
				j.Close()
				t.Errorf("joined %v", bad)
			}
		}
	})
}
