package engine_test

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// addUserNamespace maps the container's root to an id of nobody.
func addUserNamespace(s *specs.Spec) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	s.Linux.GIDMappings = s.Linux.UIDMappings
}

// realtimeGroups tells whether cgroups bound real-time scheduling (cgroup v1 with CONFIG_RT_GROUP_SCHED).
func realtimeGroups() bool { return exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us") }

// realtimeAllowed tells whether this kernel lets a container have real-time scheduling: with cgroup v1 by a limit, with v2
// only if it does not bound it.
func realtimeAllowed(t *testing.T, e *engine.Engine, spec *specs.Spec) bool {
	t.Helper()
	if realtimeGroups() {
		return true
	}
	spec.Linux.CgroupsPath = "/" + newID()
	c, err := e.Create(timeout(t), engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)})
	if err == nil {
		c.Delete(timeout(t))
	}
	return err == nil || !strings.Contains(err.Error(), "real-time bandwidth")
}

// refusedWith makes a container whose config the kernel cannot honour: create says so.
func refusedWith(t *testing.T, want string, change func(*specs.Spec)) {
	t.Helper()
	e, _ := newEngine(t)
	spec := testkit.Spec("true")
	spec.Linux.CgroupsPath = "/" + newID()
	change(spec)
	c, err := e.Create(timeout(t), engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)})
	if err == nil {
		c.Delete(timeout(t))
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

// TestScheduler sets each policy, also for the root of a user namespace, who could not do it by itself.
func TestScheduler(t *testing.T) {
	testkit.NoLeaks(t)
	flags := func(f ...specs.LinuxSchedulerFlag) []specs.LinuxSchedulerFlag { return f }
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	own := int32(20 - raw) // what a policy that sets none leaves
	for _, tc := range []struct {
		name string
		set  specs.Scheduler
		want unix.SchedAttr
	}{
		{"other", specs.Scheduler{Policy: specs.SchedOther, Nice: -5}, unix.SchedAttr{Policy: unix.SCHED_NORMAL, Nice: -5}},
		{"batch", specs.Scheduler{Policy: specs.SchedBatch, Nice: 19}, unix.SchedAttr{Policy: unix.SCHED_BATCH, Nice: 19}},
		{"idle", specs.Scheduler{Policy: specs.SchedIdle}, unix.SchedAttr{Policy: unix.SCHED_IDLE, Nice: own}},
		{"fifo", specs.Scheduler{Policy: specs.SchedFIFO, Priority: 7, Flags: flags(specs.SchedFlagResetOnFork)},
			unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: 7, Flags: unix.SCHED_FLAG_RESET_ON_FORK}},
		{"rr", specs.Scheduler{Policy: specs.SchedRR, Priority: 99}, unix.SchedAttr{Policy: unix.SCHED_RR, Priority: 99}},
		{"deadline", specs.Scheduler{Policy: specs.SchedDeadline, Runtime: 1e6, Deadline: 1e7, Period: 2e7, Flags: flags(specs.SchedFlagDLOverrun, specs.SchedFlagReclaim)},
			unix.SchedAttr{Policy: unix.SCHED_DEADLINE, Runtime: 1e6, Deadline: 1e7, Period: 2e7, Flags: unix.SCHED_FLAG_DL_OVERRUN | unix.SCHED_FLAG_RECLAIM}},
		{"kept", specs.Scheduler{Policy: specs.SchedFIFO, Flags: flags(specs.SchedFlagKeepPolicy, specs.SchedFlagKeepParams)}, unix.SchedAttr{Nice: own}},
	} {
		for _, user := range []bool{false, true} {
			t.Run(tc.name+map[bool]string{true: " in a user namespace"}[user], func(t *testing.T) {
				e, _ := newEngine(t)
				spec := testkit.Spec("sleep", "1000")
				spec.Process.Scheduler = &tc.set
				if user {
					addUserNamespace(spec)
				}
				if realtimeGroups() {
					budget, period := int64(10_000), uint64(1_000_000) // µs
					spec.Linux.Resources.CPU = &specs.LinuxCPU{RealtimeRuntime: &budget, RealtimePeriod: &period}
				}
				if realtime := tc.set.Policy == specs.SchedFIFO || tc.set.Policy == specs.SchedRR; realtime && !realtimeAllowed(t, e, spec) {
					t.Skip("a cgroup v2 gets no real-time bandwidth (CONFIG_RT_GROUP_SCHED)")
				}
				c := create(t, e, spec, nil)
				got, err := unix.SchedGetAttr(c.Pid(), 0)
				if err != nil {
					t.Fatal(err)
				}
				tc.want.Size = got.Size
				got.Util_max, got.Util_min = 0, 0
				if got.Policy != unix.SCHED_DEADLINE {
					got.Runtime = 0 // the slice, since Linux 6.12
				}
				if *got != tc.want {
					t.Errorf("%+v, want %+v", *got, tc.want)
				}
				if err := c.Start(timeout(t)); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestSchedulerRefused: what the kernel refuses names the property and what is missing.
func TestSchedulerRefused(t *testing.T) {
	testkit.NoLeaks(t)
	for _, tc := range []struct {
		name string
		set  specs.Scheduler
		want string
		skip bool
	}{
		{"iso", specs.Scheduler{Policy: specs.SchedISO}, "process.scheduler: set the scheduler SCHED_ISO: invalid argument (the kernel does not implement this policy)", false},
		{"real-time without bandwidth", specs.Scheduler{Policy: specs.SchedRR, Priority: 1}, "cgroup v1 has linux.resources.cpu.realtimeRuntime for that", !realtimeGroups()},
		{"clamps", specs.Scheduler{Policy: specs.SchedOther, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagUtilClampMin}},
			"CONFIG_UCLAMP_TASK", exists("/proc/sys/kernel/sched_util_clamp_min")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.skip {
				t.Skip("the kernel has no cgroup v1 that bounds real-time scheduling, or it clamps utilization (CONFIG_UCLAMP_TASK)")
			}
			refusedWith(t, tc.want, func(s *specs.Spec) { s.Process.Scheduler = &tc.set })
		})
	}
}

// TestDeadlineBandwidth: the kernel admits no more deadline tasks than the CPUs can serve.
func TestDeadlineBandwidth(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	spec := testkit.Spec("sleep", "1000")
	spec.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedDeadline, Runtime: 1e9, Deadline: 1e9, Period: 1e9}
	dir := testkit.Bundle(t, spec)
	for range runtime.NumCPU() + 1 {
		spec.Linux.CgroupsPath = "/" + newID()
		testkit.WriteConfig(t, dir, spec)
		ctx := timeout(t)
		c, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: dir})
		if err != nil {
			if want := "deadline bandwidth"; !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
			return
		}
		defer c.Delete(ctx)
	}
	t.Error("every task was admitted")
}

