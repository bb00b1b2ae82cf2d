package launch

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// Capability sets as capset(2) takes them: version 3, two 32-bit halves.
const linuxCapabilityVersion3 = 0x20080522

// credentials takes the identity of the process. By then every descriptor of the host is closed: no working directory can
// lead back through /proc/self/fd (CVE-2024-21626).
func (l *lowering) credentials(c plan.Credentials) {
	l.ownStdio(c.UID)
	keep := []int{l.report, l.control, l.io.StartGate, l.io.Verdict}
	if l.door() != 0 {
		l.closeAllBut(append(keep, l.io.Door, l.io.Proc))
		l.openNamespaces()
	} else {
		l.closeAllBut(keep)
	}
	l.call(unix.SYS_UMASK, imm(c.Umask))
	// The caller's user may enter where the process's may not, and the reverse: try before and after.
	asUser, entered, gone := l.label(), l.label(), l.label()
	flag := l.words32(0)
	l.call(unix.SYS_CHDIR, l.str(c.Dir)).on(asUser, unix.EACCES, unix.EPERM)
	l.store32(flag, imm(1))
	l.bind(asUser)
	l.limitCaps(c.Caps.Bounding, c.LastCap)
	l.call(unix.SYS_PRCTL, imm(unix.PR_SET_KEEPCAPS), imm(1), imm(0), imm(0), imm(0))
	groups := l.call(unix.SYS_SETGROUPS, imm(len(c.Groups)), l.words32(c.Groups...))
	if len(c.Groups) == 0 {
		groups.tolerate(unix.EPERM) // a user namespace whose setgroups is denied
	}
	l.call(unix.SYS_SETRESGID, imm(c.GID), imm(c.GID), imm(c.GID))
	l.call(unix.SYS_SETRESUID, imm(c.UID), imm(c.UID), imm(c.UID))
	l.test(flag, 0xffffffff, 0, unix.EAGAIN).on(entered)
	l.call(unix.SYS_CHDIR, l.str(c.Dir))
	l.bind(entered)
	name := l.scratch("page", unix.PathMax)
	l.call(unix.SYS_GETCWD, name, imm(unix.PathMax))
	l.test(name, 0xff, '/', unix.EPERM).on(gone) // "(unreachable)/..." is outside the container
	held := c.Caps
	held.Permitted |= c.Keep
	held.Effective |= c.Keep
	l.capset(held)
	l.call(unix.SYS_PRCTL, imm(unix.PR_SET_KEEPCAPS), imm(0), imm(0), imm(0), imm(0))
	l.call(unix.SYS_PRCTL, imm(unix.PR_CAP_AMBIENT), imm(unix.PR_CAP_AMBIENT_CLEAR_ALL), imm(0), imm(0), imm(0))
	for bit := range 64 {
		if c.Caps.Ambient&(1<<bit) != 0 {
			l.call(unix.SYS_PRCTL, imm(unix.PR_CAP_AMBIENT), imm(unix.PR_CAP_AMBIENT_RAISE), imm(bit), imm(0), imm(0))
		}
	}
	l.undumpable(true)
	ok := l.label()
	l.jump(ok)
	l.bind(gone)
	l.fail(unix.EPERM)
	l.bind(ok)
}

// limitCaps drops all capabilities up to the last but some from the bounding set.
func (l *lowering) limitCaps(stay uint64, last int) {
	for bit := range last + 1 {
		if stay&(1<<bit) == 0 {
			l.call(unix.SYS_PRCTL, imm(unix.PR_CAPBSET_DROP), imm(bit), imm(0), imm(0), imm(0))
		}
	}
}

// ownStdio gives the standard streams to the process's user, who could not open /dev/stderr otherwise. Devices are left
// alone: /dev/null is everybody's, and a terminal has been given already.
func (l *lowering) ownStdio(uid uint32) {
	if uid == 0 {
		return
	}
	for fd := range 3 {
		own, next := l.label(), l.label()
		st := l.statx(imm(fd))
		l.test(at(st, statxMode), unix.S_IFMT, unix.S_IFCHR, unix.ENOTTY).on(own)
		l.jump(next)
		l.bind(own)
		l.call(unix.SYS_FCHOWN, imm(fd), imm(uid), imm(uint32(0xffffffff))).tolerate(unix.EPERM, unix.EINVAL, unix.EROFS)
		l.bind(next)
	}
}

