package seccomp

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// chooser makes decisions out of bytes; when they are used up, it takes the first choice.
type chooser struct{ data []byte }

func (c *chooser) below(n int) int {
	if len(c.data) == 0 {
		return 0
	}
	b := c.data[0]
	c.data = c.data[1:]
	return int(b) % n
}

func pick[T any](c *chooser, from ...T) T { return from[c.below(len(from))] }

// value returns a number that is likely to be next to, or a part of, another one.
func (c *chooser) value() uint64 {
	v := pick[uint64](c, 0, 1, 5, 6, 0x7f, 0xff, 0xffffffff, 1<<31, 1<<32, 1<<32|5, 5<<32, 1<<63, allBits, 0xffffffff00000000)
	return v + pick[uint64](c, 0, 0, 0, 1, 2, allBits)
}

// randomProfile makes a valid profile with many rules on few system calls.
func randomProfile(data []byte) *specs.LinuxSeccomp {
	c := &chooser{data}
	p := &specs.LinuxSeccomp{
		DefaultAction: pick(c, specs.ActErrno, specs.ActAllow, specs.ActKill, specs.ActKillProcess, specs.ActTrap, specs.ActLog, specs.ActTrace),
		ListenerPath:  "/run/agent",
	}
	for _, a := range []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM} {
		if c.below(4) != 0 {
			p.Architectures = append(p.Architectures, a)
		}
	}
	oneAction := c.below(3) == 0 // without conflicts between rules
	action := pick(c, specs.ActAllow, specs.ActErrno, specs.ActTrap)
	for len(c.data) > 0 && len(p.Syscalls) < 12 {
		s := specs.LinuxSyscall{Action: action}
		if !oneAction {
			s.Action = pick(c, specs.ActAllow, specs.ActErrno, specs.ActTrap, specs.ActKill, specs.ActNotify, specs.ActTrace, specs.ActKillProcess, specs.ActLog)
		}
		if s.Action == specs.ActErrno || s.Action == specs.ActTrace {
			errno := uint(pick(c, 1, 2, 38))
			s.ErrnoRet = &errno
		}
		for range 1 + c.below(2) {
			s.Names = append(s.Names, pick(c, "read", "close", "clone", "ioctl", "socket", "socketpair", "accept", "recvmmsg",
				"semop", "shmat", "waitpid", "futex", "io_setup", "set_tls", "futex_waitv", syscallName(c.below(256)), syscallName(256+c.below(256))))
		}
		if c.below(4) != 0 {
			for range 1 + c.below(3) {
				s.Args = append(s.Args, specs.LinuxSeccompArg{
					Index:    uint(pick(c, 0, 1, 0, 1, 2, 5)),
					Value:    c.value(),
					ValueTwo: c.value(),
					Op:       pick(c, specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual),
				})
			}
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	return p
}

// contradicts tells whether Compile may refuse p: two of its rules have the same action but for the conditions.
func contradicts(p *specs.LinuxSeccomp) bool {
	m := newModel(p, AMD64)
	for key, rules := range m.rules {
		for i, r := range rules {
			if slices.ContainsFunc(rules[:i], func(s modelRule) bool {
				return r.ret != s.ret && len(r.args) > 0 && slices.Equal(r.rank(abis[key.abi].is32), s.rank(abis[key.abi].is32))
			}) {
				return true
			}
		}
	}
	return false
}

func FuzzCompile(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("a few rules of no particular sort, but more than one of them for the same call"))
	random := rand.New(rand.NewPCG(5, 6))
	for range 40 {
		f.Add(randomBytes(random))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := randomProfile(data)
		for _, machine := range []Arch{AMD64, ARM64} {
			filter, err := Compile(p, Options{Arch: machine})
			if err != nil {
				if !contradicts(p) {
					t.Fatalf("Compile: %v", err)
				}
				continue
			}
			sameAnswers(t, p, machine, filter.Insns, newModel(p, machine).ret)
		}
	})
}

func randomBytes(random *rand.Rand) []byte {
	data := make([]byte, random.IntN(200))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}