// ioPriorityOf returns a process's I/O priority as ioprio_get(2) has it.
func ioPriorityOf(t *testing.T, pid int) int {
	t.Helper()
	const whoProcess = 1
	v, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, whoProcess, uintptr(pid), 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	return int(v)
}

func TestIOPriority(t *testing.T) {
	testkit.NoLeaks(t)
	for _, tc := range []struct {
		class specs.IOPriorityClass
		level int
		want  int
	}{
		{specs.IOPRIO_CLASS_RT, 2, 1<<13 | 2}, {specs.IOPRIO_CLASS_BE, 7, 2<<13 | 7}, {specs.IOPRIO_CLASS_IDLE, 0, 3 << 13},
	} {
		for _, user := range []bool{false, true} {
			e, _ := newEngine(t)
			spec := testkit.Spec("sleep", "1000")
			spec.Process.IOPriority = &specs.LinuxIOPriority{Class: tc.class, Priority: tc.level}
			if user {
				addUserNamespace(spec)
			}
			c := create(t, e, spec, nil)
			if got := ioPriorityOf(t, c.Pid()); got != tc.want {
				t.Errorf("%s: %#x, want %#x", tc.class, got, tc.want)
			}
		}
	}
}

// TestPersonality: a 32-bit domain shows in uname(2), also of an exec.
func TestPersonality(t *testing.T) {
	testkit.NoLeaks(t)
	if unix32 := machine(t); unix32 != "x86_64" {
		t.Skipf("a %s that may not run 32-bit programs", unix32)
	}
	e, _ := newEngine(t)
	spec := testkit.Spec("sleep", "1000")
	spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	c := create(t, e, spec, nil)
	if err := c.Start(timeout(t)); err != nil {
		t.Fatal(err)
	}
	for pid, want := range map[string]string{"1": "00000008", "self": "00000008"} {
		if out, _ := startExec(t, c, "p"+pid, "cat", "/proc/"+pid+"/personality"); out != want {
			t.Errorf("personality of %s: %s, want %s", pid, out, want)
		}
	}
	if out, _ := startExec(t, c, "uname", "busybox", "uname", "-m"); out != machine32(t) {
		t.Errorf("uname -m: %s, want %s", out, machine32(t))
	}
	spec = testkit.Spec("busybox", "uname", "-m")
	spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux}
	if out, _ := run(t, spec); strings.TrimSpace(out) != machine(t) {
		t.Errorf("uname -m: %s, want %s", out, machine(t))
	}
}

