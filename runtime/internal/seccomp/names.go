package seccomp

import "github.com/opencontainers/runtime-spec/specs-go"

// SECCOMP_RET_* of linux/seccomp.h: what a filter returns. The low half carries data.
const (
	retKillThread  uint32 = 0x00000000
	retTrap        uint32 = 0x00030000
	retErrno       uint32 = 0x00050000
	retUserNotif   uint32 = 0x7fc00000
	retTrace       uint32 = 0x7ff00000
	retLog         uint32 = 0x7ffc0000
	retAllow       uint32 = 0x7fff0000
	retKillProcess uint32 = 0x80000000
)

// SECCOMP_FILTER_FLAG_* of linux/seccomp.h: bits of [Options.SupportedFlags] and [Filter.Flags].
const (
	FlagTSync            uint32 = 1 << 0
	FlagLog              uint32 = 1 << 1
	FlagSpecAllow        uint32 = 1 << 2
	FlagNewListener      uint32 = 1 << 3
	FlagWaitKillableRecv uint32 = 1 << 5 // since Linux 5.19
)

// Linux's errno values that filters return; the same on all supported machines.
const (
	eperm    = 1
	enosys   = 38
	maxErrno = 4095 // MAX_ERRNO: what the kernel cuts a filter's errno to
)

// action is an action of the runtime-spec.
type action struct {
	name    specs.LinuxSeccompAction
	ret     uint32
	maxData uint // the largest errnoRet; 0 if it takes none
}

// The tables below are in byte order of their names, as `features` prints them.

var actions = [...]action{
	{specs.ActAllow, retAllow, 0},
	{specs.ActErrno, retErrno, maxErrno},
	{specs.ActKill, retKillThread, 0},
	{specs.ActKillProcess, retKillProcess, 0},
	{specs.ActKillThread, retKillThread, 0},
	{specs.ActLog, retLog, 0},
	{specs.ActNotify, retUserNotif, 0},
	{specs.ActTrace, retTrace, 0xffff},
	{specs.ActTrap, retTrap, 0},
}

var operators = [...]specs.LinuxSeccompOperator{
	specs.OpEqualTo,
	specs.OpGreaterEqual,
	specs.OpGreaterThan,
	specs.OpLessEqual,
	specs.OpLessThan,
	specs.OpMaskedEqual,
	specs.OpNotEqual,
}

var archs = [...]specs.Arch{
	specs.ArchAARCH64,
	specs.ArchARM,
	specs.ArchLOONGARCH64,
	specs.ArchM68K,
	specs.ArchMIPS,
	specs.ArchMIPS64,
	specs.ArchMIPS64N32,
	specs.ArchMIPSEL,
	specs.ArchMIPSEL64,
	specs.ArchMIPSEL64N32,
	specs.ArchPARISC,
	specs.ArchPARISC64,
	specs.ArchPPC,
	specs.ArchPPC64,
	specs.ArchPPC64LE,
	specs.ArchRISCV64,
	specs.ArchS390,
	specs.ArchS390X,
	specs.ArchSH,
	specs.ArchSHEB,
	specs.ArchX32,
	specs.ArchX86,
	specs.ArchX86_64,
}

// flag is a filter flag that a profile may name.
type flag struct {
	name specs.LinuxSeccompFlag
	bit  uint32
}

// flagTSync is not in the runtime-spec, but runc takes it too. A container's init has one thread when its filter is
// installed, so there is nothing to synchronise and the bit is not set.
const flagTSync specs.LinuxSeccompFlag = "SECCOMP_FILTER_FLAG_TSYNC"

var flags = [...]flag{
	{specs.LinuxSeccompFlagLog, FlagLog},
	{specs.LinuxSeccompFlagSpecAllow, FlagSpecAllow},
	{flagTSync, FlagTSync},
	{specs.LinuxSeccompFlagWaitKillableRecv, FlagWaitKillableRecv},
}

// Actions returns the names of all actions that Compile knows, sorted.
func Actions() []string {
	var names []string
	for _, a := range actions {
		names = append(names, string(a.name))
	}
	return names
}

// Operators returns the names of all operators that Compile knows, sorted.
func Operators() []string {
	var names []string
	for _, op := range operators {
		names = append(names, string(op))
	}
	return names
}

// Archs returns the names of all architectures that Compile knows, sorted. It ignores those that are not of its machine:
// their system calls cannot happen there.
func Archs() []string {
	var names []string
	for _, a := range archs {
		names = append(names, string(a))
	}
	return names
}

// Flags returns the names of all flags that Compile knows, sorted.
func Flags() []string { return SupportedFlags(^uint32(0)) }

// SupportedFlags returns the names of those of Flags whose SECCOMP_FILTER_FLAG_* bit is in supported, sorted.
func SupportedFlags(supported uint32) []string {
	var names []string
	for _, f := range flags {
		if f.bit&supported != 0 {
			names = append(names, string(f.name))
		}
	}
	return names
}

// CallName returns the name of a system call of a machine's native ABI, "" if there is none of that number.
func CallName(arch Arch, nr uint32) string {
	if int(arch) >= len(machines) || len(machines[arch]) == 0 {
		return ""
	}
	native := machines[arch][0][0]
	for row := range syscallEnds {
		if n := syscallNumbers[row][native]; n >= 0 && uint32(n) == nr {
			return syscallName(row)
		}
	}
	return ""
}
