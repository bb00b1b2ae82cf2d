package cgroup

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/sys"
)

// setV2 puts the policy in force in a fresh directory of the cgroup2 tree, by a program that the kernel asks on every open
// and mknod of a device node. Programs of the directories above, and any that is attached already, have to agree too.
func (p *devicePolicy) setV2(dir string) error {
	if p.allowsAll() {
		return nil
	}
	return p.attach(dir, sys.AttachCgroupDevice)
}

// replaceV2 puts the policy in force in the place of an earlier one, in one step.
func (p *devicePolicy) replaceV2(dir string) error { return p.attach(dir, sys.ReplaceCgroupDevice) }

func (p *devicePolicy) attach(dir string, attach func(cgroup, program int) error) error {
	cgroup, err := sys.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(cgroup)
	program, err := sys.LoadCgroupDevice(p.program())
	if err != nil {
		return fmt.Errorf("load the device filter: %w", err)
	}
	defer unix.Close(program) // the attachment keeps it
	if err := attach(cgroup, program); err != nil {
		return fmt.Errorf("attach the device filter to %s: %w", dir, err)
	}
	return nil
}

// Registers of the program. The context in r1 is struct bpf_cgroup_dev_ctx: access_type (kind in the low and access in
// the high half), major, minor; 32 bits each.
const (
	regResult = 0
	regCtx    = 1
	regKind   = 2
	regAccess = 3
	regMajor  = 4
	regMinor  = 5
	regTmp    = 6
)

// Operations of eBPF that the program uses (linux/bpf.h, linux/bpf_common.h).
const (
	opLoadWord = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
	opMovImm   = unix.BPF_ALU | unix.BPF_MOV | unix.BPF_K
	opMovReg   = unix.BPF_ALU | unix.BPF_MOV | unix.BPF_X
	opAndImm   = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opRshImm   = unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K
	opJumpNot  = unix.BPF_JMP32 | unix.BPF_JNE | unix.BPF_K
	opJumpDiff = unix.BPF_JMP32 | unix.BPF_JNE | unix.BPF_X
	opExit     = unix.BPF_JMP | unix.BPF_EXIT
)

// program compiles the policy to eBPF: one block per exception, which gives the other answer than the default when
// device and every requested access match.
func (p *devicePolicy) program() []byte {
	out := assemble(nil,
		insn{op: opLoadWord, dst: regKind, src: regCtx},
		insn{op: opAndImm, dst: regKind, imm: 0xffff},
		insn{op: opLoadWord, dst: regAccess, src: regCtx},
		insn{op: opRshImm, dst: regAccess, imm: 16},
		insn{op: opLoadWord, dst: regMajor, src: regCtx, off: 4},
		insn{op: opLoadWord, dst: regMinor, src: regCtx, off: 8},
	)
	for _, e := range p.exceptions {
		out = assemble(out, p.block(e)...)
	}
	return assemble(out, answer(p.allow)...)
}

// block returns the instructions for one exception; a mismatch jumps behind them.
func (p *devicePolicy) block(e deviceException) []insn {
	kind := int32(unix.BPF_DEVCG_DEV_CHAR)
	if e.kind == 'b' {
		kind = unix.BPF_DEVCG_DEV_BLOCK
	}
	block := []insn{{op: opJumpNot, dst: regKind, imm: kind}}
	switch {
	case e.access == accessAll:
	case p.allow:
		// An exception that denies holds when any denied access is requested.
		block = append(block,
			insn{op: opMovReg, dst: regTmp, src: regAccess},
			insn{op: opAndImm, dst: regTmp, imm: int32(e.access)},
			insn{op: unix.BPF_JMP32 | unix.BPF_JEQ | unix.BPF_K, dst: regTmp, imm: 0})
	default:
		block = append(block,
			insn{op: opMovReg, dst: regTmp, src: regAccess},
			insn{op: opAndImm, dst: regTmp, imm: int32(e.access)},
			insn{op: opJumpDiff, dst: regTmp, src: regAccess})
	}
	if e.major != anyNumber {
		block = append(block, insn{op: opJumpNot, dst: regMajor, imm: int32(uint32(e.major))})
	}
	if e.minor != anyNumber {
		block = append(block, insn{op: opJumpNot, dst: regMinor, imm: int32(uint32(e.minor))})
	}
	block = append(block, answer(!p.allow)...)
	for i := range block {
		if block[i].op&0x07 == unix.BPF_JMP32 {
			block[i].off = int16(len(block) - i - 1)
		}
	}
	return block
}

func answer(allow bool) []insn {
	var result int32
	if allow {
		result = 1
	}
	return []insn{{op: opMovImm, dst: regResult, imm: result}, {op: opExit}}
}

// insn is one eBPF instruction (struct bpf_insn).
type insn struct {
	op       uint8
	dst, src uint8
	off      int16
	imm      int32
}

// assemble appends instructions in the kernel's format, for little-endian machines as all that we support are.
func assemble(out []byte, program ...insn) []byte {
	for _, i := range program {
		out = append(out, i.op, i.dst|i.src<<4)
		out = binary.LittleEndian.AppendUint16(out, uint16(i.off))
		out = binary.LittleEndian.AppendUint32(out, uint32(i.imm))
	}
	return out
}