// machine32 is what the kernel calls the machine in the 32-bit domain; User Mode Linux makes no difference.
func machine32(t *testing.T) string {
	t.Helper()
	name := make(chan string)
	go func() {
		runtime.LockOSThread() // and the thread is gone afterwards
		const perLinux32 = 8
		unix.Syscall(unix.SYS_PERSONALITY, perLinux32, 0, 0)
		name <- machine(t)
	}()
	return <-name
}

func machine(t *testing.T) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(u.Machine[:])
}

// TestMemoryPolicy: numa_maps shows the policy of the task, of init and of an exec.
func TestMemoryPolicy(t *testing.T) {
	testkit.NoLeaks(t)
	if !exists("/proc/self/numa_maps") {
		refusedWith(t, "linux.memoryPolicy: set the memory policy MPOL_LOCAL: function not implemented (the kernel has no NUMA support (CONFIG_NUMA))",
			func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolLocal} })
		return
	}
	for _, tc := range []struct {
		set  specs.LinuxMemoryPolicy
		want string
	}{
		{specs.LinuxMemoryPolicy{Mode: specs.MpolDefault}, "default"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolLocal}, "local"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolPreferred}, "local"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolPreferred, Nodes: "0"}, "prefer:0"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolPreferredMany, Nodes: "0"}, "prefer (many):0"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}, "bind=static:0"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFRelativeNodes}}, "bind=relative:0"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolInterleave, Nodes: "0"}, "interleave:0"},
	} {
		t.Run(tc.want, func(t *testing.T) {
			e, _ := newEngine(t)
			spec := testkit.Spec("sleep", "1000")
			spec.Linux.MemoryPolicy = &tc.set
			addUserNamespace(spec)
			c := create(t, e, spec, nil)
			maps, err := os.ReadFile("/proc/" + itoa(c.Pid()) + "/numa_maps")
			if _, rest, _ := strings.Cut(string(maps), " "); err != nil || !strings.HasPrefix(rest, tc.want+" ") {
				t.Errorf("init: %.60q %v, want %s", maps, err, tc.want)
			}
			out, _ := startExec(t, c, "x", "head", "-n1", "/proc/self/numa_maps")
			if _, rest, _ := strings.Cut(out, " "); !strings.HasPrefix(rest, tc.want+" ") {
				t.Errorf("exec: %q, want %s", out, tc.want)
			}
		})
	}
	refusedWith(t, "linux.memoryPolicy: set the memory policy MPOL_BIND 1023: invalid argument (none of the nodes is there",
		func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "1023"}
		})
}

// TestExecAffinity: an exec runs on the CPUs that were asked for, and else on all of the container's.
func TestExecAffinity(t *testing.T) {
	testkit.NoLeaks(t)
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(1, &all); err != nil {
		t.Fatal(err)
	}
	if all.Count() < 2 {
		t.Skip("the machine has one CPU")
	}
	e, _ := newEngine(t)
	spec := testkit.Spec("sleep", "1000")
	spec.Process.ExecCPUAffinity = &specs.CPUAffinity{Final: "1"}
	c := create(t, e, spec, nil)
	if err := c.Start(timeout(t)); err != nil {
		t.Fatal(err)
	}
	everything := strings.TrimSpace(allowed(t, 1))
	if got := allowed(t, c.Pid()); got != everything {
		t.Errorf("init runs on %s, want %s", got, everything)
	}
	for id, tc := range map[string]struct {
		set  *specs.CPUAffinity
		want string
	}{
		"container's": {nil, "1"}, "none": {&specs.CPUAffinity{}, everything}, "initial": {&specs.CPUAffinity{Initial: "0"}, "0"},
		"final": {&specs.CPUAffinity{Final: "0-1"}, "0-1"}, "both": {&specs.CPUAffinity{Initial: "0", Final: "1"}, "1"},
	} {
		p := testkit.Spec("grep", "Cpus_allowed_list", "/proc/self/status").Process
		p.ExecCPUAffinity = tc.set
		out, _ := execProcess(t, c, strings.Trim(id, "'s"), p)
		if _, got, _ := strings.Cut(out, "\t"); got != tc.want {
			t.Errorf("%s: runs on %s, want %s", id, got, tc.want)
		}
	}
	p := testkit.Spec("true").Process
	p.ExecCPUAffinity = &specs.CPUAffinity{Final: "8000"}
	c.AddExec(timeout(t), engine.ExecRequest{ID: "far", Process: p})
	_, _, err := c.StartExec(timeout(t), "far", engine.Stdio{})
	if want := "process.execCPUAffinity.final: run on the CPUs 8000: invalid argument"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a CPU that is not there: %v", err)
	}
}

