#include "textflag.h"

// gosudacon_entry is where the kernel enters the program when it is linked with -E gosudacon_entry. What it does could be done without
// it, later and slower.
//
// For `gosudacon` with an operand that is create, exec, restore or run, it does what seal does: it executes the program anew from a
// read-only mount of its own file, before the Go runtime begins and not after it; to begin twice is a fifth of a short container's life.
// Whatever fails here is tried again, and told, by seal.
//
// For all it lets the Go runtime begin with no descriptor to open a file with. It would read /proc/self/cgroup and /proc/self/mountinfo
// for a number of processors that it is not to use (containermaxprocs=0). Package nofile gives the limit back before anything else
// needs it.
//
// For what ends within milliseconds, gosudacon's commands and containerd's verbs, it also saves the runtime most of its thread switches.
//
// There is no runtime yet: no g, no thread-local storage, the stack is the one the kernel made: argc, argv, 0, envp, 0.
TEXT gosudacon_entry(SB),NOSPLIT|NOFRAME,$0
	MOVQ	0(SP), R12	// argc
	LEAQ	8(SP), R13	// argv
	CMPQ	R12, $2
	JLT	go

	// Is argv[0] gosudacon, or a path that ends so?
	MOVQ	0(R13), SI
	MOVQ	SI, DI
length:
	CMPB	0(DI), $0
	JEQ	name
	INCQ	DI
	JMP	length
name:
	LEAQ	-9(DI), BX
	CMPQ	BX, SI
	JCS	shim
	MOVQ	$0x6f63616475736f67, AX	// gosudaco
	CMPQ	0(BX), AX
	JNE	shim
	CMPB	8(BX), $0x6e	// n
	JNE	shim
	CMPQ	BX, SI
	JEQ	operands
	CMPB	-1(BX), $0x2f	// /
	JNE	shim

	// Is one of the operands a command that makes processes? Four bytes of the stack can always be read from where a string
	// begins: behind the strings there are eight zeros.
operands:
	LEAQ	0(R13)(R12*8), R14	// the end of argv
	LEAQ	8(R13), BX
operand:
	CMPQ	BX, R14
	JEQ	slack
	MOVQ	0(BX), DI
	ADDQ	$8, BX
	MOVL	0(DI), AX
	CMPL	AX, $0x006e7572	// run
	JEQ	seal
	CMPL	AX, $0x63657865	// exec
	JEQ	exec
	CMPL	AX, $0x61657263	// crea
	JEQ	create
	CMPL	AX, $0x74736572	// rest
	JNE	operand
	CMPL	4(DI), $0x0065726f	// ore
	JEQ	seal
	JMP	operand
exec:
	CMPL	1(DI), $0x00636578	// xec
	JEQ	seal
	JMP	operand
create:
	CMPL	3(DI), $0x00657461	// ate
	JNE	operand

seal:
	// A file on a detached mount has the path /: this is the program that was executed anew.
	MOVL	$89, AX	// readlink
	LEAQ	gosudacon_exe(SB), DI
	LEAQ	-64(SP), SI
	MOVL	$2, DX
	SYSCALL
	CMPQ	AX, $1
	JEQ	sealed

	MOVL	$428, AX	// open_tree
	MOVQ	$-100, DI	// AT_FDCWD
	LEAQ	gosudacon_exe(SB), SI
	MOVL	$1, DX	// OPEN_TREE_CLONE; see sealed
	SYSCALL
	TESTQ	AX, AX
	JLT	slack
	MOVQ	AX, R15
	CMPQ	AX, $3
	JGE	readonly
	MOVL	$72, AX	// fcntl: a standard stream is closed, and stays so
	MOVQ	R15, DI
	MOVL	$2, SI	// F_SETFD
	MOVL	$1, DX	// FD_CLOEXEC
	SYSCALL
readonly:
	MOVL	$442, AX	// mount_setattr
	MOVQ	R15, DI
	LEAQ	gosudacon_exe+14(SB), SI	// ""
	MOVL	$0x1000, DX	// AT_EMPTY_PATH
	LEAQ	gosudacon_readonly(SB), R10
	MOVL	$32, R8
	SYSCALL
	TESTQ	AX, AX
	JNE	close

	MOVL	$322, AX	// execveat
	MOVQ	R15, DI
	LEAQ	gosudacon_exe+14(SB), SI
	MOVQ	R13, DX
	LEAQ	8(R14), R10	// envp
	MOVL	$0x1000, R8	// AT_EMPTY_PATH
	SYSCALL
close:
	MOVL	$3, AX	// close
	MOVQ	R15, DI
	SYSCALL
	JMP	slack

	// Is it a verb of containerd's, which comes last? The shim that stays has none.
