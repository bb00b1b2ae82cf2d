package rawchild

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The hooks that package syscall uses around its own fork in the parent: they block signals, and make any growth of the stack
// fatal. Its hook in the child gives every signal its default handler and the mask of the thread; here the kernel does the first
// (CLONE_CLEAR_SIGHAND, Linux 5.5), for 60 system calls less, and the program the second.

//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

// machine is a loaded program: addresses are absolute, and everything the child touches is reachable from here.
type machine struct {
	ops    []Op
	data   unsafe.Pointer // the program's Data
	regs   [Registers]uintptr
	back   int   // where OpReturn leads
	step   int32 // of the last OpCall
	report [ReportSize / 4]uint32
	// pidfd is where the kernel writes it. It is here because its address becomes a number: a variable on a goroutine's stack
	// could move away from that number before the clone, a machine is on the heap.
	pidfd int32
}

// Clone says how the child is made.
type Clone struct {
	Flags    uint64 // CLONE_NEW* and CLONE_INTO_CGROUP; never CLONE_VM
	CgroupFD int    // with CLONE_INTO_CGROUP: the cgroup2 directory
	// PidNS, when not negative, is a pid namespace or a pidfd in it; the child is born there.
	PidNS int
	// OwnPidNS is the caller's own pid namespace, to which the thread returns; needed with PidNS.
	OwnPidNS int
}

// cloneArgs is struct clone_args of clone3(2), version 2 (Linux 5.7).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// Start forks and lets the child run p, with all signals blocked until the program changes that. The caller owns the pidfd (close-on-exec) and must wait for the process.
// p.Data must stay untouched until the child has executed or ended only if it is a shared mapping; otherwise the child has a
// copy.
func Start(p *Program, c Clone) (pid, pidfd int, err error) {
	if err := p.Validate(); err != nil {
		return 0, -1, err
	}
	m := &machine{ops: p.Ops, pidfd: -1}
	if len(p.Data) > 0 {
		// The address of the first byte stays valid: Go does not move heap objects or mappings.
		m.data = unsafe.Pointer(&p.Data[0])
	}
	for _, r := range p.Relocs {
		binary.NativeEndian.PutUint64(p.Data[r.At:], uint64(uintptr(m.data))+uint64(r.Target))
	}
	for i, v := range p.Init {
		m.regs[i] = uintptr(v)
	}
	args := &cloneArgs{
		flags:      c.Flags | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND,
		pidfd:      uint64(uintptr(unsafe.Pointer(&m.pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if c.Flags&unix.CLONE_INTO_CGROUP != 0 {
		args.cgroup = uint64(c.CgroupFD)
	}
	var errno syscall.Errno
	if c.PidNS < 0 {
		pid, errno = fork(m, args)
	} else {
		pid, errno, err = forkInPidNS(m, args, c.PidNS, c.OwnPidNS)
	}
	runtime.KeepAlive(m)
	if err != nil {
		return 0, -1, err
	}
	if errno != 0 {
		return 0, -1, fmt.Errorf("clone3: %w", errno)
	}
	return pid, int(m.pidfd), nil
}

// forkInPidNS forks from a thread whose children are born in another pid namespace. A thread that cannot come back is
// never returned to the scheduler: its goroutine ends while locked to it.
func forkInPidNS(m *machine, args *cloneArgs, ns, own int) (pid int, errno syscall.Errno, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if e := unix.Setns(ns, unix.CLONE_NEWPID); e != nil {
			runtime.UnlockOSThread()
			err = fmt.Errorf("setns: %w", e)
			return
		}
		pid, errno = fork(m, args)
		if e := unix.Setns(own, unix.CLONE_NEWPID); e != nil {
			return
		}
		runtime.UnlockOSThread()
	}()
	<-done
	return pid, errno, err
}

// fork returns in the parent only.
//
//go:noinline
//go:norace
//go:nocheckptr
func fork(m *machine, args *cloneArgs) (int, syscall.Errno) {
	runtimeBeforeFork()
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		runtimeAfterFork()
		return int(pid), errno
	}
	interpret(m)
	return 0, 0
}

// interpret is the child's whole life until execve: it never returns.
//
// Nothing here may allocate, take a lock, grow the stack or call a function that might: see fork in package syscall. The
// bounds checks cannot fire, Validate has seen to it.
//
//go:noinline
//go:nosplit
//go:norace
//go:nocheckptr
func interpret(m *machine) {
	pc := 0
	for {
		op := &m.ops[pc]
		var a [6]uintptr
		for i := range a {
			w := uintptr(op.words[i])
			switch Kind(op.kinds >> (kindBits * i) & kindMask) {
			case Data:
				w += uintptr(m.data)
			case Reg:
				w = m.regs[w]
			}
			a[i] = w
		}
		var r uintptr
		var errno syscall.Errno
		switch op.Nr {
		case OpJump:
			pc = int(a[0])
			continue
		case OpCall:
			m.back, m.step = pc+1, op.Step
			pc = int(a[0])
			continue
		case OpReturn:
			pc = m.back
			continue
		case OpSet:
			r = a[0]
		case OpStore32:
			// The offset was checked when the program was loaded.
			*(*uint32)(unsafe.Add(m.data, op.words[0])) = uint32(a[1])
		case OpTest:
			if *(*uint32)(unsafe.Add(m.data, op.words[0]))&uint32(a[1]) != uint32(a[2]) {
				errno = syscall.Errno(a[3])
			}
		case OpFail:
			errno = syscall.Errno(a[0])
		default:
			r, _, errno = syscall.RawSyscall6(uintptr(op.Nr), a[0], a[1], a[2], a[3], a[4], a[5])
			if errno == 0 && op.Exact && int32(r) != op.Want {
				errno = syscall.EPIPE
			}
		}
		if errno == 0 {
			if op.Dst >= 0 {
				m.regs[op.Dst] = r
			}
			pc++
			continue
		}
		next := -1
		for i := range op.On {
			if e := op.On[i].Errno; e == -1 || e == int32(errno) {
				next = int(op.On[i].To)
				break
			}
		}
		if next >= 0 {
			pc = next
			continue
		}
		m.report[0] = uint32(Failed)
		if m.report[1] = uint32(op.Step); op.Step == CallersStep {
			m.report[1] = uint32(m.step)
		}
		m.report[2] = uint32(errno)
		syscall.RawSyscall6(unix.SYS_WRITE, m.regs[ReportReg], uintptr(unsafe.Pointer(&m.report)), ReportSize, 0, 0, 0)
		for {
			syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 1, 0, 0, 0, 0, 0)
		}
	}
}
