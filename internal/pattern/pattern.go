// Package pattern matches container ids with extended regular expressions, regex(7). Package regexp does that and far more, but whoever links it
// has unicode's tables made at each start of the program, which is 4 % of the time that `gosudacon --version` takes.
package pattern

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Pattern is a compiled expression. It may be used concurrently.
type Pattern struct{ prog []inst }

// inst is an instruction of a machine that is in several places of its program at once, and so needs one pass over its text.
type inst struct {
	op   op
	next int // opSplit and opJump: where to go on, by number
	set  set // opByte
}

type op uint8

const (
	opByte  op = iota // one byte of set
	opSplit           // goes on behind, and at next
	opJump            // goes on at next
	opBegin           // the text's begin
	opEnd             // the text's end
	opMatch
)

// set is a set of bytes.
type set [4]uint64

func (s *set) add(from, to byte) {
	for b := int(from); b <= int(to); b++ {
		s[b/64] |= 1 << (b % 64)
	}
}

func (s *set) unite(other set) {
	for i := range s {
		s[i] |= other[i]
	}
}

func (s *set) has(b byte) bool { return s[b/64]>>(b%64)&1 == 1 }

func (s *set) invert() {
	for i := range s {
		s[i] = ^s[i]
	}
}

// Bounds of an expression, so that none takes long to compile or to match.
const (
	maxRepeat = 1000
	maxProg   = 10_000
)

var errSize = errors.New("the expression is too large")

// Compile reads an expression: literals, ., [...] with classes such as [:digit:], ^, $, groups, |, and *, +, ?, {n}, {n,} and {n,m}; of what
// package regexp has beyond those, \d, \s, \w, their opposites, and (?:...). Its error says what is wrong with the expression.
func Compile(expr string) (*Pattern, error) {
	p := parser{rest: expr}
	prog, err := p.alternatives(0)
	if err == nil && p.rest != "" {
		err = errors.New("unexpected )")
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", expr, err)
	}
	return &Pattern{append(prog, inst{op: opMatch})}, nil
}

// Match reports whether the expression matches all of a text.
func (p *Pattern) Match(text string) bool {
	now, next := newPlaces(len(p.prog)), newPlaces(len(p.prog))
	now.add(p.prog, 0, 0, len(text))
	for i := range len(text) {
		for _, pc := range now.list {
			if in := &p.prog[pc]; in.op == opByte && in.set.has(text[i]) {
				next.add(p.prog, pc+1, i+1, len(text))
			}
		}
		now, next = next, now
		next.clear()
	}
	for _, pc := range now.list {
		if p.prog[pc].op == opMatch {
			return true
		}
	}
	return false
}

// places are the instructions that the machine is at.
type places struct {
	list []int
	at   []bool
}

func newPlaces(n int) *places { return &places{at: make([]bool, n)} }

func (s *places) clear() {
	s.list = s.list[:0]
	clear(s.at)
}

// add puts the machine at pc, and wherever it comes to from there without another byte, before byte i of n.
func (s *places) add(prog []inst, pc, i, n int) {
	for !s.at[pc] {
		s.at[pc] = true
		switch in := &prog[pc]; {
		case in.op == opByte || in.op == opMatch:
			s.list = append(s.list, pc)
			return
		case in.op == opSplit:
			s.add(prog, in.next, i, n)
			pc++
		case in.op == opJump:
			pc = in.next
		case in.op == opBegin && i == 0, in.op == opEnd && i == n:
			pc++
		default:
			return
		}
	}
}

// parser reads an expression from its begin. Programs that it returns have the numbers of instructions relative to themselves, until they are put
// behind others by join.
type parser struct{ rest string }

// join returns a program with others behind it.
func join(prog []inst, others ...[]inst) []inst {
	for _, o := range others {
		base := len(prog)
		for _, in := range o {
			in.next += base
			prog = append(prog, in)
		}
	}
	return prog
}

// take reads s if that comes next.
func (p *parser) take(s string) (ok bool) {
	p.rest, ok = strings.CutPrefix(p.rest, s)
	return ok
}

func (p *parser) alternatives(depth int) ([]inst, error) {
	prog, err := p.sequence(depth)
	for err == nil && p.take("|") {
		var other []inst
		if other, err = p.sequence(depth); err == nil {
			first := []inst{{op: opSplit, next: len(prog) + 2}}
			prog = join(join(first, prog, []inst{{op: opJump, next: len(other) + 1}}), other)
		}
		if len(prog) > maxProg {
			return nil, errSize
		}
	}
	return prog, err
}

func (p *parser) sequence(depth int) (prog []inst, err error) {
	for p.rest != "" && p.rest[0] != '|' && p.rest[0] != ')' {
		one, err := p.atom(depth)
		for err == nil && p.rest != "" && strings.IndexByte("*+?{", p.rest[0]) >= 0 {
			one, err = p.repeated(one)
		}
		if err != nil {
			return nil, err
		}
		if prog = join(prog, one); len(prog) > maxProg {
			return nil, errSize
		}
	}
	return prog, nil
}

