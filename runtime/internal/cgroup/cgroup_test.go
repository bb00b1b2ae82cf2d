package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestJoin(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, nil)
		p := run(t, c, "read x")
		pids, err := c.Pids()
		if err != nil || !slices.Equal(pids, []int{p.Process.Pid}) {
			t.Errorf("processes %v, %v; want %d", pids, err, p.Process.Pid)
		}
		checkMember(t, c, p.Process.Pid)
		if n := threadsIn(t, c); n != 0 {
			t.Errorf("%d threads of this process are in the cgroup", n)
		}
	})
}

// checkMember checks that a process is in every directory of a cgroup.
func checkMember(t *testing.T, c *Cgroup, pid int) {
	t.Helper()
	dirs := c.dirs
	if c.unified != "" {
		dirs = append(slices.Clone(dirs), dir{mount: c.host.Unified, path: c.unified})
	}
	for _, d := range dirs {
		if path, err := c.host.dirOf(pid, d.mount); err != nil || path != d.path {
			t.Errorf("process %d is in %q, %v; want %q", pid, path, err, d.path)
		}
	}
}

// threadsIn counts this process's threads in a cgroup.
func threadsIn(t *testing.T, c *Cgroup) int {
	t.Helper()
	file := "cgroup.threads"
	if len(c.dirs) > 0 {
		file = "tasks"
	}
	n := 0
	for _, path := range c.all() {
		data, err := os.ReadFile(filepath.Join(path, file))
		if os.IsNotExist(err) {
			data, err = os.ReadFile(filepath.Join(path, "cgroup.threads"))
		}
		if err != nil {
			t.Fatal(err)
		}
		for tid := range strings.FieldsSeq(string(data)) {
			if _, err := os.Stat("/proc/self/task/" + tid); err == nil {
				n++
			}
		}
	}
	return n
}

func TestAddPid(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, nil)
		p := runVia(t, &JoinFDs{Unified: -1}, "read x")
		if err := c.AddPid(p.Process.Pid); err != nil {
			t.Fatal(err)
		}
		checkMember(t, c, p.Process.Pid)
	})
}

// A container may make child cgroups and hand them controllers, as systemd does: then nothing can be born in its cgroup.
func TestJoinOf(t *testing.T) {
	h := probe(t)
	if h.Mode != V2 {
		t.Skip("the controllers are in cgroup v1")
	}
	c := create(t, h, nil)
	init := run(t, c, `mkdir "`+c.unified+`/init" && echo $$ > "`+c.unified+`/init/cgroup.procs" &&
		echo +pids > "`+c.unified+`/cgroup.subtree_control"; echo moved; read x`)
	if line := init.line(t); line != "moved" {
		t.Fatal(line)
	}
	j, err := c.Join()
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if _, err := tryRun(t, j, "true"); !errors.Is(err, unix.EBUSY) {
		t.Fatalf("born in a cgroup that has handed out controllers: %v, want EBUSY", err)
	}
	of, err := c.JoinOf(init.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer of.Close()
	p := runVia(t, of, "read x")
	if path, _ := h.dirOf(p.Process.Pid, h.Unified); path != c.unified+"/init" {
		t.Errorf("the second process is in %s", path)
	}
	if pids, err := c.Pids(); err != nil || len(pids) != 2 {
		t.Errorf("processes %v, %v", pids, err)
	}
	if _, err := c.JoinOf(os.Getpid()); err == nil {
		t.Error("a process outside of the container showed the way")
	}
}

func TestLimits(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Reservation: ptr(int64(32 << 20))},
			CPU:    &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(20000)), Period: ptr(uint64(50000))},
			Pids:   &specs.LinuxPids{Limit: ptr(int64(50))},
		})
		checkFiles(t, c, map[string]string{
			"memory.limit_in_bytes": "67108864", "memory.soft_limit_in_bytes": "33554432",
			"cpu.shares": "512", "cpu.cfs_quota_us": "20000", "cpu.cfs_period_us": "50000",
		}, map[string]string{
			"memory.max": "67108864", "memory.low": "33554432", "cpu.weight": "59", "cpu.max": "20000 50000",
		}, map[string]string{"pids.max": "50"})

		// Each of these writes is refused by the kernel if the other one of its pair does not come first.
		for _, r := range []specs.LinuxResources{
			{CPU: &specs.LinuxCPU{Quota: ptr(int64(5000)), Period: ptr(uint64(10000))}, Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}},
			{Memory: &specs.LinuxMemory{Limit: ptr(int64(32 << 20)), Swap: ptr(int64(40 << 20))}},
			{Memory: &specs.LinuxMemory{Limit: ptr(int64(128 << 20)), Swap: ptr(int64(256 << 20))}},
			{Memory: &specs.LinuxMemory{Limit: ptr(int64(16 << 20)), Swap: ptr(int64(16 << 20))}},
		} {
			if r.Memory != nil && !hasSwap(c) {
				r.Memory.Swap = nil
			}
			if err := c.Set(&r); err != nil {
				t.Fatal(err)
			}
		}
		checkFiles(t, c, map[string]string{
			"memory.limit_in_bytes": "16777216", "memory.soft_limit_in_bytes": "33554432",
			"cpu.shares": "512", "cpu.cfs_quota_us": "5000", "cpu.cfs_period_us": "10000",
		}, map[string]string{
			"memory.max": "16777216", "memory.low": "33554432", "cpu.weight": "59", "cpu.max": "5000 10000",
		}, map[string]string{"pids.max": "max"})

		if err := c.Set(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(-1))}}); err != nil {
			t.Fatal(err)
		}
		if err := c.Set(nil); err != nil {
			t.Fatal(err)
		}
		err := c.Set(&specs.LinuxResources{
			Pids: &specs.LinuxPids{Limit: ptr(int64(3))}, Unified: map[string]string{"nothing.max": "1"}})
		if err == nil {
			t.Fatal("set what is not there")
		}
		checkFiles(t, c, nil, nil, map[string]string{"pids.max": "max"})
	})
}

