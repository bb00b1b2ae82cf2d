package seccomp

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// runc is the program of e2e/seccomp: runc's and libseccomp's own code up to the system call that installs a filter.
type runc struct {
	enc *json.Encoder
	dec *json.Decoder
}

type runcAnswer struct {
	BPF     []byte
	Flags   uint32
	Error   string
	Unknown []string
}

// startRunc builds and starts the program; it ends with the test.
func startRunc(t testing.TB) *runc {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("libseccomp's programs for both machines are compared on amd64")
	}
	const need = "the comparison needs Debian's gcc, pkg-config and libseccomp-dev, which make test-unit installs"
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Fatalf("%s: %v", need, err)
	}
	if err := exec.Command("pkg-config", "--exists", "libseccomp").Run(); err != nil {
		t.Fatalf("%s: libseccomp: %v", need, err)
	}
	path := filepath.Join(t.TempDir(), "seccomp")
	build := exec.Command("go", "build", "-tags", "seccomp", "-o", path, ".")
	build.Dir = filepath.Join("..", "..", "..", "e2e", "seccomp")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build e2e/seccomp: %v\n%s", err, out)
	}
	cmd := exec.Command(path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("e2e/seccomp: %v", err)
		}
	})
	return &runc{json.NewEncoder(in), json.NewDecoder(out)}
}

// compile returns what runc makes of p.
func (r *runc) compile(t testing.TB, p *specs.LinuxSeccomp) runcAnswer {
	t.Helper()
	var a runcAnswer
	if err := r.enc.Encode(p); err != nil {
		t.Fatal(err)
	}
	if err := r.dec.Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a
}

// program returns an answer's instructions.
func (a runcAnswer) program() []Insn {
	var insns []Insn
	for b := a.BPF; len(b) > 0; b = b[insnSize:] {
		insns = append(insns, Insn{binary.LittleEndian.Uint16(b), b[2], b[3], binary.LittleEndian.Uint32(b[4:])})
	}
	return insns
}

// knownTo returns p without the system calls that runc's libseccomp is too old for, and runc's answer for that.
func (r *runc) knownTo(t testing.TB, p *specs.LinuxSeccomp) (*specs.LinuxSeccomp, runcAnswer) {
	t.Helper()
	a := r.compile(t, p)
	if len(a.Unknown) == 0 {
		return p, a
	}
	q := *p
	q.Syscalls = nil
	for _, s := range p.Syscalls {
		s.Names = slices.DeleteFunc(slices.Clone(s.Names), func(name string) bool { return slices.Contains(a.Unknown, name) })
		if len(s.Names) > 0 {
			q.Syscalls = append(q.Syscalls, s)
		}
	}
	return &q, r.compile(t, &q)
}

func TestAgainstRunc(t *testing.T) {
	r := startRunc(t)
	profiles(t, func(t *testing.T, p *specs.LinuxSeccomp, machine Arch) {
		if machine == ARM64 && !slices.Contains(p.Architectures, specs.ArchAARCH64) {
			p.Architectures = append(p.Architectures, specs.ArchAARCH64) // native there, but this runc is of amd64
		}
		p, theirs := r.knownTo(t, p)
		if theirs.Error != "" {
			t.Fatalf("runc: %s", theirs.Error)
		}
		f := mustCompile(t, p, machine)
		if f.Flags != theirs.Flags {
			t.Errorf("flags %#x, want %#x", f.Flags, theirs.Flags)
		}
		t.Logf("%d instructions, runc %d", len(f.Insns), len(theirs.program()))
		sameAsRunc(t, p, machine, f.Insns, theirs.program())
	})
}

// sameAsRunc compares two programs except where they differ on purpose.
func sameAsRunc(t *testing.T, p *specs.LinuxSeccomp, machine Arch, ours, theirs []Insn) {
	t.Helper()
	m := newModel(p, machine)
	sameAnswers(t, p, machine, ours, func(d Data) uint32 {
		program := theirs
		if m.differsOnPurpose(d) {
			program = ours
		}
		ret, err := Eval(program, d)
		if err != nil {
			t.Fatal(err)
		}
		return ret
	})
}

