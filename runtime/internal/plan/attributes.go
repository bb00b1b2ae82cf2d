package plan

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// name is a name of the runtime-spec with the kernel's number for it.
type name[T ~string, N any] struct {
	name  T
	value N
}

func find[T ~string, N any](table []name[T, N], key T) (value N, ok bool) {
	i := slices.IndexFunc(table, func(n name[T, N]) bool { return n.name == key })
	if i < 0 {
		return value, false
	}
	return table[i].value, true
}

func names[T ~string, N any](table []name[T, N]) []string {
	out := make([]string, len(table))
	for i, n := range table {
		out[i] = string(n.name)
	}
	return out
}

// schedPolicies are SCHED_* of linux/sched.h. No mainline kernel implements SCHED_ISO; those that do not answer EINVAL.
var schedPolicies = []name[specs.LinuxSchedulerPolicy, uint32]{
	{specs.SchedOther, 0}, {specs.SchedFIFO, 1}, {specs.SchedRR, 2}, {specs.SchedBatch, 3}, {specs.SchedISO, 4},
	{specs.SchedIdle, 5}, {specs.SchedDeadline, 6},
}

var schedFlags = []name[specs.LinuxSchedulerFlag, uint64]{
	{specs.SchedFlagResetOnFork, 0x01}, {specs.SchedFlagReclaim, 0x02}, {specs.SchedFlagDLOverrun, 0x04},
	{specs.SchedFlagKeepPolicy, 0x08}, {specs.SchedFlagKeepParams, 0x10}, {specs.SchedFlagUtilClampMin, 0x20},
	{specs.SchedFlagUtilClampMax, 0x40},
}

var ioClasses = []name[specs.IOPriorityClass, int]{
	{specs.IOPRIO_CLASS_RT, 1}, {specs.IOPRIO_CLASS_BE, 2}, {specs.IOPRIO_CLASS_IDLE, 3},
}

var personalities = []name[specs.LinuxPersonalityDomain, uint32]{{specs.PerLinux, 0}, {specs.PerLinux32, 8}}

// memoryModes and memoryFlags are MPOL_* and MPOL_F_* of linux/mempolicy.h, in byte order as `features` prints them.
var memoryModes = []name[specs.MemoryPolicyModeType, int]{
	{specs.MpolBind, 2}, {specs.MpolDefault, 0}, {specs.MpolInterleave, 3}, {specs.MpolLocal, 4}, {specs.MpolPreferred, 1},
	{specs.MpolPreferredMany, 5}, {specs.MpolWeightedInterleave, 6},
}

var memoryFlags = []name[specs.MemoryPolicyFlagType, int]{
	{specs.MpolFNumaBalancing, 1 << 13}, {specs.MpolFRelativeNodes, 1 << 14}, {specs.MpolFStaticNodes, 1 << 15},
}

// MemoryPolicyModes returns the modes of linux.memoryPolicy that this engine knows, sorted.
func MemoryPolicyModes() []string { return names(memoryModes) }

// MemoryPolicyFlags returns the flags of linux.memoryPolicy that this engine knows, sorted.
func MemoryPolicyFlags() []string { return names(memoryFlags) }

// attributes plans what the task is given beside its credentials. The order does not matter, but all of it needs the
// capabilities that the credentials take away, and comes before a filter that may refuse it.
func (c *compiler) attributes(p *specs.Process) error {
	for _, plan := range []func(*specs.Process) error{c.scheduler, c.ioPriority, c.personality, c.memoryPolicy} {
		if err := plan(p); err != nil {
			return err
		}
	}
	return nil
}