// allowed returns the CPUs that a process may run on.
func allowed(t *testing.T, pid int) string {
	t.Helper()
	status, err := os.ReadFile("/proc/" + itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "Cpus_allowed_list:\t")
	list, _, _ := strings.Cut(rest, "\n")
	return list
}

// TestExecInheritsAttributes: an exec that says nothing about them gets the container's.
func TestExecInheritsAttributes(t *testing.T) {
	testkit.NoLeaks(t)
	for _, user := range []bool{false, true} {
		e, _ := newEngine(t)
		spec := testkit.Spec("sleep", "1000")
		umask := uint32(0o37)
		spec.Process.User.Umask = &umask
		spec.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: -3}
		spec.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_RT, Priority: 1}
		if user {
			addUserNamespace(spec)
		}
		c := create(t, e, spec, nil)
		if err := c.Start(timeout(t)); err != nil {
			t.Fatal(err)
		}
		p := &specs.Process{Cwd: "/", Args: []string{"/bin/sh", "-c", "umask; read x < /proc/self/stat; echo $x; grep -e CapEff /proc/self/status; ulimit -n"}}
		out, exit := execProcess(t, c, "x", p)
		lines := strings.Split(out, "\n")
		if exit.Status != 0 || len(lines) != 4 {
			t.Fatalf("output %q, status %d", out, exit.Status)
		}
		stat := strings.Fields(lines[1])
		if lines[0] != "0037" || stat[18] != "-3" || stat[40] != "3" || lines[2] != "CapEff:\t00000000a80425fb" || lines[3] != "1024" {
			t.Errorf("umask %s, nice %s, policy %s, %s, %s files", lines[0], stat[18], stat[40], lines[2], lines[3])
		}
		p = &specs.Process{Cwd: "/", Args: []string{"/bin/sleep", "1000"}}
		if err := c.AddExec(timeout(t), engine.ExecRequest{ID: "y", Process: p}); err != nil {
			t.Fatal(err)
		}
		pid, _, err := c.StartExec(timeout(t), "y", engine.Stdio{})
		if err != nil {
			t.Fatal(err)
		}
		if got := ioPriorityOf(t, pid); got != 1<<13|1 {
			t.Errorf("I/O priority %#x", got)
		}
	}
}

// TestRefusedPrivileges: what takes a capability that the runtime does not have is refused with its name.
func TestRefusedPrivileges(t *testing.T) {
	testkit.NoLeaks(t)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "CapEff:\t")
	caps, _ := strconv.ParseUint(rest[:16], 16, 64)
	if caps&(1<<unix.CAP_SYS_RESOURCE) != 0 {
		t.Skip("the test has CAP_SYS_RESOURCE")
	}
	e, _ := newEngine(t)
	for want, change := range map[string]func(*specs.Spec){
		"process.oomScoreAdj: set oom_score_adj to -999: ": func(s *specs.Spec) { n := -999; s.Process.OOMScoreAdj = &n },
		"process.rlimits: set resource limits RLIMIT_CORE": func(s *specs.Spec) {
			s.Process.Rlimits = append(s.Process.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Hard: 1 << 40, Soft: 1})
			s.Process.Rlimits[0].Type = "RLIMIT_CORE"
		},
	} {
		spec := testkit.Spec("true")
		spec.Linux.CgroupsPath = "/" + newID()
		change(spec)
		_, err := e.Create(timeout(t), engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)})
		if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "CAP_SYS_RESOURCE") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
