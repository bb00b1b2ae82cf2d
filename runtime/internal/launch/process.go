package launch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// writeProc writes to a file of a process's proc directory, having made sure that it is proc's (CVE-2025-52881). The process
// is ours and not yet waited for.
func writeProc(pid int, name, value string) error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/%s", pid, name), os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		return fmt.Errorf("%s is not on a proc file system: %w", f.Name(), errors.Join(err, unix.EXDEV))
	}
	_, err = f.WriteString(value)
	return err
}

// allLimits adds RLIMIT_NOFILE when the plan has none: the child gets back the one that Go raised.
func allLimits(a plan.Limits, nofile unix.Rlimit) []plan.Rlimit {
	for _, l := range a.Rlimits {
		if l.Resource == unix.RLIMIT_NOFILE {
			return a.Rlimits
		}
	}
	if nofile.Max == 0 {
		return a.Rlimits
	}
	return append(slices.Clone(a.Rlimits), plan.Rlimit{Type: "RLIMIT_NOFILE", Resource: unix.RLIMIT_NOFILE, Soft: nofile.Cur, Hard: nofile.Max})
}

// setLimits sets the resource limits of another process.
func setLimits(pid int, limits []plan.Rlimit) error {
	for _, l := range limits {
		lim := unix.Rlimit{Cur: l.Soft, Max: l.Hard}
		if err := unix.Prlimit(pid, l.Resource, &lim, nil); err != nil {
			return fmt.Errorf("prlimit %s %d:%d: %w", l.Type, l.Soft, l.Hard, err)
		}
	}
	return nil
}

// stdio is a copy of the caller's resources whose standard streams lie above 2, so that moving them to 0, 1 and 2 never
// overwrites one that is still needed.
type stdio struct {
	r     Resources
	extra []int
}

func aboveStdio(r *Resources) (*stdio, error) {
	s := &stdio{r: *r}
	for _, fd := range []*int{&s.r.Stdin, &s.r.Stdout, &s.r.Stderr} {
		if *fd < 0 || *fd > 2 {
			continue
		}
		n, err := unix.FcntlInt(uintptr(*fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("duplicate descriptor %d: %w", *fd, err)
		}
		*fd = n
		s.extra = append(s.extra, n)
	}
	return s, nil
}

func (s *stdio) close() {
	for _, fd := range s.extra {
		unix.Close(fd)
	}
	s.extra = nil
}

// traceBuffer is a program's data in memory that the child shares with us.
type traceBuffer struct{ data []byte }

// shareData moves the program's data into a shared mapping, so that the times which the child writes can be read.
func shareData(p *rawchild.Program) (*traceBuffer, error) {
	data, err := unix.Mmap(-1, 0, len(p.Data), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map the trace: %w", err)
	}
	copy(data, p.Data)
	p.Data, p.SharedData = data, true
	return &traceBuffer{data}, nil
}

func (t *traceBuffer) close() { unix.Munmap(t.data) }

// read returns how long each step took: from its start to the start of the next that was reached. The clone's own time, since it began,
// and that of the network namespace come from elsewhere.
func (t *traceBuffer) read(p *plan.Plan, clocks []rawchild.Arg, began time.Duration, network *Beside) []time.Duration {
	times := make([]time.Duration, len(clocks))
	next := now()
	for i, c := range slices.Backward(clocks) {
		start := clockAt(t.data, c)
		if start == 0 {
			times[i] = -1 // not reached yet
			continue
		}
		times[i] = next - start
		next = start
	}
	_, clone := cloneOf(p)
	times[clone] += next - began
	if i := networkStep(p); i >= 0 && network != nil {
		times[i] = network.took()
	}
	return times
}

// clockAt reads what clock_gettime(2) has written.
func clockAt(data []byte, c rawchild.Arg) time.Duration {
	return time.Duration(word(data[c.Word:]))*time.Second + time.Duration(word(data[c.Word+8:]))
}

// traceClock is one that is the same in every time namespace.
const traceClock = unix.CLOCK_REALTIME

func now() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(traceClock, &ts)
	return time.Duration(ts.Nano())
}

func word(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }
