package seccomp

// Insn is struct sock_filter of linux/filter.h: one instruction of classic BPF. Jumps are relative to the next one.
type Insn struct {
	Code   uint16
	Jt, Jf uint8
	K      uint32
}

// insnSize is the size of struct sock_filter.
const insnSize = 8

// The instructions of linux/bpf_common.h that filters are made of. The kernel works out in advance what a filter with only
// these answers for a system call that it does not compare arguments of, and does not run it for those it allows.
const (
	opLoad    uint16 = 0x20 // A = word at K of struct seccomp_data
	opAnd     uint16 = 0x54 // A &= K
	opJump    uint16 = 0x05 // skip K
	opJumpEQ  uint16 = 0x15 // skip A == K ? Jt : Jf
	opJumpGT  uint16 = 0x25
	opJumpGE  uint16 = 0x35
	opJumpSet uint16 = 0x45 // A & K != 0
	opReturn  uint16 = 0x06 // return K
)

// Offsets in struct seccomp_data of linux/seccomp.h, little endian.
const (
	offsetNr   = 0
	offsetArch = 4
	offsetIP   = 8
	offsetArgs = 16
	dataSize   = 64
)

// label is an instruction of a program under construction, as its distance from the program's end.
type label int

// assembler builds a program from its end to its beginning: then where a jump goes is known when it is written, as BPF
// jumps only forward.
type assembler struct {
	reversed []Insn
}

// maxSkip is how far a conditional jump reaches; less than its 255, to leave room for what jump itself puts in between.
const maxSkip = 253

func (a *assembler) emit(in Insn) label {
	a.reversed = append(a.reversed, in)
	return label(len(a.reversed) - 1)
}

func (a *assembler) load(offset uint32) label { return a.emit(Insn{Code: opLoad, K: offset}) }

func (a *assembler) and(mask uint32) label { return a.emit(Insn{Code: opAnd, K: mask}) }

// ret returns an instruction in reach of a conditional jump that ends the filter with value.
func (a *assembler) ret(value uint32) label {
	in := Insn{Code: opReturn, K: value}
	for i := len(a.reversed) - 1; i >= 0 && a.reachable(label(i)); i-- {
		if a.reversed[i] == in {
			return label(i)
		}
	}
	return a.emit(in)
}

// jump adds a conditional jump: to yes if A op k holds, else to no.
func (a *assembler) jump(op uint16, k uint32, yes, no label) label {
	yes = a.near(yes)
	no = a.near(no)
	at := label(len(a.reversed)) - 1
	return a.emit(Insn{Code: op, Jt: uint8(at - yes), Jf: uint8(at - no), K: k})
}

// near returns to itself, or something in reach of a conditional jump that does the same.
func (a *assembler) near(to label) label {
	if a.reachable(to) {
		return to
	}
	if in := a.reversed[to]; in.Code == opReturn {
		return a.ret(in.K)
	}
	return a.emit(Insn{Code: opJump, K: uint32(label(len(a.reversed)) - 1 - to)})
}

func (a *assembler) reachable(to label) bool { return label(len(a.reversed))-1-to <= maxSkip }

// follow makes the next instruction added be followed by what to does.
func (a *assembler) follow(to label) {
	if last := label(len(a.reversed)) - 1; to == last {
		return
	}
	if in := a.reversed[to]; in.Code == opReturn {
		a.emit(in)
		return
	}
	a.emit(Insn{Code: opJump, K: uint32(label(len(a.reversed)) - 1 - to)})
}

// program returns the instructions in their order.
func (a *assembler) program() []Insn {
	insns := make([]Insn, len(a.reversed))
	for i, in := range a.reversed {
		insns[len(insns)-1-i] = in
	}
	return insns
}
