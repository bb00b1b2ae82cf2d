package seccomp

// emit writes the program: it finds the section of the call's audit architecture, and there the span of its number.
func emit(sections []section) []Insn {
	var a assembler
	starts := make([]label, len(sections))
	for i := len(sections) - 1; i >= 0; i-- {
		starts[i] = a.section(sections[i])
	}
	next := a.ret(retKillThread) // an architecture that the profile does not list
	for i := len(sections) - 1; i >= 0; i-- {
		next = a.jump(opJumpEQ, sections[i].audit, starts[i], next)
	}
	a.follow(next)
	a.load(offsetArch)
	return a.program()
}

func (a *assembler) section(s section) label {
	// What compares arguments comes last, once for all the calls with the same conditions.
	labels := make([]label, len(s.spans))
	for i, sp := range s.spans {
		if len(sp.verdict.alternatives) == 0 {
			continue
		}
		labels[i] = -1
		for j, other := range s.spans[:i] {
			if sameVerdict(sp.verdict, other.verdict) {
				labels[i] = labels[j]
				break
			}
		}
		if labels[i] < 0 {
			labels[i] = a.verdict(sp.verdict)
		}
	}
	a.follow(a.search(s.spans, labels))
	return a.load(offsetNr)
}

// search finds the span of the number in A by bisection.
func (a *assembler) search(spans []span, labels []label) label {
	if len(spans) == 1 {
		if v := spans[0].verdict; len(v.alternatives) == 0 {
			return a.ret(v.ret)
		}
		return labels[0]
	}
	mid := len(spans) / 2
	above := a.search(spans[mid:], labels[mid:])
	below := a.search(spans[:mid], labels[:mid])
	return a.jump(opJumpGE, spans[mid].first, above, below)
}

// verdict asks the alternatives one after the other.
func (a *assembler) verdict(v verdict) label {
	no := a.ret(v.ret)
	for end := len(v.alternatives); end > 0; {
		begin := end - 1
		for begin > 0 && isSet(v.alternatives[begin-1], v.alternatives[begin]) {
			begin--
		}
		no = a.anyOf(v.alternatives[begin:end], no)
		end = begin
	}
	return no
}

// isSet tells whether x and y only ask whether one argument has one of two values that differ in their low halves.
func isSet(x, y alternative) bool {
	if x.ret != y.ret || len(x.conds) != 1 || len(y.conds) != 1 {
		return false
	}
	c, d := x.conds[0], y.conds[0]
	return c.op == opEQ && d.op == opEQ && c.arg == d.arg && c.mask == d.mask && c.value>>32 == d.value>>32
}

// anyOf returns what alts say if one of them matches, else goes to no. Several ones make a set.
func (a *assembler) anyOf(alts []alternative, no label) label {
	yes := a.ret(alts[0].ret)
	if len(alts) == 1 {
		for i := len(alts[0].conds) - 1; i >= 0; i-- {
			yes = a.cond(alts[0].conds[i], yes, no)
		}
		return yes
	}
	var values []uint64
	for _, alt := range alts {
		values = append(values, alt.conds[0].value)
	}
	return a.equal(alts[0].conds[0], values, yes, no)
}

// cond goes to yes if c holds, else to no.
func (a *assembler) cond(c cond, yes, no label) label {
	switch c.op {
	case opNE:
		return a.equal(c, []uint64{c.value}, no, yes)
	case opLT:
		return a.greater(opJumpGE, c, no, yes)
	case opLE:
		return a.greater(opJumpGT, c, no, yes)
	case opGE:
		return a.greater(opJumpGE, c, yes, no)
	case opGT:
		return a.greater(opJumpGT, c, yes, no)
	}
	return a.equal(c, []uint64{c.value}, yes, no)
}

// equal goes to yes if c's argument has one of values in the bits of c's mask. The values' high halves are the same.
func (a *assembler) equal(c cond, values []uint64, yes, no label) label {
	if uint32(c.mask) != 0 {
		next := no
		for i := len(values) - 1; i >= 0; i-- {
			next = a.jump(opJumpEQ, uint32(values[i]), yes, next)
		}
		yes = a.loadMasked(lowHalf(c.arg), uint32(c.mask))
	}
	if high := uint32(c.mask >> 32); high != 0 {
		a.jump(opJumpEQ, uint32(values[0]>>32), yes, no)
		yes = a.loadMasked(highHalf(c.arg), high)
	}
	return yes
}

// greater goes to yes if c's argument is greater than c's value, or with opJumpGE equal to it, in the bits of c's mask:
// all or, on 32-bit ABIs, the low half.
func (a *assembler) greater(op uint16, c cond, yes, no label) label {
	a.jump(op, uint32(c.value), yes, no)
	low := a.load(lowHalf(c.arg))
	if c.mask>>32 == 0 {
		return low
	}
	same := a.jump(opJumpEQ, uint32(c.value>>32), low, no)
	a.jump(opJumpGT, uint32(c.value>>32), yes, same)
	return a.load(highHalf(c.arg))
}

// loadMasked loads a word and clears the bits outside of mask.
func (a *assembler) loadMasked(offset, mask uint32) label {
	if mask != 0xffffffff {
		a.and(mask)
	}
	return a.load(offset)
}

func lowHalf(arg uint8) uint32 { return offsetArgs + 8*uint32(arg) }

func highHalf(arg uint8) uint32 { return lowHalf(arg) + 4 }