// repeated reads how often one comes.
func (p *parser) repeated(one []inst) ([]inst, error) {
	least, most := 0, -1 // -1: any number
	switch {
	case p.take("*"):
	case p.take("+"):
		least = 1
	case p.take("?"):
		most = 1
	default:
		bounds, rest, ok := strings.Cut(p.rest[1:], "}")
		low, high, isRange := strings.Cut(bounds, ",")
		var err, herr error
		if least, err = strconv.Atoi(low); !isRange {
			most = least
		} else if high != "" {
			most, herr = strconv.Atoi(high)
		}
		if !ok || err != nil || herr != nil || least < 0 || most >= 0 && most < least || max(least, most) > maxRepeat {
			return nil, fmt.Errorf("{%s is no number of repetitions from 0 to %d", p.rest[1:], maxRepeat)
		}
		p.rest = rest
	}
	p.take("?") // for as few as match, which makes no difference for all of a text
	if (max(least, most)+1)*(len(one)+2) > maxProg {
		return nil, errSize
	}
	var prog []inst
	for range least {
		prog = join(prog, one)
	}
	if most < 0 {
		return join(prog, join([]inst{{op: opSplit, next: len(one) + 2}}, one, []inst{{op: opJump, next: -len(one) - 1}})), nil
	}
	for range most - least {
		prog = join(prog, join([]inst{{op: opSplit, next: len(one) + 1}}, one))
	}
	return prog, nil
}

// maxDepth bounds how deep groups are in each other.
const maxDepth = 100

func (p *parser) atom(depth int) ([]inst, error) {
	c := p.rest[0]
	p.rest = p.rest[1:]
	in := inst{op: opByte}
	switch c {
	case '(':
		p.take("?:")
		if depth == maxDepth {
			return nil, errSize
		}
		prog, err := p.alternatives(depth + 1)
		if err == nil && !p.take(")") {
			err = errors.New("missing )")
		}
		return prog, err
	case '*', '+', '?', '{':
		return nil, fmt.Errorf("nothing that %c repeats", c)
	case '^':
		in.op = opBegin
	case '$':
		in.op = opEnd
	case '.':
		in.set.invert()
	case '[':
		return p.class()
	case '\\':
		if p.rest == "" {
			return nil, errors.New("nothing behind \\")
		}
		var err error
		if in.set, err = escaped(p.rest[0]); err != nil {
			return nil, err
		}
		p.rest = p.rest[1:]
	default:
		in.set.add(c, c)
	}
	return []inst{in}, nil
}

// escaped returns what a backslash before c stands for.
func escaped(c byte) (s set, err error) {
	switch c | 0x20 {
	case 'd':
		s = named("digit")
	case 's':
		s = named("space")
	case 'w':
		s = named("alnum")
		s.add('_', '_')
	default:
		if a := named("alnum"); a.has(c) {
			return s, fmt.Errorf("unknown \\%c", c)
		}
		s.add(c, c)
		return s, nil
	}
	if c < 'a' {
		s.invert()
	}
	return s, nil
}

// named returns a class of characters by its name; an empty one is unknown.
func named(name string) (s set) {
	switch name {
	case "digit":
		s.add('0', '9')
	case "lower":
		s.add('a', 'z')
	case "upper":
		s.add('A', 'Z')
	case "alpha":
		s.add('a', 'z')
		s.add('A', 'Z')
	case "alnum":
		s = named("alpha")
		s.add('0', '9')
	case "xdigit":
		s.add('0', '9')
		s.add('a', 'f')
		s.add('A', 'F')
	case "space":
		s.add('\t', '\r')
		s.add(' ', ' ')
	case "blank":
		s.add('\t', '\t')
		s.add(' ', ' ')
	case "punct":
		s.add('!', '/')
		s.add(':', '@')
		s.add('[', '`')
		s.add('{', '~')
	case "print":
		s.add(' ', '~')
	case "graph":
		s.add('!', '~')
	case "cntrl":
		s.add(0, 31)
		s.add(127, 127)
	}
	return s
}

// class reads what is between brackets.
func (p *parser) class() ([]inst, error) {
	in := inst{op: opByte}
	not := p.take("^")
	for first := true; ; first = false {
		switch {
		case p.rest == "":
			return nil, errors.New("missing ]")
		case !first && p.take("]"):
			if not {
				in.set.invert()
			}
			return []inst{in}, nil
		case p.take("[:"):
			name, rest, ok := strings.Cut(p.rest, ":]")
			s := named(name)
			if !ok || s == (set{}) {
				return nil, fmt.Errorf("unknown class [:%s", p.rest)
			}
			p.rest = rest
			in.set.unite(s)
		default:
			from, s, err := p.member()
			if err != nil {
				return nil, err
			}
			in.set.unite(s)
			if len(p.rest) < 2 || p.rest[0] != '-' || p.rest[1] == ']' {
				continue
			}
			p.rest = p.rest[1:]
			to, _, err := p.member()
			if err != nil {
				return nil, err
			}
			if from < 0 || to < from {
				return nil, errors.New("a range in [] that ends before it begins")
			}
			in.set.add(byte(from), byte(to))
		}
	}
}

// member reads a character of a class, -1 for \d and its like, and the set that it stands for.
func (p *parser) member() (c int, s set, err error) {
	c = int(p.rest[0])
	p.rest = p.rest[1:]
	if c != '\\' || p.rest == "" {
		s.add(byte(c), byte(c))
		return c, s, nil
	}
	c = int(p.rest[0])
	p.rest = p.rest[1:]
	s, err = escaped(byte(c))
	var only set
	if only.add(byte(c), byte(c)); s != only {
		c = -1
	}
	return c, s, err
}
