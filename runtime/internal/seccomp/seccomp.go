// Package seccomp compiles the linux.seccomp property of the runtime-spec to a classic BPF program for seccomp(2).
//
// A profile means here what it means to runc with libseccomp; the tests compare the programs of both. In short:
//
//   - A rule without conditions beats all rules with conditions for its system call; of several, the first one stands.
//   - Conditions on different arguments of one rule must all hold. A rule with several conditions on one argument is as
//     many rules of one condition each.
//   - Rules for one system call that overlap and differ in their action are asked in libseccomp's order, see
//     compareConds. Two with the same conditions and another action contradict each other: an error.
//   - A rule whose action is the default action is as if it were not there.
//   - An ABI that the profile does not list has its threads killed at their first system call. The native one is always
//     listed.
//   - Where the default action is a refusal, a system call newer than the newest that the profile names gives ENOSYS, so
//     that libraries fall back to older calls.
//   - 32-bit ABIs (i386, x32, arm) compare the low halves of arguments and values only.
//   - On i386, a rule for a call that socketcall(2) or ipc(2) offers too holds for those as well. Their first argument
//     selects the call, so the rule's condition on it is lost: refusing socket(AF_X) there needs a rule for socketcall.
//
// libseccomp 2.5 merges the rules for a system call into one tree, which can answer for conditions that nobody wrote:
// with several conditions in a rule, and with values above 32 bits. There this package does what the rules say; see
// TestWhereLibseccompErrs.
package seccomp

import (
	"encoding/binary"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

//go:generate go run ./gen

// Filter is a compiled profile. It is not to be modified: a [Cache] hands out the same one many times.
type Filter struct {
	Insns    []Insn   // the program for seccomp(2), at most 4096 instructions
	Flags    uint32   // SECCOMP_FILTER_FLAG_* for seccomp(2), NEW_LISTENER among them if Notify
	Notify   bool     // the profile has SCMP_ACT_NOTIFY: seccomp(2) returns a listener for listenerPath
	Warnings []string // what of the profile has no effect, each with its path in config.json
}

// Bytes returns the program as an array of struct sock_filter, little endian as both supported machines are.
func (f *Filter) Bytes() []byte {
	b := make([]byte, 0, len(f.Insns)*insnSize)
	for _, in := range f.Insns {
		b = binary.LittleEndian.AppendUint16(b, in.Code)
		b = append(b, in.Jt, in.Jf)
		b = binary.LittleEndian.AppendUint32(b, in.K)
	}
	return b
}

// Options are the facts of the host that decide how a profile is compiled.
type Options struct {
	Arch           Arch   // the machine
	SupportedFlags uint32 // the SECCOMP_FILTER_FLAG_* bits that the kernel knows
}

// maxInsns is BPF_MAXINSNS of the kernel.
const maxInsns = 4096

// Compile compiles p. A profile that is nil, or has neither a default action nor rules, asks for nothing, as in runc: the
// filter is nil, and so is the error. Errors begin with the path in config.json of what is wrong.
func Compile(p *specs.LinuxSeccomp, o Options) (*Filter, error) {
	if p == nil || p.DefaultAction == "" && len(p.Syscalls) == 0 {
		return nil, nil
	}
	prof, err := parse(p, o)
	if err != nil {
		return nil, err
	}
	var sections []section
	for _, group := range prof.abis {
		s, err := prof.section(group)
		if err != nil {
			return nil, err
		}
		sections = append(sections, s)
	}
	insns := emit(sections)
	if len(insns) > maxInsns {
		return nil, fmt.Errorf("linux.seccomp: compiled to %d instructions, more than the kernel's %d", len(insns), maxInsns)
	}
	return &Filter{Insns: insns, Flags: prof.flags, Notify: prof.notify, Warnings: prof.warnings}, nil
}
