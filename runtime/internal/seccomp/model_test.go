package seccomp

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// model answers for a profile by reading it rule by rule, without a program. It shares the tables of names with the
// compiler; TestTablesAgainstRunc checks those.
type model struct {
	profile *specs.LinuxSeccomp
	machine Arch
	rules   map[modelKey][]modelRule
	newest  map[abi]int64
}

type modelKey struct {
	abi abi
	nr  uint32 // without x32's bit
}

type modelRule struct {
	ret  uint32
	args []specs.LinuxSeccompArg
}

func newModel(p *specs.LinuxSeccomp, machine Arch) *model {
	m := &model{profile: p, machine: machine, rules: map[modelKey][]modelRule{}, newest: map[abi]int64{}}
	for a := range numABIs {
		m.newest[a] = -1
	}
	for _, s := range p.Syscalls {
		ret := modelAction(s.Action, s.ErrnoRet)
		for _, name := range s.Names {
			row, ok := lookup(name)
			if !ok {
				continue
			}
			for a := range numABIs {
				nr := syscallNumbers[row][a]
				if nr >= 0 {
					if nr < armPrivate {
						m.newest[a] = max(m.newest[a], int64(nr))
					}
					m.add(modelKey{a, uint32(nr)}, ret, s.Args)
				}
				if a == abiI386 {
					m.addMultiplexed(name, ret, s.Args)
				}
			}
		}
	}
	return m
}

func (m *model) addMultiplexed(name string, ret uint32, args []specs.LinuxSeccompArg) {
	for nr, subs := range map[uint32][]string{i386SocketCall: socketCalls[:], i386IPC: ipcCalls[:]} {
		sub := slices.Index(subs, name)
		if sub < 0 {
			continue
		}
		m.newest[abiI386] = max(m.newest[abiI386], int64(nr))
		for _, set := range modelSets(args) {
			set = slices.DeleteFunc(slices.Clone(set), func(a specs.LinuxSeccompArg) bool { return a.Index == 0 })
			set = append(set, specs.LinuxSeccompArg{Index: 0, Op: specs.OpEqualTo, Value: uint64(sub)})
			m.add(modelKey{abiI386, nr}, ret, set)
		}
	}
}

func (m *model) add(key modelKey, ret uint32, args []specs.LinuxSeccompArg) {
	if ret == m.defaultRet() {
		return
	}
	for _, set := range modelSets(args) {
		m.rules[key] = append(m.rules[key], modelRule{ret, set})
	}
}

func (m *model) defaultRet() uint32 {
	return modelAction(m.profile.DefaultAction, m.profile.DefaultErrnoRet)
}

// modelSets splits args if two are on the same argument.
func modelSets(args []specs.LinuxSeccompArg) [][]specs.LinuxSeccompArg {
	seen := map[uint]bool{}
	for _, a := range args {
		seen[a.Index] = true
	}
	if len(seen) == len(args) {
		return [][]specs.LinuxSeccompArg{args}
	}
	var sets [][]specs.LinuxSeccompArg
	for _, a := range args {
		sets = append(sets, []specs.LinuxSeccompArg{a})
	}
	return sets
}

func modelAction(a specs.LinuxSeccompAction, errno *uint) uint32 {
	data := uint32(1)
	if errno != nil {
		data = uint32(*errno)
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return 0
	case specs.ActKillProcess:
		return 0x80000000
	case specs.ActTrap:
		return 0x30000
	case specs.ActErrno:
		return 0x50000 | data
	case specs.ActTrace:
		return 0x7ff00000 | data
	case specs.ActLog:
		return 0x7ffc0000
	case specs.ActAllow:
		return 0x7fff0000
	case specs.ActNotify:
		return 0x7fc00000
	}
	panic("unknown action " + a)
}

// ret is what the filter of the profile should answer.
func (m *model) ret(d Data) uint32 {
	a, nr, ok := m.abi(d)
	if !ok {
		if d.Arch == abis[abiAMD64].audit && d.Nr == ^uint32(0) && m.machine == AMD64 {
			return m.defaultRet()
		}
		return 0 // SECCOMP_RET_KILL_THREAD
	}
	var best *modelRule
	for i, r := range m.rules[modelKey{a, nr}] {
		if r.matches(d.Args, abis[a].is32) && (best == nil || r.before(*best, abis[a].is32)) {
			best = &m.rules[modelKey{a, nr}][i]
		}
	}
	if best != nil {
		return best.ret
	}
	permissive := slices.Contains([]specs.LinuxSeccompAction{specs.ActAllow, specs.ActLog, specs.ActTrace}, m.profile.DefaultAction)
	private := a == abiARM && nr >= armPrivate
	if newest := m.newest[a]; (newest > 0 || newest == 0 && a == abiX32) && int64(nr) > newest && !permissive && !private {
		return 0x50000 | 38
	}
	return m.defaultRet()
}

