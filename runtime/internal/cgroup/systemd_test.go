package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestSystemd is the life of a container in a scope.
func TestSystemd(t *testing.T) {
	h := probe(t)
	if !h.Systemd {
		t.Skip("systemd is not running")
	}
	name := fmt.Sprintf("gosuda-test%d", os.Getpid())
	c, err := New(h, Config{Path: "gosudatest.slice:" + name + ":id", Resources: &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20))},
		CPU:    &specs.LinuxCPU{Quota: ptr(int64(20000)), Period: ptr(uint64(50000)), Shares: ptr(uint64(512))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(50))},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := name + "-id.scope"; c.Unit() != want || !strings.HasSuffix(c.all()[0], "/gosudatest.slice/"+want) {
		t.Fatalf("unit %s in %q", c.Unit(), c.all())
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Kill(timeout(t)), c.Destroy(timeout(t)), c.Destroy(timeout(t))); err != nil {
			t.Error(err)
		}
		if got := show(t, c, "ActiveState", "LoadState"); got != "inactive not-found" {
			t.Errorf("afterwards the unit is %s", got)
		}
		if _, err := c.Pids(); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("afterwards the processes are: %v", err)
		}
	})
	if err := c.Create(); err != nil {
		t.Fatal(err)
	}
	if !c.NeedsPid() {
		t.Fatal("a scope without a process")
	}
	p := runVia(t, &JoinFDs{Unified: -1}, "read x")
	if err := c.AddPid(p.Process.Pid); err != nil {
		t.Fatal(err)
	}
	checkMember(t, c, p.Process.Pid)
	if c.NeedsPid() {
		t.Error("the scope needs one more process")
	}
	run(t, c, "read x") // as exec does
	if pids, err := c.Pids(); err != nil || len(pids) != 2 {
		t.Errorf("processes %v, %v", pids, err)
	}
	check := func(memory, tasks, properties string) {
		t.Helper()
		checkFiles(t, c, map[string]string{"memory.limit_in_bytes": memory, "cpu.shares": "512"},
			map[string]string{"memory.max": memory, "cpu.weight": "59", "cpu.max": "20000 50000"},
			map[string]string{"pids.max": tasks})
		limit := "MemoryMax"
		if h.Mode == V1 {
			limit = "MemoryLimit"
		}
		if got := show(t, c, limit, "TasksMax", "CPUQuotaPerSecUSec", "Delegate", "ActiveState"); got != properties {
			t.Errorf("the unit has %s, want %s", got, properties)
		}
	}
	check("67108864", "50", "67108864 50 400ms yes active")
	err = c.Set(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(32 << 20))}, Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}})
	if err != nil {
		t.Fatal(err)
	}
	check("33554432", "max", "33554432 infinity 400ms yes active")
	// What systemd knows survives its reload; what it does not know it leaves alone.
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	check("33554432", "max", "33554432 infinity 400ms yes active")
	testDevices(t, c, "open, EPERM, EPERM")
}

// show asks systemd for properties of a unit.
func show(t *testing.T, c *Cgroup, names ...string) string {
	t.Helper()
	var values []string
	for _, name := range names {
		out, err := exec.Command("systemctl", "show", "--value", "-p", name, c.Unit()).Output()
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, strings.TrimSpace(string(out)))
	}
	return strings.Join(values, " ")
}
