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

// func addresses() (handler, restorer uintptr)
TEXT ·addresses(SB),NOSPLIT,$0-16
	LEAQ	handler<>(SB), AX
	MOVQ	AX, handler+0(FP)
	LEAQ	restorer<>(SB), AX
	MOVQ	AX, restorer+8(FP)
	RET