func (l *lowering) capset(c plan.Caps) {
	header := l.words32(linuxCapabilityVersion3, 0)
	sets := l.words32(uint32(c.Effective), uint32(c.Permitted), uint32(c.Inheritable),
		uint32(c.Effective>>32), uint32(c.Permitted>>32), uint32(c.Inheritable>>32))
	l.call(unix.SYS_CAPSET, header, sets)
}

// findExecutable ends with the error that create shall give. A name with a slash is that file or the reason why not:
// ENOENT, EACCES, EISDIR. A search passes over what cannot be executed and ends with ENOENT.
func (l *lowering) findExecutable(f plan.FindExecutable) {
	const xOK = 1
	found := l.label()
	search := len(f.Candidates) != 1 || f.Candidates[0] != f.Name
	for _, c := range f.Candidates {
		next := l.label()
		st := l.scratch("statx", statxSize)
		access := l.call(unix.SYS_FACCESSAT2, cwd, l.str(c), imm(xOK), imm(unix.AT_EACCESS))
		stat := l.call(unix.SYS_STATX, cwd, l.str(c), imm(0), imm(statxBasic), st)
		if search {
			access.on(next)
			stat.on(next)
		}
		l.test(at(st, statxMode), unix.S_IFMT, unix.S_IFDIR, unix.EISDIR).on(found)
		if !search {
			l.fail(unix.EISDIR)
		}
		l.bind(next)
	}
	l.fail(unix.ENOENT)
	l.bind(found)
}

// ready reports and waits. The init of a container waits at its start gate, a FIFO; an exec for its caller's byte.
func (l *lowering) ready(r plan.Ready) {
	if !r.Stop {
		l.gate(gateReady)
		return
	}
	if l.io.Detached {
		l.gate(gateReady) // a caller that dies before it has recorded the process takes it along
	} else {
		l.message(gateReady)
	}
	l.call(unix.SYS_CLOSE, imm(l.report))
	l.call(unix.SYS_CLOSE, imm(l.control))
	l.set(regReport, imm(l.io.Verdict))
	if l.door() != 0 {
		l.waitAtDoor()
	} else {
		l.call(unix.SYS_READ, imm(l.io.StartGate), l.scratch("answer", 8), imm(1)).exactly(1)
	}
	l.call(unix.SYS_CLOSE, imm(l.io.StartGate))
}

// lateHome stands for the variable that readHome reads, among the strings of the program.
const (
	lateHome = "\x00HOME"
	homeSize = 4096 // with "HOME=" and the NUL; at most PIPE_BUF, so that it comes in one piece
)

// readHome reads the variable HOME, which only the caller can find out, into the environment.
func (l *lowering) readHome() {
	home := l.bytes(make([]byte, homeSize))
	l.strings = map[string]rawchild.Arg{lateHome: home}
	if l.plan.SendsFiles { // the caller cannot look at the process's root
		l.openat2(cwd, "/", opath|unix.O_DIRECTORY, 0, 0).to(t0)
		l.lend(gateHome, t0.arg())
		l.call(unix.SYS_CLOSE, t0.arg())
	} else {
		l.message(gateHome)
	}
	l.call(unix.SYS_READ, imm(l.control), home, imm(homeSize)).exactly(homeSize)
}

// homeAnswer is the variable HOME as readHome reads it; a directory that is too long is as none.
func homeAnswer(dir string) []byte {
	b := make([]byte, homeSize)
	if len("HOME=")+len(dir) >= homeSize {
		dir = "/"
	}
	copy(b, "HOME="+dir)
	return b
}

func (l *lowering) exec(e plan.Exec) {
	denied := l.words32(0)
	env := e.Env
	if e.LateHome {
		env = append(slices.Clone(env), lateHome)
	}
	argv, envp := l.vector(e.Args), l.vector(env)
	for _, c := range e.Candidates {
		next, no := l.label(), l.label()
		l.call(unix.SYS_EXECVE, l.str(c), argv, envp).on(next, unix.ENOENT, unix.ENOTDIR).on(no, unix.EACCES)
		l.bind(no)
		l.store32(denied, imm(1))
		l.bind(next)
	}
	l.test(denied, 0xffffffff, 0, unix.EACCES)
	l.fail(unix.ENOENT)
}
