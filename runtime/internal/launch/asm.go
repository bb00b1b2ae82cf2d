package launch

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
)

// reg is a register of the child.
type reg uint8

// The registers. Those without a fixed meaning are temporary within a step.
const (
	regReport  reg = rawchild.ReportReg
	regRoot    reg = 1 // O_PATH descriptor of the container's root
	regOldRoot reg = 2 // O_PATH descriptor of the host's root
	regNull    reg = 3 // O_PATH descriptor of the host's /dev/null
	// The listener of the seccomp filter, from its loading to its handing over.
	regListener reg = 4
	// What the child makes where its caller may not: the copy of a host's mount that comes next, and the empty directory of masks.
	regCopy  reg = 5
	regEmpty reg = 6
	t0       reg = 8
	t1       reg = 9
	t2       reg = 10
	t3       reg = 11
	regNew   reg = 14 // the directory that lowering.newDir names
	// The first of the descriptors that lowering.openNamespaces opens, at most one for each type.
	regNamespaces reg = 15
)

// label is a place in a program, bound once.
type label int

const noLabel label = -1

// asm assembles a program.
type asm struct {
	p       rawchild.Program
	step    int32
	labels  []int32                 // by label: the instruction, -1 while unbound
	empty   rawchild.Arg            // where the empty string is, which most calls on descriptors take
	strings map[string]rawchild.Arg // stand-ins: see lateHome
	shared  map[string]rawchild.Arg // see scratch
	hows    []how
	err     error // the first string that is none for the kernel, in errStep
	errStep int
}

// A usual program, so that it need not grow: that of the config of `runc spec` has 690 instructions and 9 KiB of data on a host with
// ten hierarchies of cgroup v1.
const (
	usualOps      = 768
	usualData     = 12 << 10
	usualLabels   = 480
	usualBranches = 420
	usualHows     = 24
)

func newAsm() *asm { return asmOf(newProgram(usualOps, usualBranches, usualData)) }

// shortAsm is newAsm for some steps.
func shortAsm() *asm { return asmOf(newProgram(192, 96, 4<<10)) }

func newProgram(ops, branches, data int) rawchild.Program {
	return rawchild.Program{Ops: make([]rawchild.Op, 0, ops), Branches: make([]rawchild.Branch, 0, branches), Data: make([]byte, 0, data)}
}

// asmOf assembles a program that is empty yet.
func asmOf(p rawchild.Program) *asm {
	return &asm{shared: map[string]rawchild.Arg{}, labels: make([]int32, 0, usualLabels), hows: make([]how, 0, usualHows), p: p}
}

func imm[T ~int | ~int32 | ~uint32 | ~uint64 | ~uintptr](v T) rawchild.Arg {
	return rawchild.Arg{Kind: rawchild.Imm, Word: uint64(v)}
}

func (r reg) arg() rawchild.Arg { return rawchild.Arg{Kind: rawchild.Reg, Word: uint64(r)} }

// cwd is AT_FDCWD, below zero.
var cwd = rawchild.Arg{Kind: rawchild.Imm, Word: uint64(0xffffffffffffff9c)}

// align makes the next data good for any structure, and returns where it will be.
func (a *asm) align() rawchild.Arg {
	for len(a.p.Data)%8 != 0 {
		a.p.Data = append(a.p.Data, 0)
	}
	return rawchild.Arg{Kind: rawchild.Data, Word: uint64(len(a.p.Data))}
}

// bytes puts b into the program's data.
func (a *asm) bytes(b []byte) rawchild.Arg {
	at := a.align()
	a.p.Data = append(a.p.Data, b...)
	return at
}

// str puts a NUL-terminated string into the data. One with a NUL in it would be a shorter one to the kernel than to those who checked
// it.
func (a *asm) str(s string) rawchild.Arg {
	if s == "" && a.empty != (rawchild.Arg{}) {
		return a.empty
	}
	if arg, ok := a.strings[s]; ok {
		return arg
	}
	if a.err == nil && strings.IndexByte(s, 0) >= 0 {
		a.err, a.errStep = fmt.Errorf("%.64q contains a NUL byte", s), int(a.step)
	}
	at := a.align()
	a.p.Data = append(append(a.p.Data, s...), 0)
	if s == "" {
		a.empty = at
	}
	return at
}

