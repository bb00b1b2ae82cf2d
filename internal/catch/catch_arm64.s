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

// func addresses() (handler, restorer uintptr)
TEXT ·addresses(SB),NOSPLIT,$0-16
	MOVD	$handler<>(SB), R0
	MOVD	R0, handler+0(FP)
	MOVD	ZR, restorer+8(FP)
	RET