func (c *compiler) scheduler(p *specs.Process) error {
	s := p.Scheduler
	if s == nil {
		return nil
	}
	const at = "process.scheduler"
	if s.Policy == "" {
		return &Error{at + ".policy", "is missing"}
	}
	policy, ok := find(schedPolicies, s.Policy)
	if !ok {
		return &Error{at + ".policy", fmt.Sprintf("unknown policy %q", s.Policy)}
	}
	realtime := s.Policy == specs.SchedFIFO || s.Policy == specs.SchedRR
	step := Scheduler{Name: string(s.Policy), Policy: policy, Nice: s.Nice, Priority: uint32(s.Priority),
		Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period, Gate: c.inUserNS()}
	keep := false
	for i, f := range s.Flags {
		bit, ok := find(schedFlags, f)
		if !ok {
			return &Error{fmt.Sprintf("%s.flags[%d]", at, i), fmt.Sprintf("unknown flag %q", f)}
		}
		keep = keep || f == specs.SchedFlagKeepParams
		step.Flags |= bit
	}
	switch {
	case (s.Policy == specs.SchedOther || s.Policy == specs.SchedBatch) && (s.Nice < -20 || s.Nice > 19):
		return &Error{at + ".nice", fmt.Sprintf("%d is not between -20 and 19", s.Nice)}
	case s.Priority != 0 && !realtime:
		return &Error{at + ".priority", fmt.Sprintf("is for SCHED_FIFO and SCHED_RR, not for %s", s.Policy)}
	case realtime && !keep && (s.Priority < 1 || s.Priority > 99):
		return &Error{at + ".priority", fmt.Sprintf("%d is not between 1 and 99, as %s needs it", s.Priority, s.Policy)}
	case s.Policy != specs.SchedDeadline && (s.Runtime != 0 || s.Deadline != 0 || s.Period != 0):
		return &Error{at, fmt.Sprintf("runtime, deadline and period are for SCHED_DEADLINE, not for %s", s.Policy)}
	}
	c.add(at, step)
	return nil
}

func (c *compiler) ioPriority(p *specs.Process) error {
	io := p.IOPriority
	if io == nil {
		return nil
	}
	class, ok := find(ioClasses, io.Class)
	switch {
	case !ok:
		return &Error{"process.ioPriority.class", fmt.Sprintf("unknown class %q", io.Class)}
	case io.Priority < 0 || io.Priority > 7:
		return &Error{"process.ioPriority.priority", fmt.Sprintf("%d is not between 0 and 7", io.Priority)}
	}
	c.add("process.ioPriority", IOPriority{Name: string(io.Class), Class: class, Level: io.Priority, Gate: c.inUserNS()})
	return nil
}

func (c *compiler) personality(*specs.Process) error {
	p := c.spec.Linux.Personality
	if p == nil {
		return nil
	}
	persona, ok := find(personalities, p.Domain)
	if !ok {
		return &Error{"linux.personality.domain", fmt.Sprintf("unknown domain %q", p.Domain)}
	}
	if len(p.Flags) > 0 {
		return &Error{"linux.personality.flags[0]", fmt.Sprintf("unknown flag %q: the runtime-spec defines none", p.Flags[0])}
	}
	c.add("linux.personality", Personality{Name: string(p.Domain), Persona: persona})
	return nil
}

func (c *compiler) memoryPolicy(*specs.Process) error {
	p := c.spec.Linux.MemoryPolicy
	if p == nil {
		return nil
	}
	const at = "linux.memoryPolicy"
	mode, ok := find(memoryModes, p.Mode)
	if !ok {
		return &Error{at + ".mode", fmt.Sprintf("unknown mode %q", p.Mode)}
	}
	step := MemoryPolicy{Name: string(p.Mode), Mode: mode}
	for i, f := range p.Flags {
		bit, ok := find(memoryFlags, f)
		if !ok {
			return &Error{fmt.Sprintf("%s.flags[%d]", at, i), fmt.Sprintf("unknown flag %q", f)}
		}
		step.Mode |= bit
		step.Name += "|" + string(f)
	}
	if p.Nodes != "" {
		var err error
		if step.Nodes, err = parseList(p.Nodes, maxNodes); err != nil {
			return &Error{at + ".nodes", err.Error()}
		}
	}
	switch p.Mode {
	case specs.MpolDefault, specs.MpolLocal:
		if step.Nodes != nil {
			return &Error{at + ".nodes", fmt.Sprintf("%s takes none", p.Mode)}
		}
	case specs.MpolPreferred: // without nodes: those next to the CPU
	default:
		if step.Nodes == nil {
			return &Error{at + ".nodes", fmt.Sprintf("is empty, %s needs at least one", p.Mode)}
		}
	}
	c.add(at, step)
	return nil
}

// affinities are the CPUs of an exec before and after it enters the container's cgroup; nil for those that are not set.
func affinities(p *specs.Process) (initial, final Mask, err error) {
	a := p.ExecCPUAffinity
	if a == nil {
		return nil, nil, nil
	}
	for _, one := range []struct {
		name, list string
		mask       *Mask
	}{{"initial", a.Initial, &initial}, {"final", a.Final, &final}} {
		if one.list == "" {
			continue
		}
		if *one.mask, err = parseList(one.list, maxCPUs); err != nil {
			return nil, nil, &Error{"process.execCPUAffinity." + one.name, err.Error()}
		}
	}
	return initial, final, nil
}