func hasSwap(c *Cgroup) bool {
	_, v1 := os.Stat(c.file("memory", "memory.memsw.limit_in_bytes"))
	_, v2 := os.Stat(c.file("memory", "memory.swap.max"))
	return v1 == nil || v2 == nil
}

// checkFiles compares files with what they should contain.
func checkFiles(t *testing.T, c *Cgroup, v1, v2, both map[string]string) {
	t.Helper()
	want := []map[string]string{v1, both}
	if c.host.Mode == V2 {
		want[0] = v2
	}
	for _, files := range want {
		for file, v := range files {
			controller, _, _ := strings.Cut(file, ".")
			if got, err := readFile(c.file(controller, file)); err != nil || got != v {
				t.Errorf("%s is %q, %v; want %q", file, got, err, v)
			}
		}
	}
}

// What cannot be had leaves nothing behind, also not the parents that were made for it.
func TestCreateUndone(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		for name, r := range map[string]specs.LinuxResources{
			"pids.limit": {Pids: &specs.LinuxPids{Limit: ptr(int64(1) << 62)}},
			"cpu.quota":  {CPU: &specs.LinuxCPU{Quota: ptr(int64(1))}},
		} {
			c, err := New(h, Config{Path: testRoot + "/undone/" + name, Resources: &r})
			if err != nil {
				t.Fatal(err)
			}
			err = c.Create()
			if err == nil || !strings.Contains(err.Error(), "set linux.resources."+name+" to ") {
				t.Errorf("%s: %v", name, err)
			}
			for _, path := range c.all() {
				if _, err := os.Stat(filepath.Dir(path)); !os.IsNotExist(err) {
					t.Errorf("%s is left behind: %v", filepath.Dir(path), err)
				}
			}
		}
	})
}

// A process that is born before v1 has its directories finds them later. Where one of the cgroup2 tree was there, Create comes first, and
// sees whether somebody is in it.
func TestBegin(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		for _, name := range []string{"made", "abandoned"} {
			c, err := New(h, Config{Path: testRoot + "/begun/" + name})
			if err != nil {
				t.Fatal(err)
			}
			if isNew, err := c.Begin(); err != nil || !isNew {
				t.Fatal(isNew, err)
			}
			join, err := c.JoinUnified()
			if err != nil {
				t.Fatal(err)
			}
			defer join.Close()
			if name == "abandoned" {
				c.Abandon()
			} else {
				p := runVia(t, join, "read x")
				if err := c.Create(); err != nil {
					t.Error(err)
				}
				late, err := c.JoinV1()
				if err != nil || late.Unified >= 0 || len(late.Tasks) != c.Hierarchies() {
					t.Fatalf("%+v, %v", late, err)
				}
				for _, fd := range late.Tasks {
					if _, err := unix.Write(fd, []byte(itoa(int64(p.Process.Pid)))); err != nil {
						t.Error(err)
					}
				}
				late.Close()
				if pids, err := c.Pids(); err != nil || !slices.Equal(pids, []int{p.Process.Pid}) {
					t.Errorf("processes %v, %v; want %d", pids, err, p.Process.Pid)
				}
				again, err := New(h, Config{Path: testRoot + "/begun/" + name})
				if err != nil {
					t.Fatal(err)
				}
				if isNew, err := again.Begin(); err != nil || isNew != (h.Unified == "") {
					t.Errorf("again: %t, %v", isNew, err)
				}
				again.Abandon()
				p.in.Close()
				p.Wait()
				if err := c.Remove(timeout(t)); err != nil {
					t.Error(err)
				}
				c.Abandon()
			}
			for _, path := range c.all() {
				if _, err := os.Stat(path); !os.IsNotExist(err) {
					t.Errorf("%s: %s is left behind: %v", name, path, err)
				}
			}
		}
		for _, hier := range h.Hierarchies { // which Create has made on the way
			os.Remove(filepath.Join(hier.Mount, testRoot, "begun"))
		}
	})
}

