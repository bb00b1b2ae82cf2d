package seccomp

import (
	"cmp"
	"fmt"
	"slices"
)

// section is what a filter does for the system calls of one audit architecture. Every number has a verdict: spans are
// sorted, and each goes up to the next one's first.
type section struct {
	audit uint32
	spans []span
}

type span struct {
	first   uint32
	verdict verdict
}

// verdict is what becomes of a system call: the first alternative that matches decides, else ret.
type verdict struct {
	ret          uint32
	alternatives []alternative
}

// alternative is one way for a call to match: all conds hold.
type alternative struct {
	ret   uint32
	conds []cond
	entry int // index in linux.seccomp.syscalls, for messages
}

// add appends a span, or nothing if its verdict is that of the span before.
func (s *section) add(first uint32, v verdict) {
	if n := len(s.spans); n > 0 && sameVerdict(s.spans[n-1].verdict, v) {
		return
	}
	s.spans = append(s.spans, span{first, v})
}

func sameVerdict(a, b verdict) bool {
	return a.ret == b.ret && slices.EqualFunc(a.alternatives, b.alternatives, func(x, y alternative) bool {
		return x.ret == y.ret && slices.Equal(x.conds, y.conds)
	})
}

// section returns the section of the ABIs of one audit architecture, in the order of their numbers.
func (p *profile) section(group []abi) (section, error) {
	s := section{audit: abis[group[0]].audit}
	for _, a := range group {
		if err := p.addABI(&s, a); err != nil {
			return section{}, err
		}
	}
	if group[len(group)-1] == abiAMD64 {
		// x32 is not in the profile: the same as for an architecture that is not. A tracer makes a system call's number -1
		// to have it skipped; that is no x32 call (seccomp(2), "PTRACE_O_TRACESECCOMP").
		s.add(x32Bit, verdict{ret: retKillThread})
		s.add(^uint32(0), verdict{ret: p.defaultRet})
	}
	return s, nil
}

// addABI appends the spans of one ABI.
func (p *profile) addABI(s *section, a abi) error {
	calls, newest := p.calls(a)
	next := abis[a].offset // the first number that has no verdict yet
	for len(calls) > 0 {
		nr := calls[0].nr
		n := 1
		for n < len(calls) && calls[n].nr == nr {
			n++
		}
		v, err := p.decide(calls[:n], abis[a].is32)
		if err != nil {
			return err
		}
		if next < nr {
			p.addUnnamed(s, a, next, nr, newest)
		}
		s.add(nr, v)
		next = nr + 1
		calls = calls[n:]
	}
	p.addUnnamed(s, a, next, ^uint32(0), newest)
	return nil
}

// addUnnamed appends the spans from first up to before end, whose numbers the profile does not name.
func (p *profile) addUnnamed(s *section, a abi, first, end, newest uint32) {
	unnamed := verdict{ret: p.defaultRet}
	if newest == 0 || !p.refuses() {
		s.add(first, unnamed)
		return
	}
	unknown, unknownEnd := max(first, newest+1), end
	if a == abiARM {
		unknownEnd = min(end, armPrivate)
	}
	if first <= newest {
		s.add(first, unnamed)
	}
	if unknown < unknownEnd {
		s.add(unknown, verdict{ret: retErrno | enosys})
	}
	if unknownEnd < end {
		s.add(max(first, unknownEnd), unnamed)
	}
}

// refuses tells whether the default action is a refusal. TRACE is not: the tracer answers for unknown calls itself.
func (p *profile) refuses() bool {
	switch p.defaultRet &^ 0xffff {
	case retAllow, retLog, retTrace:
		return false
	}
	return true
}

// call is a rule at one number of an ABI.
type call struct {
	nr   uint32
	rule uint32 // index in profile.rules
	sub  uint32 // with i386's socketcall or ipc, the sub-call that the rule is on; 0 if it is on the number itself
}