shim:
	MOVQ	-8(R13)(R12*8), DI
	MOVL	0(DI), AX
	CMPL	AX, $0x72617473	// star
	JEQ	start
	CMPL	AX, $0x656c6564	// dele
	JNE	go
	CMPL	3(DI), $0x00657465	// ete
	JEQ	slack
	JMP	go
start:
	CMPW	4(DI), $0x0074	// t
	JEQ	slack
	JMP	go

	// The descriptor that the program was executed from is still open: to close it takes the kernel a while (a grace period of RCU),
	// and seal.go knows when that matters least. The kernel tells its number in AT_EXECFN, "/dev/fd/3"; it named the process after it.
sealed:
	LEAQ	8(R14), BX	// envp
env:
	MOVQ	0(BX), AX
	ADDQ	$8, BX
	TESTQ	AX, AX
	JNE	env
aux:
	MOVQ	0(BX), AX
	MOVQ	8(BX), SI
	ADDQ	$16, BX
	TESTQ	AX, AX	// AT_NULL
	JEQ	named
	CMPQ	AX, $31	// AT_EXECFN
	JNE	aux
	MOVQ	$0x2f64662f7665642f, AX	// /dev/fd/
	CMPQ	0(SI), AX
	JNE	named
	XORL	DI, DI
digit:
	MOVBLZX	8(SI), AX
	INCQ	SI
	TESTL	AX, AX
	JEQ	number
	IMULL	$10, DI
	LEAL	-48(DI)(AX*1), DI
	JMP	digit
number:
	CMPL	DI, $3
	JLT	named
	MOVL	DI, ·sealedFrom(SB)
	MOVL	$72, AX	// fcntl
	MOVL	$2, SI	// F_SETFD
	MOVL	$1, DX	// FD_CLOEXEC
	SYSCALL
named:
	MOVL	$157, AX	// prctl
	MOVL	$15, DI	// PR_SET_NAME
	LEAQ	gosudacon_name(SB), SI
	SYSCALL

	// For its first milliseconds the Go runtime wakes a thread of its own every 70 us, to look for what takes long; later it does so every
	// 10 ms. With this much slack it does from the start, nearly.
slack:
	MOVL	$157, AX	// prctl
	MOVL	$29, DI	// PR_SET_TIMERSLACK
	MOVL	$5000000, SI	// ns
	SYSCALL

	// Until the Go runtime has begun, the threads that it begins with are to take turns on this processor and not to wake each other on
	// another one; and it is to have one thread at a time that runs Go code, which it decides by this. Package onecpu gives the other
	// processors back.
	MOVL	$204, AX	// sched_getaffinity
	XORL	DI, DI
	MOVL	$128, SI
	LEAQ	github·com∕gosuda∕gosudacon∕internal∕onecpu·start(SB), DX
	SYSCALL
	TESTQ	AX, AX
	JLE	go
	MOVL	$309, AX	// getcpu
	LEAQ	-8(SP), DI
	XORL	SI, SI
	XORL	DX, DX
	SYSCALL
	MOVL	-8(SP), CX
	CMPL	CX, $1024
	JCC	go
	LEAQ	github·com∕gosuda∕gosudacon∕internal∕onecpu·one(SB), DX
	BTSQ	CX, 0(DX)
	MOVL	$203, AX	// sched_setaffinity
	XORL	DI, DI
	MOVL	$128, SI
	SYSCALL
go:
	// Nothing reads the profile of the heap, so the linker turns it off (runtime.disableMemoryProfiling), but only after the first
	// objects; the one that the change is noticed at is then recorded, with its stack.
	MOVQ	·heapProfileRate(SB), AX
	MOVQ	$0, 0(AX)

	MOVL	$302, AX	// prlimit64
	XORL	DI, DI
	MOVL	$7, SI	// RLIMIT_NOFILE
	XORL	DX, DX
	LEAQ	github·com∕gosuda∕gosudacon∕runtime∕internal∕sys∕nofile·start(SB), R10
	SYSCALL
	TESTQ	AX, AX
	JNE	runtime

	MOVQ	$3, -16(SP)	// the standard streams may be opened
	MOVQ	8(R10), AX
	MOVQ	AX, -8(SP)
	MOVL	$302, AX	// prlimit64
	XORL	DI, DI
	MOVL	$7, SI	// RLIMIT_NOFILE
	LEAQ	-16(SP), DX
	XORL	R10, R10
	SYSCALL
runtime:
	XORL	DX, DX
	JMP	_rt0_amd64_linux(SB)
