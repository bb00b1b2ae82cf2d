package launch

import (
	"encoding/binary"
	"fmt"
	"os/signal"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/child"
	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// Gates of the protocol between the child and the caller; the child names its own step with each.
const (
	gateStep     = rawchild.GateBase + iota // the caller does the step, then answers
	gateConsole                             // Value is the descriptor of the terminal's master in the child
	gateRefork                              // Value is the pid of the child that goes on; no answer
	gateReady                               // all done but the execution
	gatePoint                               // Value is a point; the answer says what to make for it: see points.go
	gateDevice                              // Value is a netlink socket in the child's network namespace
	gateHome                                // the answer is the variable HOME, homeSize bytes
	gateListener                            // Value is the descriptor of the seccomp listener in the child
)

// lowering turns a plan into a program.
type lowering struct {
	*asm
	plan    *plan.Plan
	prep    *prepared
	io      *Resources
	control int          // the child reads the caller's answers here
	report  int          // and reports here
	late    int          // and takes what the caller makes meanwhile here
	gateMsg rawchild.Arg // a Report, filled per gate
	userNS  bool         // credentials of a user namespace were taken: dumpable must be cleared again
	points  []point      // what the caller may be asked to find
	asking  label        // see ask
	dir     string       // the directory that is in t1; "" when another step has used that
	news    []string     // see mounted
	newDir  string       // the one of news that is in regNew
	onTop   rawchild.Arg // not 0: the container's root lies on top of the host's
	clocks  []rawchild.Arg
	lates   rawchild.Arg // the next of the descriptors that were taken

	namespaces bool // openNamespaces has been called
}

// lower assembles the program of a plan. It allocates everything that the child will touch.
func lower(pl *plan.Plan, prep *prepared, r *Resources, ends *pipes) *lowering {
	l := newLowering(newAsm(), pl, prep, r, ends)
	l.steps(0, len(pl.Steps))
	l.answers()
	return l
}

func newLowering(a *asm, pl *plan.Plan, prep *prepared, r *Resources, ends *pipes) *lowering {
	l := &lowering{asm: a, plan: pl, prep: prep, io: r, control: ends.control, report: ends.report, late: ends.late}
	l.gateMsg = l.bytes(make([]byte, rawchild.ReportSize))
	l.p.Init[regReport] = uint64(l.report)
	return l
}

// steps lowers the steps of a plan from one to, but not including, another.
func (l *lowering) steps(from, to int) {
	for i := from; i < to; i++ {
		l.step = int32(i)
		l.clock()
		if l.io.FailStep == i+1 {
			l.fail(unix.EIO)
		}
		l.action(i, l.plan.Steps[i].Do)
	}
}

// clock keeps the time, for who wants it.
func (l *lowering) clock() {
	if l.io.Trace {
		c := l.bytes(make([]byte, 16))
		l.clocks = append(l.clocks, c)
		l.call(unix.SYS_CLOCK_GETTIME, imm(traceClock), c)
	}
}

func (l *lowering) action(i int, do plan.Action) {
	switch do.(type) {
	case plan.Device, plan.Symlink:
	case plan.Bind, plan.MountFS:
		l.dir = ""
	default:
		l.dir, l.news = "", nil
	}
	switch a := do.(type) {
	case plan.MakeNetwork, plan.Clone:
	case plan.Detach:
		l.detach(a)
	case plan.Hide:
		l.undumpable(true)
	case plan.EnterCgroup:
		switch {
		case a.Later:
			l.enterLater()
			if a.View != "" {
				l.news = append(l.news, a.View)
			}
		case l.io.EnterCgroup != nil:
			l.gate(gateStep)
		}
		for _, fd := range l.io.CgroupTasks {
			l.call(unix.SYS_WRITE, imm(fd), l.str("0"), imm(1)).exactly(1)
		}
		if !a.KeepCPUs {
			// The affinity that the shim inherited is not the container's; the kernel keeps it within the cpuset.
			l.call(unix.SYS_SCHED_SETAFFINITY, imm(0), imm(128), l.bytes(slices.Repeat([]byte{0xff}, 128))).tolerate()
		}
	case plan.Affinity:
		l.affinity(a)
	case plan.Scheduler:
		l.scheduler(a)
	case plan.IOPriority:
		l.ioPriority(a)
	case plan.Personality:
		l.call(unix.SYS_PERSONALITY, imm(a.Persona))
	case plan.MemoryPolicy:
		l.memoryPolicy(a)
	case plan.ScoreAdj:
		l.scoreAdj(a)
	case plan.Join:
		l.call(unix.SYS_SETNS, imm(l.prep.step[i]), imm(uint64(a.Type)))
		l.undumpable(a.Type == plan.NewUser)
	case plan.JoinContainer:
		l.join(a.Types)
		if a.Root {
			l.call(unix.SYS_FCHDIR, imm(l.io.InitRoot))
			l.call(unix.SYS_CHROOT, l.str("."))
		}
		l.openat2(cwd, "/", opath|unix.O_DIRECTORY, 0, 0).to(regRoot)
		l.ownNull()
	case plan.Unshare:
		l.call(unix.SYS_UNSHARE, imm(uint64(a.New)))
		l.undumpable(a.New&plan.NewUser != 0)
	case plan.EnterNetwork:
		l.enterNetwork()
	case plan.Refork:
		l.refork()
	case plan.MapIDs, plan.CheckIDs:
		l.gate(gateStep)
	case plan.SetOffsets:
		l.setOffsets(a)
	case plan.EnterTime:
		l.enterTime()
	case plan.RunHooks:
		if a.Point != "startContainer" { // which whoever starts runs, before the gate opens
			l.dumpable(a.Dumpable)
			l.gate(gateStep)
			l.undumpable(a.Dumpable)
		}
	case plan.RuntimeRoot:
		l.runtimeRoot(a)
	case plan.BecomeRoot:
		l.call(unix.SYS_SETGROUPS, imm(0), imm(0)).tolerate(unix.EPERM)
		l.call(unix.SYS_SETRESGID, imm(0), imm(0), imm(0))
		l.call(unix.SYS_SETRESUID, imm(0), imm(0), imm(0))
		l.undumpable(true)
	case plan.MoveNetDevice:
		l.moveDevice()
	case plan.LoopbackUp:
		l.loopback()
	case plan.Hostname:
		nr := unix.SYS_SETHOSTNAME
		if a.Domain {
			nr = unix.SYS_SETDOMAINNAME
		}
		l.call(nr, l.str(a.Name), imm(len(a.Name)))
	case plan.Keyring:
		l.keyring(a)
	case plan.Sysctl:
		l.writeProc("sys/"+a.Path(), a.Value, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
	case plan.Label:
		l.writeProc("thread-self/attr/"+a.File, a.Value, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV)
	case plan.LeaveHost:
		l.leaveHost()
	case plan.Root:
		l.root(l.copyOf(i, a), a.Path)
	case plan.Bind:
		l.bindMount(i, a)
	case plan.MountFS:
		l.mountFS(i, a)
	case plan.Remount:
		l.remount(a)
	case plan.Unmount:
		l.unmount(a)
	case plan.End:
		l.call(unix.SYS_EXIT_GROUP, imm(0))
	case plan.Device:
		l.device(a)
	case plan.BindDevice:
		tree := l.copyOf(i, a)
		l.ensureNode(t0, a.Path)
		l.moveMount(tree, t0.arg())
	case plan.Symlink:
		l.symlink(a)
	case plan.Console:
		l.console(a)
	case plan.WorkDir:
		l.ensureDir(t0, a.Path)
	case plan.ReadOnlyPath:
		l.readOnlyPath(a)
	case plan.MaskPath:
		l.maskPath(a)
	case plan.SealMount:
		l.openRoot(a.Dest, opath).to(t0)
		l.mountSetattr(t0.arg(), 0, uint64(plan.AttrReadOnly), 0, 0)
	case plan.OpenRoot:
		l.openat2(cwd, a.Path, opath|unix.O_DIRECTORY, 0, 0).to(regRoot)
	case plan.Chroot:
		l.chroot()
		l.ownNull()
	case plan.Pivot:
		l.pivot(a)
	case plan.NoNewPrivileges:
		l.call(unix.SYS_PRCTL, imm(unix.PR_SET_NO_NEW_PRIVS), imm(1), imm(0), imm(0), imm(0))
	case plan.Seccomp:
		l.seccomp(a)
	case plan.Limits:
		l.limits(a)
	case plan.Listener:
		l.listener()
	case plan.ReadHome:
		l.readHome()
	case plan.Bound:
		l.limitCaps(a.Caps, a.LastCap)
	case plan.Credentials:
		l.credentials(a)
	case plan.DropCaps:
		l.capset(a.Caps)
	case plan.FindExecutable:
		l.findExecutable(a)
	case plan.Ready:
		l.ready(a)
	case plan.Exec:
		l.exec(a)
	default:
		panic(fmt.Sprintf("launch: no lowering for %T (this is a bug)", do))
	}
}

// gate reports and waits for the caller's byte; the end of file, a caller that is gone, ends the child.
func (l *lowering) gate(kind rawchild.ReportKind) {
	l.message(kind)
	l.await()
}

// lendAtGate is gate with a descriptor for the caller.
func (l *lowering) lendAtGate(kind rawchild.ReportKind, fd rawchild.Arg) {
	l.lend(kind, fd)
	l.await()
}

func (l *lowering) await() {
	l.call(unix.SYS_READ, imm(l.control), l.scratch("answer", 8), imm(1)).exactly(1)
}

// message reports a gate; its value is whatever was stored at l.gateMsg+8.
func (l *lowering) message(kind rawchild.ReportKind) {
	l.head(kind)
	l.call(unix.SYS_WRITE, regReport.arg(), l.gateMsg, imm(rawchild.ReportSize)).exactly(rawchild.ReportSize)
}

// head fills in the kind and the step of a report. What instructions of no step of their own report, their caller has named.
func (l *lowering) head(kind rawchild.ReportKind) {
	l.store32(l.gateMsg, imm(uint32(kind)))
	if l.step != rawchild.CallersStep {
		l.store32(at(l.gateMsg, 4), imm(uint32(l.step)))
	}
}

// undumpable hides the process from those it may share a pid namespace with. Taking other credentials undoes it.
func (l *lowering) undumpable(when bool) {
	if when {
		l.call(unix.SYS_PRCTL, imm(unix.PR_SET_DUMPABLE), imm(0), imm(0), imm(0), imm(0))
	}
}

// dumpable lets the caller's user, and whoever has all rights over the user namespace, see the process.
func (l *lowering) dumpable(when bool) {
	if when {
		l.call(unix.SYS_PRCTL, imm(unix.PR_SET_DUMPABLE), imm(1), imm(0), imm(0), imm(0))
	}
}

// detach makes sure that nothing of the shim's process reaches the container.
func (l *lowering) detach(d plan.Detach) {
	l.dumpable(d.Dumpable)
	l.undumpable(!d.Dumpable)
	usual := l.bytes(make([]byte, 32)) // struct kernel_sigaction: SIG_DFL, no flags
	for sig := unix.Signal(1); sig <= 64; sig++ {
		if mayBeIgnored(sig) {
			l.call(unix.SYS_RT_SIGACTION, imm(sig), usual, imm(0), imm(8))
		}
	}
	l.call(unix.SYS_RT_SIGPROCMASK, imm(unix.SIG_SETMASK), l.words(0), imm(0), imm(8))
	for i, fd := range []int{l.io.Stdin, l.io.Stdout, l.io.Stderr} {
		if fd < 0 {
			fd = l.io.DevNull
		}
		l.call(unix.SYS_DUP3, imm(fd), imm(i), imm(0))
	}
	l.closeAllBut(append(slices.Concat(l.prep.fds, l.io.CgroupTasks, l.io.Entry.all()), l.io.Proc, l.io.ContainerPidfd, l.io.InitRoot, l.report, l.control, l.late,
		l.io.StartGate, l.io.Verdict, l.io.Door, l.io.Network.descriptor()))
	l.call(unix.SYS_PRCTL, imm(unix.PR_SET_TIMERSLACK), imm(child.TimerSlack), imm(0), imm(0), imm(0))
	l.call(unix.SYS_UMASK, imm(0))
	l.call(unix.SYS_SETSID)
}

// mayBeIgnored tells whether this process ignores a signal, as its parent did or on purpose. Handlers the clone has undone already
// (CLONE_CLEAR_SIGHAND); and Go's runtime has given one to each signal but for those of job control, and but for what package signal
// knows to be ignored.
func mayBeIgnored(sig unix.Signal) bool {
	switch sig {
	case unix.SIGCONT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return true
	}
	return signal.Ignored(sig)
}

// closeAllBut closes every descriptor above those that the process inherits and that is not in keep.
func (l *lowering) closeAllBut(keep []int) { l.closeFrom(3+l.io.Preserve, keep) }

// closeFrom closes every descriptor from one on that is not in keep.
func (l *lowering) closeFrom(from int, keep []int) {
	keep = slices.DeleteFunc(slices.Clone(keep), func(fd int) bool { return fd < from })
	slices.Sort(keep)
	for _, fd := range slices.Compact(keep) {
		if fd > from {
			l.call(unix.SYS_CLOSE_RANGE, imm(from), imm(fd-1), imm(0))
		}
		from = fd + 1
	}
	l.call(unix.SYS_CLOSE_RANGE, imm(from), imm(uint32(0xffffffff)), imm(0))
}

func (l *lowering) scoreAdj(a plan.ScoreAdj) {
	if a.Aside {
		return // see writeAside
	}
	if a.Gate {
		l.gate(gateStep)
		return
	}
	done := l.label()
	value := strconv.Itoa(a.Value)
	open := l.openat2(imm(l.io.Proc), "self/oom_score_adj", unix.O_WRONLY|unix.O_CLOEXEC, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV, 0).to(t0)
	write := l.call(unix.SYS_WRITE, t0.arg(), l.str(value), imm(len(value)))
	if a.Best {
		open.on(done)
		write.tolerate()
	}
	l.call(unix.SYS_CLOSE, t0.arg())
	l.bind(done)
}

// refork: the first child ends; the second is the caller's child too (CLONE_PARENT) and goes on when the caller has its pidfd.
func (l *lowering) refork() {
	first, second := l.label(), l.label()
	pid := at(l.gateMsg, 8)
	l.call(unix.SYS_CLONE, imm(unix.CLONE_PARENT|int(unix.SIGCHLD)), imm(0), imm(0), imm(0), imm(0)).to(t0)
	l.store32(pid, t0.arg())
	l.test(pid, 0xffffffff, 0, unix.EAGAIN).on(first) // the second child sees 0
	l.jump(second)
	l.bind(first)
	l.message(gateRefork)
	l.call(unix.SYS_EXIT_GROUP, imm(0))
	l.bind(second)
	l.call(unix.SYS_READ, imm(l.control), l.scratch("answer", 8), imm(1)).exactly(1)
	l.call(unix.SYS_SETSID)
}

func (l *lowering) loopback() {
	ifreq := make([]byte, 40) // struct ifreq: name, then the flags
	copy(ifreq, "lo")
	binary.NativeEndian.PutUint16(ifreq[16:], unix.IFF_UP)
	l.call(unix.SYS_SOCKET, imm(unix.AF_INET), imm(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC), imm(0)).to(t0)
	l.call(unix.SYS_IOCTL, t0.arg(), imm(unix.SIOCSIFFLAGS), l.bytes(ifreq))
	l.call(unix.SYS_CLOSE, t0.arg())
}

// moveDevice lends the caller a socket in the child's network namespace, which the caller's threads need not enter then.
func (l *lowering) moveDevice() {
	l.call(unix.SYS_SOCKET, imm(unix.AF_NETLINK), imm(unix.SOCK_RAW|unix.SOCK_CLOEXEC), imm(unix.NETLINK_ROUTE)).to(t0)
	l.lendAtGate(gateDevice, t0.arg())
	l.call(unix.SYS_CLOSE, t0.arg())
}

func (l *lowering) keyring(a plan.Keyring) {
	// Possessor: all but setattr. User: search, which is what joining by name takes; not view, which would show the name,
	// nor link, by which any process of that user could take possession.
	const perm = 0x3f080000
	done := l.label()
	l.call(unix.SYS_KEYCTL, imm(unix.KEYCTL_JOIN_SESSION_KEYRING), l.str(a.Name)).to(t0).on(done, unix.ENOSYS)
	l.call(unix.SYS_KEYCTL, imm(unix.KEYCTL_SETPERM), t0.arg(), imm(perm)).tolerate(unix.EACCES)
	l.bind(done)
}

// writeProc writes to a file of the host's proc, through the descriptor whose file system the caller has checked.
func (l *lowering) writeProc(file, value string, resolve uint64) {
	l.openat2(imm(l.io.Proc), file, unix.O_WRONLY|unix.O_CLOEXEC, resolve, 0).to(t0)
	l.call(unix.SYS_WRITE, t0.arg(), l.str(value), imm(len(value))).exactly(len(value))
	l.call(unix.SYS_CLOSE, t0.arg())
}

func (l *lowering) limits(a plan.Limits) {
	if a.Gate {
		l.gate(gateStep)
		return
	}
	for _, lim := range allLimits(a, l.io.NoFile) {
		l.call(unix.SYS_PRLIMIT64, imm(0), imm(lim.Resource), l.words(lim.Soft, lim.Hard), imm(0))
	}
}

func (l *lowering) seccomp(a plan.Seccomp) {
	prog := l.bytes(make([]byte, 16)) // struct sock_fprog: length, pointer
	binary.NativeEndian.PutUint16(l.p.Data[prog.Word:], uint16(len(a.Filter.Insns)))
	insns := l.bytes(a.Filter.Bytes())
	l.p.Relocs = append(l.p.Relocs, rawchild.Reloc{At: int(prog.Word) + 8, Target: int(insns.Word)})
	l.call(unix.SYS_SECCOMP, imm(unix.SECCOMP_SET_MODE_FILTER), imm(a.Filter.Flags), prog).to(regListener)
}

// listener lets the caller take the listener. The kernel made it close-on-exec: if the filter forbids even close(2), the
// program does not have it.
func (l *lowering) listener() {
	l.lendAtGate(gateListener, regListener.arg())
	l.call(unix.SYS_CLOSE, regListener.arg()).tolerate()
}
