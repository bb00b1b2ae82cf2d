#include "textflag.h"

// func clone(args *cloneArgs, size uintptr, m *machine) (pid, errno uintptr)
//
// The kernel starts the child behind the system call too, but at the top of its own stack. It gets no farther than interpret.
TEXT ·clone(SB),NOSPLIT|NOFRAME,$0-40
	MOVD	args+0(FP), R0
	MOVD	size+8(FP), R1
	MOVD	m+16(FP), R9	// which the kernel leaves alone
	MOVD	$435, R8	// clone3
	SVC
	CBZ	R0, child
	CMN	$4095, R0
	BCC	parent
	NEG	R0, R0
	MOVD	ZR, pid+24(FP)
	MOVD	R0, errno+32(FP)
	RET
parent:
	MOVD	R0, pid+24(FP)
	MOVD	ZR, errno+32(FP)
	RET
child:
	MOVD	ZR, R29
	MOVD	R9, 8(RSP)
	BL	·interpret(SB)
	BRK
