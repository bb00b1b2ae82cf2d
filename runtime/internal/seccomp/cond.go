package seccomp

import (
	"cmp"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// operator is how a condition compares.
type operator uint8

// The operators, in libseccomp's order of precedence: EQ with NE, LT with LE, GE with GT.
const (
	opEQ operator = iota // also MASKED_EQ
	opNE
	opLT
	opLE
	opGE
	opGT
)

// cond is a condition on one argument.
type cond struct {
	arg   uint8
	op    operator
	mask  uint64 // for opEQ: the bits to compare; else all
	value uint64 // with no bits outside of mask
}

const allBits = ^uint64(0)

// newCond returns the condition of a checked argument rule. MASKED_EQ has the mask in value, and the bits of valueTwo
// outside of it do not count.
func newCond(arg specs.LinuxSeccompArg) cond {
	c := cond{arg: uint8(arg.Index), mask: allBits, value: arg.Value}
	switch arg.Op {
	case specs.OpEqualTo:
		c.op = opEQ
	case specs.OpMaskedEqual:
		c.op, c.mask, c.value = opEQ, arg.Value, arg.ValueTwo&arg.Value
	case specs.OpNotEqual:
		c.op = opNE
	case specs.OpLessThan:
		c.op = opLT
	case specs.OpLessEqual:
		c.op = opLE
	case specs.OpGreaterEqual:
		c.op = opGE
	case specs.OpGreaterThan:
		c.op = opGT
	}
	return c
}

// narrow returns the conditions as an ABI sees them: without those that always hold and, with 32 bits, without high halves.
func narrow(conds []cond, is32 bool) []cond {
	var out []cond
	for _, c := range conds {
		if is32 {
			c.mask &= 0xffffffff
			c.value &= 0xffffffff
		}
		if c.mask != 0 {
			out = append(out, c)
		}
	}
	return out
}

// compareConds orders the rules of a system call as libseccomp asks them: those on later arguments first; on one
// argument first EQ, NE and MASKED_EQ, then LT and LE, then GE and GT; the largest value first, for LT and LE the
// smallest. So with A >= 5 and A >= 10 the second one is asked first. Rules that compare equal keep the profile's order.
func compareConds(a, b []cond) int {
	for i := 0; i < len(a) && i < len(b); i++ {
		if c := compareCond(a[i], b[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func compareCond(a, b cond) int {
	if c := cmp.Compare(b.arg, a.arg); c != 0 {
		return c
	}
	if c := cmp.Compare(a.op/2, b.op/2); c != 0 { // pairs of operators have the same precedence
		return c
	}
	if a.op == opLT || a.op == opLE {
		return cmp.Compare(a.value, b.value)
	}
	return cmp.Compare(b.value, a.value)
}