func TestCreateExisting(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, nil)
		again := func() error {
			path := strings.TrimPrefix(c.all()[0], append(c.dirs, dir{mount: h.Unified})[0].mount)
			second, err := New(h, Config{Path: path})
			if err != nil {
				t.Fatal(err)
			}
			return second.Create()
		}
		if err := again(); err != nil {
			t.Errorf("an empty cgroup is there: %v", err)
		}
		p := run(t, c, "read x")
		if err := again(); err == nil || !strings.HasSuffix(err.Error(), "not empty: 1 processes") {
			t.Errorf("a process is there: %v", err)
		}
		p.in.Close()
		if err := p.Wait(); err == nil {
			t.Error("read at the end of input succeeded")
		}
		if err := c.Freeze(timeout(t)); err != nil {
			t.Fatal(err)
		}
		if err := again(); err == nil || !strings.HasSuffix(err.Error(), "frozen") {
			t.Errorf("it is frozen: %v", err)
		}
	})
}

// Containers of one pod start at the same time, in a parent that none of them finds.
func TestCreateParallel(t *testing.T) {
	h := probe(t)
	for range 25 { // each time below a parent that is new
		parent, err := New(h, Config{Path: testRoot + "/parallel"})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
			wg.Go(func() {
				c, err := New(h, Config{Path: testRoot + "/parallel/" + name, Resources: &specs.LinuxResources{
					Pids: &specs.LinuxPids{Limit: ptr(int64(5))}}})
				if err == nil {
					err = c.Create()
				}
				if err == nil {
					err = c.Destroy(timeout(t))
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := parent.Destroy(timeout(t)); err != nil {
			t.Error(err)
		}
	}
}

func TestDestroy(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, nil)
		for _, path := range c.all() { // as a container does that runs containers
			if err := os.MkdirAll(path+"/child/grandchild", 0o755); err != nil {
				t.Fatal(err)
			}
		}
		p := run(t, c, "read x; sleep 0.1")
		done := make(chan error)
		go func() { done <- c.Destroy(timeout(t)) }() // waits for the process
		p.in.Close()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if _, err := c.Pids(); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("processes of a destroyed cgroup: %v", err)
		}
		if err := c.Stats(new(Stats)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("figures of a destroyed cgroup: %v", err)
		}
		for range 2 {
			if err := errors.Join(c.Kill(timeout(t)), c.Thaw(), c.Destroy(timeout(t))); err != nil {
				t.Errorf("once more: %v", err)
			}
		}
	})
}

// TestRemove: whatever is in a cgroup is killed, also below it, and also where only one hierarchy knows of it.
func TestRemove(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		empty := create(t, h, nil)
		for range 2 {
			if err := empty.Remove(timeout(t)); err != nil {
				t.Error(err)
			}
		}
		for name, leave := range map[string]func(c *Cgroup, pid string) error{
			"all": func(*Cgroup, string) error { return nil },
			"but the cgroup2 tree's": func(c *Cgroup, pid string) error {
				if h.Mode == V2 || c.unified == "" {
					return nil
				}
				return os.WriteFile(h.Unified+"/cgroup.procs", []byte(pid), 0)
			},
		} {
			c := create(t, h, nil)
			p := run(t, c, "echo started; read x")
			p.line(t)
			if err := leave(c, strconv.Itoa(p.Process.Pid)); err != nil {
				t.Fatal(err)
			}
			go p.Wait()
			if err := c.Remove(timeout(t)); err != nil {
				t.Errorf("in %s: %v", name, err)
			}
			for _, path := range c.all() {
				if _, err := os.Stat(path); !os.IsNotExist(err) {
					t.Errorf("in %s: %s: %v", name, path, err)
				}
			}
		}
	})
}