func (a *asm) words(w ...uint64) rawchild.Arg {
	at := a.align()
	for _, v := range w {
		a.p.Data = binary.NativeEndian.AppendUint64(a.p.Data, v)
	}
	return at
}

func (a *asm) words32(w ...uint32) rawchild.Arg {
	at := a.align()
	for _, v := range w {
		a.p.Data = binary.NativeEndian.AppendUint32(a.p.Data, v)
	}
	return at
}

// vector puts a NULL-terminated array of pointers to strings into the data.
func (a *asm) vector(list []string) rawchild.Arg {
	var at []int
	for _, s := range list {
		at = append(at, int(a.str(s).Word))
	}
	v := a.bytes(make([]byte, 8*(len(list)+1)))
	for i, target := range at {
		a.p.Relocs = append(a.p.Relocs, rawchild.Reloc{At: int(v.Word) + 8*i, Target: target})
	}
	return v
}

// at returns the argument for a place behind the start of another.
func at(base rawchild.Arg, off uint64) rawchild.Arg {
	return rawchild.Arg{Kind: base.Kind, Word: base.Word + off}
}

// ins is the last instruction, for what belongs to it.
type ins struct {
	a *asm
	i int
}

func (a *asm) emit(nr uint32, args ...rawchild.Arg) ins {
	a.p.Ops = append(a.p.Ops, rawchild.Op{Nr: nr, Step: a.step, Dst: -1})
	i := len(a.p.Ops) - 1
	for j, arg := range args {
		a.p.Ops[i].SetArg(j, arg)
	}
	return ins{a, i}
}

func (a *asm) call(nr int, args ...rawchild.Arg) ins { return a.emit(uint32(nr), args...) }

// to keeps the result in a register.
func (i ins) to(r reg) ins {
	i.a.p.Ops[i.i].Dst = int8(r)
	return i
}

// exactly makes every other result a failure.
func (i ins) exactly(n int) ins {
	i.a.p.Ops[i.i].Exact, i.a.p.Ops[i.i].Want = true, int32(n)
	return i
}

// on continues elsewhere when the call fails with one of the errnos; without any, with whichever.
func (i ins) on(l label, errnos ...unix.Errno) ins {
	if len(errnos) == 0 {
		i.branch(-1, l)
	}
	for _, e := range errnos {
		i.branch(int32(e), l)
	}
	return i
}

func (i ins) branch(errno int32, l label) {
	i.a.p.Branch(i.i, rawchild.Branch{Errno: errno, To: int32(l)})
}

// tolerate goes on as if the call had succeeded.
func (i ins) tolerate(errnos ...unix.Errno) ins {
	l := i.a.label()
	i.on(l, errnos...)
	i.a.bind(l)
	return i
}

func (a *asm) label() label {
	a.labels = append(a.labels, -1)
	return label(len(a.labels) - 1)
}

func (a *asm) bind(l label)          { a.labels[l] = int32(len(a.p.Ops)) }
func (a *asm) jump(l label)          { a.emit(rawchild.OpJump, imm(int(l))) }
func (a *asm) fail(errno unix.Errno) { a.emit(rawchild.OpFail, imm(errno)) }

func (a *asm) set(r reg, v rawchild.Arg) {
	a.emit(rawchild.OpSet, v).to(r)
}

// test ends with errno unless the 32 bits at data, masked, are want.
func (a *asm) test(data rawchild.Arg, mask, want uint32, errno unix.Errno) ins {
	return a.emit(rawchild.OpTest, data, imm(mask), imm(want), imm(errno))
}

func (a *asm) store32(data rawchild.Arg, v rawchild.Arg) {
	a.emit(rawchild.OpStore32, data, v)
}

// load32 puts the 32 bits at data into a register.
func (a *asm) load32(r reg, data rawchild.Arg) {
	a.emit(rawchild.OpLoad32, data).to(r)
}

// finish resolves the labels.
func (a *asm) finish() *rawchild.Program {
	a.fail(unix.ENOTRECOVERABLE) // what would fall off the end
	for i := range a.p.Ops {
		op := &a.p.Ops[i]
		if op.Nr == rawchild.OpJump || op.Nr == rawchild.OpCall {
			op.SetArg(0, imm(a.labels[op.Arg(0).Word]))
		}
	}
	for i := range a.p.Branches {
		b := &a.p.Branches[i]
		b.To = a.labels[b.To]
	}
	return &a.p
}
