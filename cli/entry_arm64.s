#include "textflag.h"

// gosudacon_entry: see entry_amd64.s.
TEXT gosudacon_entry(SB),NOSPLIT|NOFRAME,$0
	MOVD	0(RSP), R19	// argc
	ADD	$8, RSP, R20	// argv
	CMP	$2, R19
	BLT	go

	// Is argv[0] gosudacon, or a path that ends so?
	MOVD	0(R20), R9
	MOVD	R9, R10
length:
	MOVBU	(R10), R11
	CBZ	R11, name
	ADD	$1, R10
	B	length
name:
	SUB	$9, R10
	CMP	R9, R10
	BLO	shim
	MOVD	(R10), R11
	MOVD	$0x6f63616475736f67, R12	// gosudaco
	CMP	R12, R11
	BNE	shim
	MOVBU	8(R10), R11
	CMP	$0x6e, R11	// n
	BNE	shim
	CMP	R9, R10
	BEQ	operands
	MOVBU	-1(R10), R11
	CMP	$0x2f, R11	// /
	BNE	shim

	// Is one of the operands a command that makes processes?
operands:
	ADD	R19<<3, R20, R21	// the end of argv
	ADD	$8, R20, R10
operand:
	CMP	R21, R10
	BEQ	slack
	MOVD.P	8(R10), R9
	MOVWU	(R9), R11
	MOVD	$0x006e7572, R12	// run
	CMPW	R12, R11
	BEQ	seal
	MOVD	$0x63657865, R12	// exec
	CMPW	R12, R11
	BEQ	exec
	MOVD	$0x61657263, R12	// crea
	CMPW	R12, R11
	BEQ	create
	MOVD	$0x74736572, R12	// rest
	CMPW	R12, R11
	BNE	operand
	MOVWU	4(R9), R11
	MOVD	$0x0065726f, R12	// ore
	CMPW	R12, R11
	BEQ	seal
	B	operand
exec:
	MOVWU	1(R9), R11
	MOVD	$0x00636578, R12	// xec
	CMPW	R12, R11
	BEQ	seal
	B	operand
create:
	MOVWU	3(R9), R11
	MOVD	$0x00657461, R12	// ate
	CMPW	R12, R11
	BNE	operand

seal:
	MOVD	$78, R8	// readlinkat
	MOVD	$-100, R0	// AT_FDCWD
	MOVD	$gosudacon_exe(SB), R1
	SUB	$64, RSP, R2
	MOVD	$2, R3
	SVC
	CMP	$1, R0
	BEQ	sealed

	MOVD	$428, R8	// open_tree
	MOVD	$-100, R0	// AT_FDCWD
	MOVD	$gosudacon_exe(SB), R1
	MOVD	$1, R2	// OPEN_TREE_CLONE; see sealed in entry_amd64.s
	SVC
	CMP	$0, R0
	BLT	slack
	MOVD	R0, R22
	CMP	$3, R0
	BGE	readonly
	MOVD	$25, R8	// fcntl
	MOVD	$2, R1	// F_SETFD
	MOVD	$1, R2	// FD_CLOEXEC
	SVC
readonly:
	MOVD	$442, R8	// mount_setattr
	MOVD	R22, R0
	MOVD	$gosudacon_exe+14(SB), R1	// ""
	MOVD	$0x1000, R2	// AT_EMPTY_PATH
	MOVD	$gosudacon_readonly(SB), R3
	MOVD	$32, R4
	SVC
	CBNZ	R0, close

	MOVD	$281, R8	// execveat
	MOVD	R22, R0
	MOVD	$gosudacon_exe+14(SB), R1
	MOVD	R20, R2
	ADD	$8, R21, R3	// envp
	MOVD	$0x1000, R4	// AT_EMPTY_PATH
	SVC
close:
	MOVD	$57, R8	// close
	MOVD	R22, R0
	SVC
	B	slack

	// Is it a verb of containerd's, which comes last?
