package launch

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// Beside is a process that makes what takes the kernel longest, while its caller does other things: the network namespace of a child,
// which it sends to that, or says why there is none; and then directories.
type Beside struct {
	socket  int // what it sends the child takes from here, and what is sent here it gets
	process *rawchild.Beside
	data    []byte         // its program's, which it has in common with its caller
	clocks  []rawchild.Arg // of the start and the end of the network's making, with Resources.Trace
	dirs    [besideDirs]besideDir
	asked   []string // what is in dirs
}

// besideDir is a directory that it may be asked to make: its path, whether to make it, and whether it has done so.
type besideDir struct{ path, ask, made rawchild.Arg }

// How many directories it makes, at most, and how long their paths may be, with a NUL.
const (
	besideDirs = 12
	besidePath = 256
)

// MakeNetwork begins to make a network namespace, for a plan that has plan.MakeNetwork. The caller closes it when the launch is over.
// fail makes it fail with EIO; trace keeps how long it took.
func MakeNetwork(trace, fail bool) (*Beside, error) {
	pair, err := filesPair()
	if err != nil {
		return nil, fmt.Errorf("make a socket for the network namespace: %w", err)
	}
	defer unix.Close(pair[1])
	l := newLowering(shortAsm(), nil, nil, &Resources{Trace: trace}, &pipes{report: pair[1]})
	b := &Beside{socket: pair[0]}
	// It has copies of all that its caller has open, among them the other end of its socket, or of another's.
	l.closeFrom(0, []int{pair[1]})
	l.makeNetwork(fail)
	l.makeDirs(&b.dirs)
	b.clocks = l.clocks
	prog := l.finish()
	b.data, prog.SharedData = prog.Data, true
	if b.process, err = rawchild.StartBeside(prog); err != nil {
		unix.Close(b.socket)
		return nil, fmt.Errorf("make a process for the network namespace: %w", err)
	}
	return b, nil
}

func (l *lowering) makeNetwork(fail bool) {
	l.clock()
	if fail {
		l.fail(unix.EIO)
	}
	l.call(unix.SYS_UNSHARE, imm(unix.CLONE_NEWNET))
	l.loopback()
	l.openat2(cwd, "/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0, 0).to(t0) // setns(2) makes sure that it is one
	l.clock()
	msg, fd := l.rightsOf(1, 1)
	l.store32(fd, t0.arg())
	l.call(unix.SYS_SENDMSG, regReport.arg(), msg, imm(unix.MSG_NOSIGNAL)).exactly(1)
}

// makeDirs waits for what MakeDirs asks for, or for the end of its caller.
func (l *lowering) makeDirs(dirs *[besideDirs]besideDir) {
	done := l.label()
	l.call(unix.SYS_READ, regReport.arg(), l.scratch("answer", 8), imm(1)).exactly(1).on(done)
	for i := range dirs {
		d := besideDir{path: l.bytes(make([]byte, besidePath)), ask: l.words32(0), made: l.words32(0)}
		there := l.label()
		l.test(d.ask, 0xffffffff, 1, unix.EAGAIN).on(done)
		l.call(unix.SYS_MKDIRAT, cwd, d.path, imm(0o755)).on(there)
		l.store32(d.made, imm(1))
		l.bind(there)
		dirs[i] = d
	}
	l.bind(done)
	l.call(unix.SYS_EXIT_GROUP, imm(0))
}

// MakeDirs lets it make directories, as far as it can: Made tells which. b may be nil.
func (b *Beside) MakeDirs(paths []string) {
	if b == nil {
		return
	}
	w := binary.NativeEndian
	for _, p := range paths {
		if len(p) >= besidePath || len(b.asked) == besideDirs {
			continue
		}
		d := b.dirs[len(b.asked)]
		copy(b.data[d.path.Word:], p)
		w.PutUint32(b.data[d.ask.Word:], 1)
		b.asked = append(b.asked, p)
	}
	unix.Sendmsg(b.socket, []byte{1}, nil, nil, unix.MSG_NOSIGNAL) // to one that has failed there is nothing to say
}

// Made waits until it has ended, and returns which of the directories it has made. b may be nil.
func (b *Beside) Made() (made []string) {
	if b == nil || len(b.asked) == 0 {
		return nil
	}
	b.process.Wait()
	for i, p := range b.asked {
		if binary.NativeEndian.Uint32(b.data[b.dirs[i].made.Word:]) == 1 {
			made = append(made, p)
		}
	}
	return made
}

// networkStep returns the index of plan.MakeNetwork.
func networkStep(p *plan.Plan) int {
	return slices.IndexFunc(p.Steps, func(s plan.Step) bool { return s.Do == plan.Action(plan.MakeNetwork{}) })
}

// enterNetwork takes what the process beside has made. What that reports instead the child reports.
func (l *lowering) enterNetwork() {
	none, made := l.label(), l.label()
	msg, fd := l.rightsOf(1, rawchild.ReportSize)
	l.call(unix.SYS_RECVMSG, imm(l.io.Network.descriptor()), msg, imm(unix.MSG_CMSG_CLOEXEC)).exactly(1).on(none, unix.EPIPE)
	l.jump(made)
	l.bind(none)
	l.test(l.gateMsg, 0xffffffff, uint32(rawchild.Failed), unix.EPIPE) // else it was killed
	l.store32(at(l.gateMsg, 4), imm(uint32(networkStep(l.plan))))
	l.call(unix.SYS_WRITE, regReport.arg(), l.gateMsg, imm(rawchild.ReportSize))
	l.call(unix.SYS_EXIT_GROUP, imm(1))
	l.bind(made)
	l.load32(t0, fd)
	l.call(unix.SYS_SETNS, t0.arg(), imm(unix.CLONE_NEWNET))
	l.call(unix.SYS_CLOSE, t0.arg())
}

// descriptor is the socket, -1 for none.
func (b *Beside) descriptor() int {
	if b == nil {
		return -1
	}
	return b.socket
}

// took returns how long it took to make the namespace, with Resources.Trace.
func (b *Beside) took() time.Duration {
	return clockAt(b.data, b.clocks[1]) - clockAt(b.data, b.clocks[0])
}

// Close ends the process; the namespace lives on in the child. b may be nil.
func (b *Beside) Close() {
	if b == nil {
		return
	}
	unix.Close(b.socket)
	b.process.End()
}
