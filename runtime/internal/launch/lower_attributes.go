package launch

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// ioprioWhoProcess is IOPRIO_WHO_PROCESS of linux/ioprio.h.
const ioprioWhoProcess = 1

func (l *lowering) affinity(a plan.Affinity) {
	set := l.call(unix.SYS_SCHED_SETAFFINITY, imm(0), imm(8*len(a.CPUs)), l.words(a.CPUs...))
	if a.Early && l.io.CgroupFD >= 0 {
		set.tolerate(unix.EINVAL) // born in the cgroup, whose cpuset has none of them
	}
}

func (l *lowering) scheduler(s plan.Scheduler) {
	if s.Gate {
		l.gate(gateStep)
		return
	}
	attr := schedAttr(s)
	var b []byte
	w := binary.NativeEndian
	b = w.AppendUint32(b, attr.Size)
	b = w.AppendUint32(b, attr.Policy)
	b = w.AppendUint64(b, attr.Flags)
	b = w.AppendUint32(b, uint32(attr.Nice))
	b = w.AppendUint32(b, attr.Priority)
	for _, v := range []uint64{attr.Runtime, attr.Deadline, attr.Period} {
		b = w.AppendUint64(b, v)
	}
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // the clamps: the runtime-spec has flags for them but no values
	l.call(unix.SYS_SCHED_SETATTR, imm(0), l.bytes(b), imm(0))
}

// schedAttr returns the step in the kernel's form.
func schedAttr(s plan.Scheduler) unix.SchedAttr {
	return unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: s.Policy, Flags: s.Flags, Nice: s.Nice, Priority: s.Priority,
		Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period}
}

func (l *lowering) ioPriority(p plan.IOPriority) {
	if p.Gate {
		l.gate(gateStep)
		return
	}
	l.call(unix.SYS_IOPRIO_SET, imm(ioprioWhoProcess), imm(0), imm(p.Value()))
}

func setIOPriority(pid int, p plan.IOPriority) error {
	_, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, uintptr(pid), uintptr(p.Value()))
	if errno != 0 {
		return os.NewSyscallError("ioprio_set", errno)
	}
	return nil
}

func (l *lowering) memoryPolicy(m plan.MemoryPolicy) {
	if m.Nodes == nil {
		l.call(unix.SYS_SET_MEMPOLICY, imm(m.Mode), imm(0), imm(0))
		return
	}
	// The kernel takes one bit less than it is told.
	l.call(unix.SYS_SET_MEMPOLICY, imm(m.Mode), l.words(m.Nodes...), imm(64*len(m.Nodes)+1))
}