// abi finds out whose call it is, and whether the profile covers it.
func (m *model) abi(d Data) (a abi, nr uint32, ok bool) {
	native := abiAMD64
	if m.machine == ARM64 {
		native = abiARM64
	}
	a, nr = numABIs, d.Nr
	switch {
	case d.Arch == 0xc000003e && d.Nr&(1<<30) == 0 && d.Nr < 1<<30 && m.machine == AMD64:
		a = abiAMD64
	case d.Arch == 0xc000003e && m.machine == AMD64:
		a, nr = abiX32, d.Nr-1<<30
	case d.Arch == 0x40000003 && m.machine == AMD64:
		a = abiI386
	case d.Arch == 0xc00000b7 && m.machine == ARM64:
		a = abiARM64
	case d.Arch == 0x40000028 && m.machine == ARM64:
		a = abiARM
	default:
		return a, nr, false
	}
	return a, nr, a == native || slices.Contains(m.profile.Architectures, abis[a].arch)
}

func (r modelRule) matches(args [6]uint64, is32 bool) bool {
	for _, a := range r.args {
		x, v, w := args[a.Index], a.Value, a.ValueTwo
		if is32 {
			x, v, w = x&0xffffffff, v&0xffffffff, w&0xffffffff
		}
		var holds bool
		switch a.Op {
		case specs.OpEqualTo:
			holds = x == v
		case specs.OpNotEqual:
			holds = x != v
		case specs.OpLessThan:
			holds = x < v
		case specs.OpLessEqual:
			holds = x <= v
		case specs.OpGreaterThan:
			holds = x > v
		case specs.OpGreaterEqual:
			holds = x >= v
		case specs.OpMaskedEqual:
			holds = x&v == w&v
		}
		if !holds {
			return false
		}
	}
	return true
}

// before tells whether r is asked before s, which comes earlier in the profile.
func (r modelRule) before(s modelRule, is32 bool) bool {
	return slices.Compare(r.rank(is32), s.rank(is32)) < 0
}

// rank is three numbers for every condition, in the order of the arguments; the rule with the smaller one goes first.
func (r modelRule) rank(is32 bool) []uint64 {
	var rank []uint64
	args := slices.Clone(r.args)
	slices.SortFunc(args, func(a, b specs.LinuxSeccompArg) int { return int(a.Index) - int(b.Index) })
	for _, a := range args {
		v, w := a.Value, a.ValueTwo
		if is32 {
			v, w = v&0xffffffff, w&0xffffffff
		}
		switch a.Op {
		case specs.OpLessThan, specs.OpLessEqual:
			rank = append(rank, uint64(5-a.Index), 1, v)
		case specs.OpGreaterThan, specs.OpGreaterEqual:
			rank = append(rank, uint64(5-a.Index), 2, ^v)
		case specs.OpMaskedEqual:
			if v != 0 {
				rank = append(rank, uint64(5-a.Index), 0, ^(v & w))
			}
		default:
			rank = append(rank, uint64(5-a.Index), 0, ^v)
		}
	}
	return rank
}