shim:
	ADD	R19<<3, R20, R10
	MOVD	-8(R10), R9
	MOVWU	(R9), R11
	MOVD	$0x72617473, R12	// star
	CMPW	R12, R11
	BEQ	start
	MOVD	$0x656c6564, R12	// dele
	CMPW	R12, R11
	BNE	go
	MOVWU	3(R9), R11
	MOVD	$0x00657465, R12	// ete
	CMPW	R12, R11
	BEQ	slack
	B	go
start:
	MOVHU	4(R9), R11
	CMPW	$0x0074, R11	// t
	BEQ	slack
	B	go

sealed:
	ADD	$8, R21, R10	// envp
env:
	MOVD.P	8(R10), R11
	CBNZ	R11, env
aux:
	MOVD	(R10), R11
	MOVD	8(R10), R9
	ADD	$16, R10
	CBZ	R11, named	// AT_NULL
	CMP	$31, R11	// AT_EXECFN
	BNE	aux
	MOVD.P	8(R9), R11
	MOVD	$0x2f64662f7665642f, R12	// /dev/fd/
	CMP	R12, R11
	BNE	named
	MOVD	$0, R0
	MOVD	$10, R12
digit:
	MOVBU.P	1(R9), R11
	CBZ	R11, number
	MUL	R12, R0, R0
	ADD	R11, R0, R0
	SUB	$48, R0, R0
	B	digit
number:
	CMP	$3, R0
	BLT	named
	MOVW	R0, ·sealedFrom(SB)
	MOVD	$25, R8	// fcntl
	MOVD	$2, R1	// F_SETFD
	MOVD	$1, R2	// FD_CLOEXEC
	SVC
named:
	MOVD	$167, R8	// prctl
	MOVD	$15, R0	// PR_SET_NAME
	MOVD	$gosudacon_name(SB), R1
	SVC

	// See entry_amd64.s.
slack:
	MOVD	$167, R8	// prctl
	MOVD	$29, R0	// PR_SET_TIMERSLACK
	MOVD	$5000000, R1	// ns
	SVC

	MOVD	$123, R8	// sched_getaffinity
	MOVD	$0, R0
	MOVD	$128, R1
	MOVD	$github·com∕gosuda∕gosudacon∕internal∕onecpu·start(SB), R2
	SVC
	CMP	$0, R0
	BLE	go
	MOVD	$168, R8	// getcpu
	SUB	$8, RSP, R0
	MOVD	$0, R1
	MOVD	$0, R2
	SVC
	MOVWU	-8(RSP), R10
	CMP	$1024, R10
	BHS	go
	MOVD	$github·com∕gosuda∕gosudacon∕internal∕onecpu·one(SB), R2
	LSR	$6, R10, R11
	ADD	R11<<3, R2, R11
	MOVD	$1, R12
	LSL	R10, R12, R12	// by the lowest 6 bits
	MOVD	R12, (R11)
	MOVD	$122, R8	// sched_setaffinity
	MOVD	$0, R0
	MOVD	$128, R1
	SVC
go:
	MOVD	·heapProfileRate(SB), R9
	MOVD	ZR, (R9)

	MOVD	$261, R8	// prlimit64
	MOVD	$0, R0
	MOVD	$7, R1	// RLIMIT_NOFILE
	MOVD	$0, R2
	MOVD	$github·com∕gosuda∕gosudacon∕runtime∕internal∕sys∕nofile·start(SB), R9
	MOVD	R9, R3
	SVC
	CBNZ	R0, runtime

	MOVD	$3, R10	// the standard streams may be opened
	MOVD	R10, -16(RSP)
	MOVD	8(R9), R10
	MOVD	R10, -8(RSP)
	MOVD	$261, R8	// prlimit64
	MOVD	$7, R1	// RLIMIT_NOFILE
	SUB	$16, RSP, R2
	MOVD	$0, R3
	SVC
runtime:
	B	_rt0_arm64_linux(SB)