// order is by number, then as in the profile.
func (c call) order() uint64 { return uint64(c.nr)<<32 | uint64(c.rule) }

// calls returns what the rules say in an ABI, sorted by number and then in the profile's order, and the largest number
// that the profile names, 0 also if it names none.
func (p *profile) calls(a abi) (calls []call, newest uint32) {
	calls = make([]call, 0, len(p.rules))
	for i, r := range p.rules {
		nr := syscallNumbers[r.row][a]
		if nr == absent {
			continue
		}
		if nr != multiplexed {
			nr := uint32(nr) + abis[a].offset
			if a != abiARM || nr < armPrivate {
				newest = max(newest, nr)
			}
			if r.ret != p.defaultRet {
				calls = append(calls, call{nr, uint32(i), 0})
			}
		}
		if a != abiI386 {
			continue
		}
		if nr, sub := multiplexer(syscallName(r.row)); sub != 0 {
			newest = max(newest, nr)
			if r.ret != p.defaultRet {
				calls = append(calls, call{nr, uint32(i), sub})
			}
		}
	}
	slices.SortFunc(calls, func(x, y call) int { return cmp.Compare(x.order(), y.order()) })
	return calls, newest
}

// decide returns the verdict of the rules on one number.
func (p *profile) decide(calls []call, is32 bool) (verdict, error) {
	first := p.rules[calls[0].rule]
	if len(calls) == 1 && len(first.conds) == 0 && calls[0].sub == 0 {
		return verdict{ret: first.ret}, nil
	}
	all := make([]alternative, 0, len(calls))
	for _, c := range calls {
		r := p.rules[c.rule]
		all = append(all, alternative{r.ret, narrow(c.conds(r), is32), r.entry})
	}
	slices.SortStableFunc(all, func(x, y alternative) int { return compareConds(x.conds, y.conds) })
	kept := all[:0]
	for _, alt := range all {
		i := slices.IndexFunc(kept, func(k alternative) bool { return implies(alt.conds, k.conds) })
		switch {
		case i < 0:
			kept = append(kept, alt)
		case kept[i].ret == alt.ret:
			// Says nothing new.
		case len(alt.conds) == 0 || len(alt.conds) > len(kept[i].conds):
			p.warn("linux.seccomp.syscalls[%d]: no effect on %s: linux.seccomp.syscalls[%d] comes first",
				alt.entry, syscallName(first.row), kept[i].entry)
		default:
			return verdict{}, fmt.Errorf("linux.seccomp.syscalls[%d]: contradicts linux.seccomp.syscalls[%d] on %s: the same conditions, another action",
				max(alt.entry, kept[i].entry), min(alt.entry, kept[i].entry), syscallName(first.row))
		}
	}
	if len(kept[0].conds) == 0 {
		return verdict{ret: kept[0].ret}, nil
	}
	return verdict{ret: p.defaultRet, alternatives: kept}, nil
}

// conds returns the conditions of the rule r at the call's number. A sub-call takes the place of the first argument; the
// conditions on the others stay as they are, as in libseccomp.
func (c call) conds(r rule) []cond {
	if c.sub == 0 {
		return r.conds
	}
	conds := []cond{{arg: 0, op: opEQ, mask: allBits, value: uint64(c.sub)}}
	for _, other := range r.conds {
		if other.arg != 0 {
			conds = append(conds, other)
		}
	}
	return conds
}

// implies tells whether whenever all of conds hold, all of weaker do: they are among them.
func implies(conds, weaker []cond) bool {
	for _, w := range weaker {
		if !slices.Contains(conds, w) {
			return false
		}
	}
	return true
}

// warn adds a warning, once: the ABIs of a machine repeat them.
func (p *profile) warn(format string, args ...any) {
	w := fmt.Sprintf(format, args...)
	if !slices.Contains(p.warnings, w) {
		p.warnings = append(p.warnings, w)
	}
}
