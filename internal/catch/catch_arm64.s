#include "textflag.h"

// handler is where the kernel enters, on the signal stack of whatever thread: it knows nothing of Go. It returns to the vDSO, whose
// rt_sigreturn(2) brings back all registers.
TEXT handler<>(SB),NOSPLIT|NOFRAME,$0
	SUB	$16, RSP
	MOVD	R0, 0(RSP)	// the signal's number, its byte first
	MOVW	·writer(SB), R0
	MOVD	RSP, R1
	MOVD	$1, R2
	MOVD	$64, R8	// write
	SVC
	ADD	$16, RSP
	RET

// func handle(signal uintptr) (errno uintptr)
//
// On its stack is struct kernel_sigaction.
TEXT ·handle(SB),NOSPLIT,$32-16
	MOVD	$handler<>(SB), R0
	MOVD	R0, action-32(SP)
	MOVD	$0x18000000, R0	// SA_RESTART | SA_ONSTACK
	MOVD	R0, flags-24(SP)
	MOVD	ZR, restorer-16(SP)
	MOVD	$-1, R0	// all signals wait meanwhile
	MOVD	R0, mask-8(SP)
	MOVD	signal+0(FP), R0
	MOVD	$action-32(SP), R1
	MOVD	ZR, R2
	MOVD	$8, R3
	MOVD	$134, R8	// rt_sigaction
	SVC
	NEG	R0, R0
	MOVD	R0, errno+8(FP)
	RET
