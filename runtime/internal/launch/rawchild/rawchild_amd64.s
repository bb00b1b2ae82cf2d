#include "textflag.h"

// func clone(args *cloneArgs, size uintptr, m *machine) (pid, errno uintptr)
//
// The kernel starts the child behind the system call too, but at the top of its own stack. It gets no farther than interpret.
TEXT ·clone(SB),NOSPLIT|NOFRAME,$0-40
	MOVQ	args+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	m+16(FP), R12	// which the kernel leaves alone
	MOVL	$435, AX	// clone3
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	CMPQ	AX, $0xfffffffffffff001
	JCS	parent
	NEGQ	AX
	MOVQ	$0, pid+24(FP)
	MOVQ	AX, errno+32(FP)
	RET
parent:
	MOVQ	AX, pid+24(FP)
	MOVQ	$0, errno+32(FP)
	RET
child:
	XORL	BP, BP
	MOVQ	R12, 0(SP)
	CALL	·interpret(SB)
	INT	$3