// differsOnPurpose tells whether runc's answer to d need not be ours.
func (m *model) differsOnPurpose(d Data) bool {
	foreign := !slices.ContainsFunc(machines[m.machine], func(group []abi) bool { return abis[group[0]].audit == d.Arch })
	switch {
	case foreign:
		return true // runc lets a profile allow the calls of other machines, which cannot happen
	case d.Arch == abis[abiAMD64].audit && d.Nr>>30 == 2:
		return true // not x32's, says runc's ENOSYS stub; x32's, says libseccomp
	case d.Arch == abis[abiARM].audit && int64(d.Nr) > m.newest[abiARM]:
		return true // runc takes set_tls, 0xf0005, for arm's newest call, so that it never answers ENOSYS
	}
	return false
}

// TestTablesAgainstRunc gives every system call an errno of its own and finds it at libseccomp's number for it.
func TestTablesAgainstRunc(t *testing.T) {
	r := startRunc(t)
	p := &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM},
	}
	for row := range syscallEnds {
		errno := uint(row + 1)
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{syscallName(row)}, Action: specs.ActErrno, ErrnoRet: &errno})
	}
	p, theirs := r.knownTo(t, p)
	if theirs.Error != "" {
		t.Fatalf("runc: %s", theirs.Error)
	}
	t.Logf("compared %d of %d names", len(p.Syscalls), len(syscallEnds))
	for _, machine := range []Arch{AMD64, ARM64} {
		sameAsRunc(t, p, machine, mustCompile(t, p, machine).Insns, theirs.program())
	}
}

// TestRandomAgainstRunc stays within what libseccomp 2.5 gets right: with other operators in rules of several
// conditions, or values of more than 32 bits, it answers for conditions that nobody wrote, or does not come back at all.
func TestRandomAgainstRunc(t *testing.T) {
	r := startRunc(t)
	all := []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual}
	for name, kind := range map[string]tame{
		"one action, one condition":       {all, 1, []specs.LinuxSeccompAction{specs.ActAllow}},
		"one action, several conditions":  {[]specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpMaskedEqual}, 3, []specs.LinuxSeccompAction{specs.ActAllow}},
		"many actions, several condition": {[]specs.LinuxSeccompOperator{specs.OpEqualTo}, 3, []specs.LinuxSeccompAction{specs.ActAllow, specs.ActTrap, specs.ActKillProcess}},
	} {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(3, 4))
			refused := 0
			const profiles = 50
			for range profiles {
				p := kind.profile(random)
				theirs := r.compile(t, p)
				if theirs.Error != "" {
					refused++ // libseccomp refuses more than contradictions, depending on the order of the rules
					continue
				}
				for _, machine := range []Arch{AMD64, ARM64} {
					sameAsRunc(t, p, machine, mustCompile(t, p, machine).Insns, theirs.program())
				}
			}
			if refused > profiles/2 {
				t.Errorf("runc refuses %d of %d profiles", refused, profiles)
			}
		})
	}
}

// tame is a kind of random profiles.
type tame struct {
	operators  []specs.LinuxSeccompOperator
	conditions int // at most, in a rule
	actions    []specs.LinuxSeccompAction
}

func (k tame) profile(random *rand.Rand) *specs.LinuxSeccomp {
	p := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Architectures: []specs.Arch{specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM},
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"futex_waitv"}, Action: specs.ActAllow}},
	}
	for _, name := range []string{"read", "socket", "mmap", "semget", "set_tls"} {
		for range 1 + random.IntN(4) {
			s := specs.LinuxSyscall{Names: []string{name}, Action: k.actions[random.IntN(len(k.actions))]}
			for _, index := range random.Perm(3)[:1+random.IntN(k.conditions)] {
				s.Args = append(s.Args, specs.LinuxSeccompArg{
					Index:    uint(index),
					Value:    uint64(random.IntN(8)),
					ValueTwo: uint64(random.IntN(8)),
					Op:       k.operators[random.IntN(len(k.operators))],
				})
			}
			p.Syscalls = append(p.Syscalls, s)
		}
	}
	return p
}
