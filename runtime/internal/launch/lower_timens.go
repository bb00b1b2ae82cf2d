package launch

import (
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// timeOffsetsFile is the file below /proc/PID with the offsets of the time namespace that a process's children are born in.
const timeOffsetsFile = "timens_offsets"

func (l *lowering) setOffsets(s plan.SetOffsets) {
	if s.Gate {
		l.gate(gateStep)
		return
	}
	l.dumpable(s.Dumpable)
	l.writeProc("self/"+timeOffsetsFile, s.Text(), unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV)
	l.undumpable(s.Dumpable)
}

// enterTime enters the namespace by its file: a process without other threads, and whose memory is its own, need not fork
// for that.
func (l *lowering) enterTime() {
	l.openat2(imm(l.io.Proc), "self/ns", opath|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV, 0).to(t0)
	l.openat2(t0.arg(), "time_for_children", unix.O_RDONLY|unix.O_CLOEXEC, 0, 0).to(t1)
	l.call(unix.SYS_SETNS, t1.arg(), imm(unix.CLONE_NEWTIME))
	l.call(unix.SYS_CLOSE, t1.arg())
	l.call(unix.SYS_CLOSE, t0.arg())
}
