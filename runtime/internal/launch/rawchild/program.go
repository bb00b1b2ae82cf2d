// Package rawchild forks this process and lets the child interpret a program of system calls, nothing else.
//
// It is the fence around the only code of gosuda that runs between clone and execve. In the child of a multi-threaded Go
// process no lock can be taken, no memory allocated and no stack grown; so the child runs one loop over instructions that
// were prepared before the fork. A new feature of the runtime adds instructions, never code here.
package rawchild

import "fmt"

// Kind says what an argument word means.
type Kind uint8

// The kinds of arguments.
const (
	Imm  Kind = iota // the word itself
	Data             // the address of an offset in Program.Data
	Reg              // the value of a register
)

// Arg is one argument of an instruction.
type Arg struct {
	Kind Kind
	Word uint64
}

// Pseudo instructions, beside the numbers of system calls.
const (
	// OpJump continues at instruction Args[0].
	OpJump uint32 = 1<<31 + iota
	// OpSet puts Args[0] into register Dst.
	OpSet
	// OpStore32 writes the low 32 bits of Args[1] to the Data offset Args[0].
	OpStore32
	// OpLoad32 puts the 32 bits at the Data offset Args[0] into register Dst.
	OpLoad32
	// OpTest reads 32 bits at the Data offset Args[0] and compares them, masked by Args[1], with Args[2]; when they differ, the
	// instruction ends with the errno Args[3].
	OpTest
	// OpFail ends with the errno Args[0].
	OpFail
	// OpCall continues at instruction Args[0], and OpReturn behind the last OpCall. Calls do not nest.
	OpCall
	OpReturn
	// OpContinue goes on at the start of the program that Program.Rest was filled with, with the registers as they are.
	OpContinue
)

// CallersStep is the step of instructions that OpCall leads to: that of the call.
const CallersStep = -1

// Registers is the number of registers; register ReportReg holds the descriptor that failures are written to.
const (
	Registers = 24
	ReportReg = 0
)

// Branch continues at instruction To when the instruction ends with Errno; Errno -1 stands for any.
type Branch struct {
	Errno int32
	To    int32
}

// Op is one instruction. A container has some 700, all of which are in fresh memory.
type Op struct {
	words    [6]uint64 // of the arguments
	Nr       uint32    // a system call's number or a pseudo instruction
	Step     int32     // reported with a failure
	Want     int32
	branch   uint32 // the first of its branches in Program.Branches
	branches uint16 // how many it has
	kinds    uint16 // of the arguments, kindBits each
	Dst      int8   // register that takes the result, -1 for none
	// Exact makes any result but Want a failure with EPIPE: the end of file on a gate, or a short write.
	Exact bool
}

// Kinds lie side by side.
const (
	kindBits = 2
	kindMask = 1<<kindBits - 1
)

// SetArg sets argument i, from 0 to 5; those that are not set are 0.
func (op *Op) SetArg(i int, a Arg) {
	op.words[i] = a.Word
	op.kinds = op.kinds&^(kindMask<<(kindBits*i)) | uint16(a.Kind)<<(kindBits*i)
}

// Arg returns argument i.
func (op *Op) Arg(i int) Arg {
	return Arg{Kind(op.kinds >> (kindBits * i) & kindMask), op.words[i]}
}

// Reloc is a place in Data that takes the address of another place in Data: pointers inside structures.
type Reloc struct{ At, Target int }

// Branch makes the instruction continue at b.To when it ends with b.Errno. What was added first is looked at first.
func (p *Program) Branch(op int, b Branch) {
	o := &p.Ops[op]
	old := p.branches(o)
	if end := uint32(len(p.Branches)); o.branch+uint32(o.branches) != end { // they lie side by side
		p.Branches = append(p.Branches, old...)
		o.branch = end
	}
	p.Branches = append(p.Branches, b)
	o.branches++
}

func (p *Program) branches(o *Op) []Branch { return p.Branches[o.branch:][:o.branches] }

// Program is position independent. Start leaves it as it is.
type Program struct {
	Ops      []Op
	Branches []Branch
	Data     []byte // of which the child has a copy
	// SharedData: Data is memory that the child writes to and its caller reads: a shared mapping, or any for StartBeside.
	SharedData bool
	Relocs     []Reloc
	Init       [Registers]uint64 // first values of the registers; that of a Rest's program does not matter
	// Rest is where OpContinue leads; nil without one. The caller closes it once the program is started.
	Rest *Room
}

// Report is what the child writes, in the machine's byte order, to the descriptor in ReportReg.
type Report struct {
	Kind  ReportKind
	Step  int32
	Value uint32 // errno of a failure; the program's own meaning at a gate
}

// ReportSize is the encoded size of a Report, below PIPE_BUF: reports are never torn.
const ReportSize = 12

// ReportKind tells failures from gates.
type ReportKind uint32

// Failed ends a program. Programs number their gates from GateBase.
const (
	Failed   ReportKind = 1
	GateBase ReportKind = 16
)

// Validate refuses what the child could not check for itself. Start calls it.
func (p *Program) Validate() error {
	for i := range p.Ops {
		op := &p.Ops[i]
		if op.Dst >= Registers {
			return fmt.Errorf("program: instruction %d: register %d (this is a bug)", i, op.Dst)
		}
		for j := range op.words {
			switch a := op.Arg(j); {
			case a.Kind == Data && a.Word > uint64(len(p.Data)):
				return fmt.Errorf("program: instruction %d: data offset %d beyond %d (this is a bug)", i, a.Word, len(p.Data))
			case a.Kind == Reg && a.Word >= Registers:
				return fmt.Errorf("program: instruction %d: register %d (this is a bug)", i, a.Word)
			}
		}
		switch first := op.Arg(0); op.Nr {
		case OpTest, OpStore32, OpLoad32:
			if first.Kind != Data || first.Word+4 > uint64(len(p.Data)) {
				return fmt.Errorf("program: instruction %d: word at %d beyond %d (this is a bug)", i, first.Word, len(p.Data))
			}
		case OpJump, OpCall:
			if first.Kind != Imm || first.Word >= uint64(len(p.Ops)) {
				return fmt.Errorf("program: instruction %d: jump to %d beyond %d (this is a bug)", i, first.Word, len(p.Ops))
			}
		}
		if op.Nr == OpContinue && p.Rest == nil {
			return fmt.Errorf("program: instruction %d: there is nothing to continue with (this is a bug)", i)
		}
		if int(op.branch)+int(op.branches) > len(p.Branches) {
			return fmt.Errorf("program: instruction %d: branches at %d beyond %d (this is a bug)", i, op.branch, len(p.Branches))
		}
		for _, b := range p.branches(op) {
			if b.To < 0 || int(b.To) >= len(p.Ops) {
				return fmt.Errorf("program: instruction %d: branch to %d beyond %d (this is a bug)", i, b.To, len(p.Ops))
			}
		}
	}
	for _, r := range p.Relocs {
		if r.At+8 > len(p.Data) || r.Target > len(p.Data) {
			return fmt.Errorf("program: relocation %d -> %d beyond %d (this is a bug)", r.At, r.Target, len(p.Data))
		}
	}
	if n := len(p.Ops); n == 0 || (p.Ops[n-1].Nr != OpFail && p.Ops[n-1].Nr != OpJump) {
		return fmt.Errorf("program: the last instruction falls off the end (this is a bug)")
	}
	return nil
}
