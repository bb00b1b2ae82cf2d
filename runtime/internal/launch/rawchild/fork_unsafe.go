package rawchild

import (
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

// Start forks and lets the child run p, with all signals blocked until the program changes that. The caller owns the pidfd
// (close-on-exec) and must wait for the process.
func Start(p *Program, c Clone) (pid, pidfd int, err error) {
	if err := p.Validate(); err != nil {
		return 0, -1, err
	}
	i, err := load(p)
	if err != nil {
		return 0, -1, err
	}
	defer i.unmap()
	f := forking{image: i, needed: []addresses{of(i.memory)}}
	if p.SharedData {
		f.needed = append(f.needed, of(p.Data))
	}
	if p.Rest != nil {
		f.needed = append(f.needed, of(p.Rest.memory))
	}
	f.args = cloneArgs{
		flags:      c.Flags | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND | unix.CLONE_SETTLS,
		pidfd:      uint64(uintptr(unsafe.Pointer(&i.pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	f.args.stack, f.args.stackSize, f.args.tls = i.stack()
	if c.Flags&unix.CLONE_INTO_CGROUP != 0 {
		f.args.cgroup = uint64(c.CgroupFD)
	}
	var errno syscall.Errno
	if c.PidNS < 0 {
		pid, errno = f.fork()
	} else {
		pid, errno, err = f.forkInPidNS(c.PidNS, c.OwnPidNS)
	}
	if err != nil {
		return 0, -1, err
	}
	if errno != 0 {
		return 0, -1, fmt.Errorf("clone3: %w", errno)
	}
	return pid, int(i.pidfd), nil
}

// Beside is a process that shares its caller's memory, which takes a third of the time that a copy takes. Its program must leave its
// credentials and its cgroup alone: other credentials would make the memory undumpable for both, and a cgroup that runs out of memory
// ends all who share it.
type Beside struct {
	image   *image   // nil once it has been waited for
	program *Program // whose data it may use
	pid     int
}

// StartBeside lets such a process run p, with all signals blocked. It ends unnoticed, with no signal; the caller must call End.
func StartBeside(p *Program) (*Beside, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	i, err := load(p)
	if err != nil {
		return nil, err
	}
	f := forking{image: i, args: cloneArgs{flags: unix.CLONE_VM | unix.CLONE_CLEAR_SIGHAND | unix.CLONE_SETTLS}}
	f.args.stack, f.args.stackSize, f.args.tls = i.stack()
	pid, errno := f.clone()
	if errno != 0 {
		i.unmap()
		return nil, fmt.Errorf("clone3: %w", errno)
	}
	return &Beside{i, p, pid}, nil
}

// Wait waits until the process has ended.
func (b *Beside) Wait() {
	if b.image == nil {
		return
	}
	for {
		if _, err := unix.Wait4(b.pid, nil, unix.WALL, nil); err != unix.EINTR {
			break
		}
	}
	b.image.unmap()
	b.image = nil
}

// End ends the process if it has not ended yet.
func (b *Beside) End() {
	if b.image != nil {
		unix.Kill(b.pid, unix.SIGKILL) // not waited for yet: the pid is its own
	}
	b.Wait()
}

// forking is one fork.
type forking struct {
	*image
	args   cloneArgs
	needed []addresses // what of own the child has, too
}

// forkInPidNS forks from a thread whose children are born in another pid namespace. A thread that cannot come back is
// never returned to the scheduler: its goroutine ends while locked to it.
func (f *forking) forkInPidNS(ns, own int) (pid int, errno syscall.Errno, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if e := unix.Setns(ns, unix.CLONE_NEWPID); e != nil {
			runtime.UnlockOSThread()
			err = fmt.Errorf("setns: %w", e)
			return
		}
		pid, errno = f.fork()
		if e := unix.Setns(own, unix.CLONE_NEWPID); e != nil {
			return
		}
		runtime.UnlockOSThread()
	}()
	<-done
	return pid, errno, err
}

// clone is clone3(2). The child calls interpret on the stack that args name.
func clone(args *cloneArgs, size uintptr, m *machine) (pid, errno uintptr)

// fork makes the child, with what it needs. Nobody else of this process forks meanwhile: who wants the rest shall have it.
func (f *forking) fork() (int, syscall.Errno) {
	all := own()
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	all.advise(unix.MADV_DONTFORK)
	defer all.advise(unix.MADV_DOFORK)
	for _, a := range f.needed {
		a.advise(unix.MADV_DOFORK)
	}
	return f.clone()
}

//go:noinline
//go:norace
//go:nocheckptr
func (f *forking) clone() (int, syscall.Errno) {
	runtimeBeforeFork()
	pid, errno := clone(&f.args, unsafe.Sizeof(f.args), f.machine)
	runtimeAfterFork()
	return int(pid), syscall.Errno(errno)
}

// interpret is the child's whole life until execve: it never returns.
//
// Nothing here may allocate, take a lock, grow the stack or call a function that might: see fork in package syscall. The
// bounds checks cannot fire, Validate has seen to it. There is no goroutine, and no heap.
//
//go:noinline
//go:nosplit
//go:norace
//go:nocheckptr
func interpret(m *machine) {
	s, pc := &m.first, 0
	for {
		op := &s.ops[pc]
		var a [6]uintptr
		for i := range a {
			w := uintptr(op.words[i])
			switch Kind(op.kinds >> (kindBits * i) & kindMask) {
			case Data:
				w += uintptr(s.data)
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
		case OpContinue:
			s, pc = m.rest, 0
			continue
		case OpSet:
			r = a[0]
		case OpStore32:
			// The offset was checked when the program was loaded.
			*(*uint32)(unsafe.Add(s.data, op.words[0])) = uint32(a[1])
		case OpLoad32:
			r = uintptr(*(*uint32)(unsafe.Add(s.data, op.words[0])))
		case OpTest:
			if *(*uint32)(unsafe.Add(s.data, op.words[0]))&uint32(a[1]) != uint32(a[2]) {
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
		for i := op.branch; i < op.branch+uint32(op.branches); i++ {
			if b := &s.branches[i]; b.Errno == -1 || b.Errno == int32(errno) {
				next = int(b.To)
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
