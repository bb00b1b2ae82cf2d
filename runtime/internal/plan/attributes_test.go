package plan_test

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// attributes sets everything that a task keeps over execve beside its credentials.
func attributes(s *specs.Spec) {
	s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedDeadline, Runtime: 1e6, Deadline: 1e7, Period: 2e7,
		Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork, specs.SchedFlagReclaim}}
	s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "1", Final: "0-1,7"}
	s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolInterleave, Nodes: "0,2-3",
		Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}
}

func TestAttributes(t *testing.T) {
	goldenCase(t, "attributes", true, attributes)
	goldenCase(t, "attributes-userns", false, func(s *specs.Spec) { attributes(s); userNamespace(s) })
}

func TestRefusedAttributes(t *testing.T) {
	scheduler := func(s specs.Scheduler) func(*specs.Spec) {
		return func(spec *specs.Spec) { spec.Process.Scheduler = &s }
	}
	memory := func(m specs.LinuxMemoryPolicy) func(*specs.Spec) {
		return func(spec *specs.Spec) { spec.Linux.MemoryPolicy = &m }
	}
	for _, tc := range []struct {
		path   string
		change func(*specs.Spec)
	}{
		{"process.scheduler.policy", scheduler(specs.Scheduler{})},
		{"process.scheduler.policy", scheduler(specs.Scheduler{Policy: "SCHED_FAST"})},
		{"process.scheduler.flags[1]", scheduler(specs.Scheduler{Policy: specs.SchedIdle, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagReclaim, "X"}})},
		{"process.scheduler.nice", scheduler(specs.Scheduler{Policy: specs.SchedOther, Nice: 20})},
		{"process.scheduler.nice", scheduler(specs.Scheduler{Policy: specs.SchedBatch, Nice: -21})},
		{"process.scheduler.priority", scheduler(specs.Scheduler{Policy: specs.SchedBatch, Priority: 1})},
		{"process.scheduler.priority", scheduler(specs.Scheduler{Policy: specs.SchedFIFO})},
		{"process.scheduler.priority", scheduler(specs.Scheduler{Policy: specs.SchedRR, Priority: 100})},
		{"process.scheduler.priority", scheduler(specs.Scheduler{Policy: specs.SchedRR, Priority: -1})},
		{"process.scheduler", scheduler(specs.Scheduler{Policy: specs.SchedOther, Deadline: 1})},
		{"process.ioPriority.class", func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{} }},
		{"process.ioPriority.priority", func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
		}},
		{"process.execCPUAffinity.initial", func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "x"} }},
		{"process.execCPUAffinity.final", func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Final: ","} }},
		{"linux.personality.domain", func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{} }},
		{"linux.personality.flags[0]", func(s *specs.Spec) {
			s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux, Flags: []specs.LinuxPersonalityFlag{"ADDR_NO_RANDOMIZE"}}
		}},
		{"linux.memoryPolicy.mode", memory(specs.LinuxMemoryPolicy{})},
		{"linux.memoryPolicy.flags[0]", memory(specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{"X"}})},
		{"linux.memoryPolicy.nodes", memory(specs.LinuxMemoryPolicy{Mode: specs.MpolBind})},
		{"linux.memoryPolicy.nodes", memory(specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "1024"})},
		{"linux.memoryPolicy.nodes", memory(specs.LinuxMemoryPolicy{Mode: specs.MpolDefault, Nodes: "0"})},
		{"linux.memoryPolicy.nodes", memory(specs.LinuxMemoryPolicy{Mode: specs.MpolLocal, Nodes: "0"})},
	} {
		refused(t, tc.path, tc.change)
	}
}

// TestExecInherits: what an exec leaves open is the container's, what it says is its own.
func TestExecInherits(t *testing.T) {
	spec := testkit.Spec("true")
	attributes(spec)
	umask, score := uint32(0o77), 300
	spec.Process.User.Umask, spec.Process.OOMScoreAdj = &umask, &score
	p := &specs.Process{Args: []string{"/bin/true"}, Cwd: "/", IOPriority: &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE}}
	pl, err := plan.CompileExec(spec, p, facts(true))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "exec-inherits", pl)
}
