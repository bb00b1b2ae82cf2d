#include "textflag.h"

// handler is where the kernel enters, on the signal stack of whatever thread: it knows nothing of Go. All registers come back with
// rt_sigreturn(2).
TEXT handler<>(SB),NOSPLIT|NOFRAME,$0
	PUSHQ	DI	// the signal's number, its byte first
	MOVL	·writer(SB), DI
	MOVQ	SP, SI
	MOVL	$1, DX
	MOVL	$1, AX	// write
	SYSCALL
	POPQ	DI
	RET

TEXT restorer<>(SB),NOSPLIT|NOFRAME,$0
	MOVL	$15, AX	// rt_sigreturn
	SYSCALL
	INT	$3

// func handle(signal uintptr) (errno uintptr)
//
// On its stack is struct kernel_sigaction.
TEXT ·handle(SB),NOSPLIT,$32-16
	LEAQ	handler<>(SB), AX
	MOVQ	AX, 0(SP)
	MOVQ	$0x1c000000, AX	// SA_RESTART | SA_ONSTACK | SA_RESTORER
	MOVQ	AX, 8(SP)
	LEAQ	restorer<>(SB), AX
	MOVQ	AX, 16(SP)
	MOVQ	$-1, 24(SP)	// all signals wait meanwhile
	MOVQ	signal+0(FP), DI
	MOVQ	SP, SI
	XORL	DX, DX
	MOVL	$8, R10
	MOVL	$13, AX	// rt_sigaction
	SYSCALL
	NEGQ	AX
	MOVQ	AX, errno+8(FP)
	RET
