package seccomp

import "testing"

func TestEvalWords(t *testing.T) {
	d := Data{Nr: 0x01020304, Arch: 0x05060708, IP: 0x1112131415161718, Args: [6]uint64{0x2122232425262728, 1, 2, 3, 4, 0x3132333435363738}}
	for offset, want := range map[uint32]uint32{
		0: 0x01020304, 4: 0x05060708, 8: 0x15161718, 12: 0x11121314, 16: 0x25262728, 20: 0x21222324,
		24: 1, 28: 0, 32: 2, 48: 4, 56: 0x35363738, 60: 0x31323334,
	} {
		// Equal to the wanted word, or not.
		got, err := Eval([]Insn{{Code: opLoad, K: offset}, {Code: opJumpEQ, Jf: 1, K: want}, {Code: opReturn, K: 1}, {Code: opReturn, K: 2}}, d)
		if err != nil || got != 1 {
			t.Errorf("word at %d is not %#x, %v", offset, want, err)
		}
	}
}

func TestEvalErrors(t *testing.T) {
	for name, insns := range map[string][]Insn{
		"empty":            nil,
		"no return":        {{Code: opLoad}},
		"unaligned":        {{Code: opLoad, K: 2}, {Code: opReturn}},
		"beyond the data":  {{Code: opLoad, K: dataSize}, {Code: opReturn}},
		"unknown code":     {{Code: 0x16}},
		"jump out":         {{Code: opJumpEQ, Jt: 1}, {Code: opReturn}},
		"long jump out":    {{Code: opJump, K: 0xffffffff}, {Code: opReturn}},
		"jump to the end":  {{Code: opJump, K: 1}, {Code: opReturn}},
		"indirect loading": {{Code: 0x40}, {Code: opReturn}},
	} {
		if ret, err := Eval(insns, Data{}); err == nil {
			t.Errorf("%s: %#x", name, ret)
		}
	}
}
