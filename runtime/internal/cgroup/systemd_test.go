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

// scope makes a cgroup by systemd and puts a shell into it. The slice is below two others.
func scope(t *testing.T, h *Host, cfg Config) (*Cgroup, *process) {
	t.Helper()
	if !h.Systemd {
		t.Skip("systemd is not running")
	}
	name := fmt.Sprintf("gosuda-test%d", os.Getpid())
	cfg.Path = "gosudatest-a-b.slice:" + name + ":id"
	c, err := New(h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if want := name + "-id.scope"; c.Unit() != want ||
		!strings.HasSuffix(c.all()[0], "/gosudatest.slice/gosudatest-a.slice/gosudatest-a-b.slice/"+want) {
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
	return c, p
}

// TestSystemd is the life of a container in a scope.
func TestSystemd(t *testing.T) {
	h := probe(t)
	c, p := scope(t, h, Config{Resources: &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20))},
		CPU:    &specs.LinuxCPU{Quota: ptr(int64(20000)), Period: ptr(uint64(50000)), Shares: ptr(uint64(512))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(50))},
	}})
	checkMember(t, c, p.Process.Pid)
	if c.NeedsPid() {
		t.Error("the scope needs one more process")
	}
	run(t, c, "read x") // as exec does
	if pids, err := c.Pids(); err != nil || len(pids) != 2 {
		t.Errorf("processes %v, %v", pids, err)
	}
	check := func(memory, tasks, quota, perSecond string) {
		t.Helper()
		checkFiles(t, c, map[string]string{"memory.limit_in_bytes": memory, "cpu.shares": "512", "cpu.cfs_quota_us": quota, "cpu.cfs_period_us": "50000"},
			map[string]string{"memory.max": memory, "cpu.weight": "59", "cpu.max": quota + " 50000"},
			map[string]string{"pids.max": tasks})
		limit := "MemoryMax"
		if h.Mode == V1 {
			limit = "MemoryLimit"
		}
		want := strings.Join([]string{memory, strings.Replace(tasks, "max", "infinity", 1), perSecond, "yes active"}, " ")
		if got := show(t, c, limit, "TasksMax", "CPUQuotaPerSecUSec", "Delegate", "ActiveState"); got != want {
			t.Errorf("the unit has %s, want %s", got, want)
		}
	}
	reload := func() {
		t.Helper()
		if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	check("67108864", "50", "20000", "400ms")
	err := c.Set(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(32 << 20))}, Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}})
	if err != nil {
		t.Fatal(err)
	}
	check("33554432", "max", "20000", "400ms")
	// What systemd knows survives its reload; what it does not know it leaves alone.
	reload()
	check("33554432", "max", "20000", "400ms")
	if err := c.Set(&specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(30000))}}); err != nil { // of the same period
		t.Fatal(err)
	}
	reload()
	check("33554432", "max", "30000", "600ms")

	testDevices(t, c, "open, EPERM, EPERM")
	err = c.Set(&specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{rule(false, "a", -1, -1, "rwm"), rule(true, "c", 1, 11, "r")}})
	if err != nil {
		t.Fatal(err)
	}
	testDevices(t, c, "open, open, EPERM")
	reload()
	testDevices(t, c, "open, open, EPERM")
}

// TestSystemdAnnotations has properties of the unit set by annotations; a limit wins over one of the same name.
func TestSystemdAnnotations(t *testing.T) {
	h := probe(t)
	c, _ := scope(t, h, Config{
		Resources: &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(50))}},
		Annotations: map[string]string{
			PropertyPrefix + "TimeoutStopSec":  "uint32 7",
			PropertyPrefix + "CollectMode":     "'inactive-or-failed'",
			PropertyPrefix + "SendSIGHUP":      "true",
			PropertyPrefix + "TasksMax":        "uint64 7",
			PropertyPrefix + "Description":     `"a container"`,
			"org.systemd.something.else.Slice": "is none of this",
		},
	})
	want := "7s inactive-or-failed yes 50 a container"
	if got := show(t, c, "TimeoutStopUSec", "CollectMode", "SendSIGHUP", "TasksMax", "Description"); got != want {
		t.Errorf("the unit has %s, want %s", got, want)
	}
}

// A property that systemd does not have is told of by its name, and leaves nothing behind.
func TestSystemdRefused(t *testing.T) {
	h := probe(t)
	if !h.Systemd {
		t.Skip("systemd is not running")
	}
	c, err := New(h, Config{Path: fmt.Sprintf("system.slice:gosuda-test%d:bad", os.Getpid()),
		Annotations: map[string]string{PropertyPrefix + "NoSuchThing": "true"}})
	if err != nil {
		t.Fatal(err)
	}
	p := runVia(t, &JoinFDs{Unified: -1}, "read x")
	if err := c.AddPid(p.Process.Pid); err == nil || !strings.Contains(err.Error(), "NoSuchThing") || !strings.Contains(err.Error(), c.Unit()) {
		t.Errorf("%v", err)
	}
	if err := c.Destroy(timeout(t)); err != nil {
		t.Error(err)
	}
}

func TestAnnotatedProperties(t *testing.T) {
	for _, test := range []struct{ name, value, want string }{
		{"TimeoutStopSec", "uint64 3", "TimeoutStopUSec=3000000"},
		{"TimeoutStopSec", "int32 -3", "TimeoutStopUSec=0"},
		{"TimeoutStopSec", "1.5", "TimeoutStopUSec=1500000"},
		{"TimeoutStopSec", "uint64 18446744073709551615", "TimeoutStopUSec=18446744073709551615"},
		{"TimeoutStopUSec", "uint64 3", "TimeoutStopUSec=3"},
		{"CPUQuotaPerSecUSec", "uint64 3", "CPUQuotaPerSecUSec=3"},
		{"XSec", "3", "XSec=3"},
		{"CollectMode", "'inactive'", "CollectMode=inactive"},
		{"SendSIGHUP", "true", "SendSIGHUP=true"},
		{"After", "['a.service', 'b.service']", `After=["a.service" "b.service"]`},

		{"X", "true", `annotations["org.systemd.property.X"]: "X" is not the name of a property`},
		{"No.Such", "true", `annotations["org.systemd.property.No.Such"]: "No.Such" is not the name of a property`},
		{"TimeoutStopSec", "'3'", `annotations["org.systemd.property.TimeoutStopSec"]: "'3'": not a number of seconds`},
	} {
		properties, err := annotatedProperties(map[string]string{PropertyPrefix + test.name: test.value, "other": "x"})
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = properties[0].Name + "=" + jsonText(t, properties[0].Value.Value())
		}
		if got != test.want {
			t.Errorf("%s %s:\ngot  %s\nwant %s", test.name, test.value, got, test.want)
		}
	}
	if _, err := annotatedProperties(map[string]string{PropertyPrefix + "Abc": "not {a value"}); err == nil {
		t.Error("a value that is none was accepted")
	}
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
