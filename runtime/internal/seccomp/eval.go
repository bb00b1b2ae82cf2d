package seccomp

import "fmt"

// Data is struct seccomp_data of linux/seccomp.h: what a filter sees of a system call.
type Data struct {
	Nr   uint32
	Arch uint32 // AUDIT_ARCH_*
	IP   uint64 // the instruction pointer
	Args [6]uint64
}

// word returns the aligned 32 bits at an offset.
func (d *Data) word(offset uint32) uint32 {
	switch {
	case offset == offsetNr:
		return d.Nr
	case offset == offsetArch:
		return d.Arch
	case offset < offsetArgs:
		return uint32(d.IP >> (8 * (offset - offsetIP)))
	}
	return uint32(d.Args[(offset-offsetArgs)/8] >> (8 * (offset % 8)))
}

// Eval returns what a filter answers to a system call: one of SECCOMP_RET_* with its data. It runs the instructions that
// Compile and libseccomp use; all others, and a program that does not end with a return, are errors.
func Eval(insns []Insn, data Data) (ret uint32, err error) {
	ret, _, err = eval(insns, &data)
	return ret, err
}

// eval also returns how many instructions it ran.
func eval(insns []Insn, data *Data) (ret uint32, steps int, err error) {
	var acc uint32
	for pc := uint64(0); pc < uint64(len(insns)); pc++ {
		in := insns[pc]
		steps++
		skip := in.Jf
		switch in.Code {
		case opLoad:
			if in.K%4 != 0 || in.K >= dataSize {
				return 0, steps, fmt.Errorf("run instruction %d: no word at offset %d", pc, in.K)
			}
			acc = data.word(in.K)
			continue
		case opAnd:
			acc &= in.K
			continue
		case opReturn:
			return in.K, steps, nil
		case opJump:
			pc += uint64(in.K)
			continue
		case opJumpEQ:
			if acc == in.K {
				skip = in.Jt
			}
		case opJumpGT:
			if acc > in.K {
				skip = in.Jt
			}
		case opJumpGE:
			if acc >= in.K {
				skip = in.Jt
			}
		case opJumpSet:
			if acc&in.K != 0 {
				skip = in.Jt
			}
		default:
			return 0, steps, fmt.Errorf("run instruction %d: unknown code %#x", pc, in.Code)
		}
		pc += uint64(skip)
	}
	return 0, steps, fmt.Errorf("run program: no return at its end")
}
