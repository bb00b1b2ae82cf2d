package seccomp

import (
	"slices"
	"sort"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Arch is a machine that filters are compiled for.
type Arch uint8

// The supported machines.
const (
	AMD64 Arch = iota + 1
	ARM64
)

// abi is a set of system call numbers with a calling convention.
type abi uint8

const (
	abiAMD64 abi = iota
	abiI386
	abiX32
	abiARM64
	abiARM
	numABIs
)

// abis tells what the compiler has to know of every ABI.
var abis = [numABIs]struct {
	arch   specs.Arch
	audit  uint32 // AUDIT_ARCH_* of linux/audit.h, the arch of struct seccomp_data
	is32   bool   // conditions see the low half of arguments only
	offset uint32 // what is added to the number in the tables
}{
	abiAMD64: {arch: specs.ArchX86_64, audit: 0xc000003e},
	abiI386:  {arch: specs.ArchX86, audit: 0x40000003, is32: true},
	abiX32:   {arch: specs.ArchX32, audit: 0xc000003e, is32: true, offset: x32Bit},
	abiARM64: {arch: specs.ArchAARCH64, audit: 0xc00000b7},
	abiARM:   {arch: specs.ArchARM, audit: 0x40000028, is32: true},
}

// machines lists the ABIs of every machine, the native one first. Those of a group share their audit architecture, in
// the order of their numbers.
var machines = [...][][]abi{
	AMD64: {{abiAMD64, abiX32}, {abiI386}},
	ARM64: {{abiARM64}, {abiARM}},
}

const (
	// x32Bit is __X32_SYSCALL_BIT: it marks an x32 call among those of AUDIT_ARCH_X86_64.
	x32Bit = 1 << 30

	// armPrivate is where the calls of arm begin that are no system calls in the common sense (__ARM_NR_BASE). They do not
	// count for which system call is the newest one.
	armPrivate = 0xf0000

	// i386 calls that offer others by their first argument.
	i386SocketCall = 102
	i386IPC        = 117
)

// Special values of syscallNumbers.
const (
	absent      = -1 // the ABI does not have the call
	multiplexed = -2 // only as a sub-call of socketcall or ipc
)

// socketCalls and ipcCalls are the sub-calls of socketcall(2) and ipc(2): SYS_* of linux/net.h, and linux/ipc.h.
var (
	socketCalls = [...]string{
		1: "socket", 2: "bind", 3: "connect", 4: "listen", 5: "accept", 6: "getsockname", 7: "getpeername",
		8: "socketpair", 9: "send", 10: "recv", 11: "sendto", 12: "recvfrom", 13: "shutdown", 14: "setsockopt",
		15: "getsockopt", 16: "sendmsg", 17: "recvmsg", 18: "accept4", 19: "recvmmsg", 20: "sendmmsg",
	}
	ipcCalls = [...]string{
		1: "semop", 2: "semget", 3: "semctl", 4: "semtimedop", 11: "msgsnd", 12: "msgrcv", 13: "msgget", 14: "msgctl",
		21: "shmat", 22: "shmdt", 23: "shmget", 24: "shmctl",
	}
)

// lookup returns the row of a system call's name in syscallNumbers, and whether there is one.
func lookup(name string) (row int, ok bool) {
	row = sort.Search(len(syscallEnds), func(i int) bool { return syscallName(i) >= name })
	return row, row < len(syscallEnds) && syscallName(row) == name
}

// syscallName returns the name of a row of syscallNumbers.
func syscallName(row int) string {
	start := uint16(0)
	if row > 0 {
		start = syscallEnds[row-1]
	}
	return syscallNames[start:syscallEnds[row]]
}

// multiplexer returns the i386 call that offers the named one too, and the sub-call's number there; 0 if there is none.
func multiplexer(name string) (nr, sub uint32) {
	if i := slices.Index(socketCalls[:], name); i > 0 {
		return i386SocketCall, uint32(i)
	}
	if i := slices.Index(ipcCalls[:], name); i > 0 {
		return i386IPC, uint32(i)
	}
	return 0, 0
}