// edges are the argument values at which a profile's conditions may change their mind.
func edges(p *specs.LinuxSeccomp) []uint64 {
	values := []uint64{0, 1, 2, allBits, 1 << 31, 1<<31 - 1, 1 << 32, 1<<32 - 1, 1 << 63, 1<<63 - 1, 0xdeadbeefcafebabe}
	for _, s := range p.Syscalls {
		for _, a := range s.Args {
			for _, v := range []uint64{a.Value, a.ValueTwo, a.Value & a.ValueTwo, a.ValueTwo | ^a.Value} {
				values = append(values, v-1, v, v+1, ^v, v^1<<32, v^1<<63, v&0xffffffff, v>>32<<32, v<<32|v>>32)
			}
		}
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// calls yields system calls that try every corner of p on a machine: all numbers up to 600 and some beyond, of every ABI
// and of foreign ones; those with conditions with edge values in every argument and with random combinations of them.
func calls(p *specs.LinuxSeccomp, machine Arch, yield func(Data) bool) {
	audits := []uint32{0xc000003e, 0x40000003}
	if machine == ARM64 {
		audits = []uint32{0xc00000b7, 0x40000028}
	}
	conditional := map[uint32]bool{}
	for _, s := range p.Syscalls {
		if len(s.Args) == 0 {
			continue
		}
		conditional[i386SocketCall], conditional[i386IPC] = true, true
		for _, name := range s.Names {
			if row, ok := lookup(name); ok {
				for a := range numABIs {
					conditional[uint32(syscallNumbers[row][a])] = true
				}
			}
		}
	}
	var numbers []uint32
	for nr := range uint32(601) {
		numbers = append(numbers, nr, nr|1<<30)
	}
	numbers = append(numbers, 0xeffff, 0xf0000, 0xf0001, 0xf0002, 0xf0005, 0xf0006, 0xf0007, 1<<30-1, 1<<31-1, 1<<31, 1<<31+1, 3<<30, 0xfffffffe, 0xffffffff)
	values := edges(p)
	for _, audit := range audits {
		for _, nr := range numbers {
			d := Data{Nr: nr, Arch: audit}
			if !yield(d) || conditional[nr&^(1<<30)] && !arguments(d, values, yield) {
				return
			}
		}
	}
	for _, audit := range []uint32{0, 0xffffffff, 0xc000003e, 0x40000003, 0xc00000b7, 0x40000028, 0x80000016, 0xc00000f3} {
		for _, nr := range []uint32{0, 1, 59, 1 << 30, 0xffffffff} {
			if !yield(Data{Nr: nr, Arch: audit}) {
				return
			}
		}
	}
}

// arguments yields d with every one of values in each of its arguments, and with random combinations of them. Of very
// many values it takes some.
func arguments(d Data, values []uint64, yield func(Data) bool) bool {
	random := rand.New(rand.NewPCG(1, uint64(d.Nr)))
	for i := range d.Args {
		for j := range min(len(values), 200) {
			d.Args[i] = values[j]
			if len(values) > 200 {
				d.Args[i] = values[random.IntN(len(values))]
			}
			if !yield(d) {
				return false
			}
		}
		d.Args[i] = 0
	}
	for range 200 {
		for i := range d.Args {
			d.Args[i] = values[random.IntN(len(values))]
		}
		if !yield(d) {
			return false
		}
	}
	return true
}

// mustCompile compiles p and fails the test if that does not work.
func mustCompile(t testing.TB, p *specs.LinuxSeccomp, machine Arch) *Filter {
	t.Helper()
	f, err := Compile(p, Options{Arch: machine, SupportedFlags: ^uint32(0)})
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return f
}

// sameAnswers checks a program against want for all of calls.
func sameAnswers(t testing.TB, p *specs.LinuxSeccomp, machine Arch, insns []Insn, want func(Data) uint32) {
	t.Helper()
	wrong := 0
	for d := range func(yield func(Data) bool) { calls(p, machine, yield) } {
		got, err := Eval(insns, d)
		if err != nil {
			t.Fatalf("Eval(%+v): %v", d, err)
		}
		if w := want(d); got != w {
			t.Errorf("arch %#x nr %#x args %#x: %#x, want %#x", d.Arch, d.Nr, d.Args, got, w)
			if wrong++; wrong > 5 {
				t.FailNow()
			}
		}
	}
}

// readProfile reads a profile from testdata.
func readProfile(t testing.TB, name string) *specs.LinuxSeccomp {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return parseJSON(t, string(data))
}

func parseJSON(t testing.TB, text string) *specs.LinuxSeccomp {
	t.Helper()
	var p specs.LinuxSeccomp
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

// forARM64 returns a profile of amd64 as its makers would write it on arm64.
func forARM64(p *specs.LinuxSeccomp) *specs.LinuxSeccomp {
	q := *p
	q.Architectures = []specs.Arch{specs.ArchARM, specs.ArchAARCH64}
	q.Syscalls = append(slices.Clone(p.Syscalls), specs.LinuxSyscall{
		Names:  []string{"arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"},
		Action: specs.ActAllow,
	})
	return &q
}
