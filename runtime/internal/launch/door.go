package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// Until its execve the init of an ordinary user's container stays undumpable: those who are in the container already must get at
// nothing of it, for it is a copy of the runtime. But then its own user may not enter its namespaces either, through no file of
// /proc and through no pidfd. So init gives them away itself (plan.Ready.Door), as it gives what it lends (lend.go): whoever is
// to enter connects to the door, a socket next to the start gate, and puts Knock into the gate instead of the byte that opens it.

// Knock in the start gate of an init makes it serve those who wait at its door.
const Knock byte = 2

// door returns the namespaces that init gives at its door, none if it has no door.
func (l *lowering) door() plan.Namespaces {
	if !l.plan.SendsFiles || l.io.Door < 0 {
		return 0
	}
	r, _ := plan.Find[plan.Ready](l.plan)
	return r.Door
}

// openNamespaces opens what is given at the door, and closes the host's /proc. These files lead nowhere, as directories would.
// Where RLIMIT_NOFILE leaves no room for them, nobody is served.
func (l *lowering) openNamespaces() {
	full, none, opened := l.label(), l.label(), l.label()
	l.openat2(imm(l.io.Proc), "self/ns", opath|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV, 0).to(t0).on(none, unix.EMFILE)
	for i, n := range l.door().List() {
		l.openat2(t0.arg(), n.ProcFile(), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0).to(regNamespaces+reg(i)).on(full, unix.EMFILE)
	}
	l.call(unix.SYS_CLOSE, t0.arg())
	l.jump(opened)
	l.bind(full)
	l.call(unix.SYS_CLOSE, t0.arg())
	l.bind(none)
	l.call(unix.SYS_CLOSE, imm(l.io.Door))
	l.bind(opened)
	l.call(unix.SYS_CLOSE, imm(l.io.Proc))
	l.namespaces = true
}

// waitAtDoor waits for the byte that opens the start gate, and serves those at the door meanwhile, each with one message: the
// namespaces, and the root directory. One knock serves all who wait: another may have died between its connection and its knock.
func (l *lowering) waitAtDoor() {
	if !l.namespaces { // a container without a process, which keeps what it has
		l.openNamespaces()
	}
	types := l.door().List()
	msg, fds := l.rightsOf(len(types)+1, 1)
	for i := range types {
		l.store32(at(fds, uint64(4*i)), (regNamespaces + reg(i)).arg())
	}
	wait, open, next, shut, served := l.label(), l.label(), l.label(), l.label(), l.label()
	said := l.scratch("answer", 8)
	l.bind(wait)
	l.call(unix.SYS_READ, imm(l.io.StartGate), said, imm(1)).exactly(1)
	l.test(said, 0xff, uint32(Knock), unix.EAGAIN).on(open)
	l.bind(next)
	l.call(unix.SYS_ACCEPT4, imm(l.io.Door), imm(0), imm(0), imm(unix.SOCK_CLOEXEC)).to(t0).on(wait, unix.EAGAIN, unix.EBADF).on(shut)
	l.openat2(cwd, "/", opath|unix.O_DIRECTORY, 0, 0).to(t1).on(served)
	l.store32(at(fds, uint64(4*len(types))), t1.arg())
	l.call(unix.SYS_SENDMSG, t0.arg(), msg, imm(unix.MSG_NOSIGNAL)).tolerate() // it may have died
	l.call(unix.SYS_CLOSE, t1.arg())
	l.bind(served)
	l.call(unix.SYS_CLOSE, t0.arg())
	l.jump(next)
	l.bind(shut) // so that nobody waits in vain: there is no descriptor left, or the filter forbids it
	l.call(unix.SYS_CLOSE, imm(l.io.Door)).tolerate()
	l.jump(wait)
	l.bind(open)
}

// Entry is what an init has given at its door; the caller closes it.
type Entry struct {
	Root       int // O_PATH descriptor of init's root directory
	namespaces map[plan.Namespaces]int
}

// ErrNoEntry says that init has closed its door: it goes on to its program, has ended, or has no descriptors left.
var ErrNoEntry = errors.New("its first process let nobody in")

// ReceiveEntry reads what init gives to who has connected to its door, and knocked.
func ReceiveEntry(ctx context.Context, door *os.File) (*Entry, error) {
	defer context.AfterFunc(ctx, func() { door.SetReadDeadline(time.Unix(1, 0)) })()
	var buf [1]byte
	const most = 9 // the types of namespaces, and the root directory
	n, fds, err := receiveFiles(door, buf[:], most)
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, io.EOF), err == nil && n == 0:
		err = ErrNoEntry
	}
	e := &Entry{Root: -1, namespaces: map[plan.Namespaces]int{}}
	for _, fd := range fds {
		if typ, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err == nil {
			e.namespaces[plan.Namespaces(typ)] = fd
		} else {
			e.Root = fd
		}
	}
	if err == nil && e.Root < 0 {
		err = fmt.Errorf("init sent %d descriptors and no root directory (this is a bug)", len(fds))
	}
	if err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// Close closes the descriptors; e may be nil.
func (e *Entry) Close() {
	for _, fd := range e.all() {
		unix.Close(fd)
	}
}

func (e *Entry) all() []int {
	if e == nil {
		return nil
	}
	list := make([]int, 0, len(e.namespaces)+1)
	for _, fd := range e.namespaces {
		list = append(list, fd)
	}
	if e.Root >= 0 {
		list = append(list, e.Root)
	}
	return list
}

// join enters the namespaces of a container.
func (l *lowering) join(types plan.Namespaces) {
	if e := l.io.Entry; e != nil {
		for _, n := range types.List() {
			fd, ok := e.namespaces[n]
			if !ok && l.err == nil {
				l.err, l.errStep = fmt.Errorf("the container was created without a %s namespace of its own: config.json has changed since", n), int(l.step)
			}
			l.call(unix.SYS_SETNS, imm(fd), imm(uint64(n)))
			l.undumpable(n == plan.NewUser)
		}
		return
	}
	if types != 0 {
		l.call(unix.SYS_SETNS, imm(l.io.ContainerPidfd), imm(uint64(types)))
	}
	l.undumpable(types&plan.NewUser != 0)
}
