package plan

import (
	"fmt"
	"strings"
)

// The attributes of a task that execve keeps and children inherit.

// Affinity restricts the process to some CPUs.
type Affinity struct {
	inChild
	CPUs Mask
	// Early: before the cgroup is entered, which then takes away those that it does not have.
	Early bool
}

func (a Affinity) String() string { return "run on the CPUs " + a.CPUs.String() }

// Scheduler sets policy and parameters of the scheduler.
type Scheduler struct {
	Name   string // of the policy, for printing
	Policy uint32 // SCHED_* of linux/sched.h
	Flags  uint64 // SCHED_FLAG_*
	Nice   int32
	// Priority is that of SCHED_FIFO and SCHED_RR, 1 to 99.
	Priority                  uint32
	Runtime, Deadline, Period uint64 // nanoseconds
	// Gate: the caller does it, because the root of a user namespace may not.
	Gate bool
}

// Where is the child, unless it may not.
func (s Scheduler) Where() Where { return gateOrChild(s.Gate) }

func (s Scheduler) String() string {
	text := "set the scheduler " + s.Name
	for _, p := range []struct {
		name  string
		value any
		set   bool
	}{
		{"nice", s.Nice, s.Nice != 0}, {"priority", s.Priority, s.Priority != 0},
		{"runtime", s.Runtime, s.Runtime != 0}, {"deadline", s.Deadline, s.Deadline != 0}, {"period", s.Period, s.Period != 0},
	} {
		if p.set {
			text += fmt.Sprintf(" %s %d", p.name, p.value)
		}
	}
	if s.Flags != 0 {
		text += fmt.Sprintf(" flags %#x", s.Flags)
	}
	return text
}

// IOPriority sets class and level of the process's input and output.
type IOPriority struct {
	Name  string // of the class, for printing
	Class int    // IOPRIO_CLASS_* of linux/ioprio.h
	Level int    // 0, the highest, to 7
	// Gate: the caller does it, because the root of a user namespace may not.
	Gate bool
}

// Where is the child, unless it may not.
func (p IOPriority) Where() Where { return gateOrChild(p.Gate) }

func (p IOPriority) String() string {
	return fmt.Sprintf("set the I/O priority %s %d", p.Name, p.Level)
}

// Value is the number that ioprio_set(2) takes.
func (p IOPriority) Value() int { return p.Class<<13 | p.Level }

// Personality sets the execution domain.
type Personality struct {
	inChild
	Name    string // of the domain, for printing
	Persona uint32 // PER_* of linux/personality.h
}

func (p Personality) String() string { return "set the personality " + p.Name }

// MemoryPolicy sets from which NUMA nodes memory comes.
type MemoryPolicy struct {
	inChild
	Name  string // of the mode with its flags, for printing
	Mode  int    // MPOL_* | MPOL_F_* of linux/mempolicy.h
	Nodes Mask   // nil for modes without
}

func (m MemoryPolicy) String() string {
	return strings.TrimRight("set the memory policy "+m.Name+" "+m.Nodes.String(), " ")
}
