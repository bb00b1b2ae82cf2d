package seccomp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// handMade are profiles that each show one point; every one is also compared with runc.
var handMade = map[string]string{
	"only a default action": `{"defaultAction":"SCMP_ACT_ERRNO"}`,
	"allow by default":      `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["ptrace"],"action":"SCMP_ACT_KILL_PROCESS"}]}`,
	"all actions": `{"defaultAction":"SCMP_ACT_LOG","listenerPath":"/run/agent","architectures":["SCMP_ARCH_X86","SCMP_ARCH_X86_64","SCMP_ARCH_X32","SCMP_ARCH_ARM","SCMP_ARCH_AARCH64"],"syscalls":[
		{"names":["read"],"action":"SCMP_ACT_ALLOW"},{"names":["open","openat"],"action":"SCMP_ACT_NOTIFY"},
		{"names":["mount"],"action":"SCMP_ACT_ERRNO"},{"names":["umount2"],"action":"SCMP_ACT_ERRNO","errnoRet":0},
		{"names":["swapon"],"action":"SCMP_ACT_ERRNO","errnoRet":4094},{"names":["uname"],"action":"SCMP_ACT_TRACE"},
		{"names":["getpid"],"action":"SCMP_ACT_TRACE","errnoRet":65535},{"names":["getppid"],"action":"SCMP_ACT_TRAP"},
		{"names":["gettid"],"action":"SCMP_ACT_KILL"},{"names":["getuid"],"action":"SCMP_ACT_KILL_THREAD"},
		{"names":["getgid"],"action":"SCMP_ACT_KILL_PROCESS"},{"names":["geteuid"],"action":"SCMP_ACT_LOG"}]}`,
	"default errno": `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[{"names":["read","exit"],"action":"SCMP_ACT_ALLOW"},{"names":["exit_group"],"action":"SCMP_ACT_ERRNO"}]}`,
	"trace by default": `{"defaultAction":"SCMP_ACT_TRACE","defaultErrnoRet":7,"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"},
		{"names":["write"],"action":"SCMP_ACT_TRACE"},{"names":["exit"],"action":"SCMP_ACT_TRACE","errnoRet":7}]}`,
	"all operators": `{"defaultAction":"SCMP_ACT_KILL_PROCESS","architectures":["SCMP_ARCH_X86","SCMP_ARCH_X32","SCMP_ARCH_ARM","SCMP_ARCH_AARCH64"],"syscalls":[
		{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":81985529216486895,"op":"SCMP_CMP_NE"}]},
		{"names":["write"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":81985529216486895,"op":"SCMP_CMP_LT"}]},
		{"names":["close"],"action":"SCMP_ACT_ALLOW","args":[{"index":2,"value":81985529216486895,"op":"SCMP_CMP_LE"}]},
		{"names":["fstat"],"action":"SCMP_ACT_ALLOW","args":[{"index":3,"value":81985529216486895,"op":"SCMP_CMP_EQ"}]},
		{"names":["lseek"],"action":"SCMP_ACT_ALLOW","args":[{"index":4,"value":81985529216486895,"op":"SCMP_CMP_GE"}]},
		{"names":["mprotect"],"action":"SCMP_ACT_ALLOW","args":[{"index":5,"value":81985529216486895,"op":"SCMP_CMP_GT"}]},
		{"names":["ioctl"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":18374966859414961920,"valueTwo":81985529216486895,"op":"SCMP_CMP_MASKED_EQ"}]},
		{"names":["fcntl"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":0,"valueTwo":5,"op":"SCMP_CMP_MASKED_EQ"}]},
		{"names":["dup"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":18446744069414584320,"valueTwo":4294967296,"op":"SCMP_CMP_MASKED_EQ"}]}]}`,
	"all arguments at once": `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["mmap","clone"],"action":"SCMP_ACT_ALLOW","args":[
		{"index":5,"value":6,"op":"SCMP_CMP_GE"},{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":1,"value":2,"op":"SCMP_CMP_NE"},
		{"index":2,"value":3,"op":"SCMP_CMP_LT"},{"index":3,"value":3,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"},{"index":4,"value":5,"op":"SCMP_CMP_GT"}]}]}`,
	"one argument twice": `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["lseek"],"action":"SCMP_ACT_ALLOW","args":[
		{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":1,"value":5,"op":"SCMP_CMP_EQ"},{"index":0,"value":100,"op":"SCMP_CMP_GT"}]}]}`,
	"unconditional beats conditional": `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
		{"names":["clone"],"action":"SCMP_ACT_KILL","args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ"}]},
		{"names":["clone"],"action":"SCMP_ACT_ALLOW"},{"names":["clone"],"action":"SCMP_ACT_TRAP"},
		{"names":["clone"],"action":"SCMP_ACT_KILL","args":[{"index":0,"value":9,"op":"SCMP_CMP_EQ"}]}]}`,
	"unconditional by an empty mask": `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86","SCMP_ARCH_ARM","SCMP_ARCH_AARCH64"],"syscalls":[
		{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":4294967296,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},
		{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":9,"op":"SCMP_CMP_EQ"}]}]}`,
	"rules with the default action": `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"},
		{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
		{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}]}`,
	"overlapping ranges": `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
		{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":1,"args":[{"index":2,"value":10,"op":"SCMP_CMP_GE"}]},
		{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":2,"args":[{"index":2,"value":100,"op":"SCMP_CMP_GT"}]},
		{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":3,"args":[{"index":2,"value":50,"op":"SCMP_CMP_EQ"}]},
		{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":4,"args":[{"index":2,"value":5,"op":"SCMP_CMP_LE"}]},
		{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":5,"args":[{"index":2,"value":3,"op":"SCMP_CMP_LT"}]},
		{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":6,"args":[{"index":0,"value":3,"op":"SCMP_CMP_EQ"}]}]}`,
	"audit sockets": `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],"syscalls":[
		{"names":["socketcall"],"action":"SCMP_ACT_ALLOW"},
		{"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":22,"args":[{"index":0,"value":16,"op":"SCMP_CMP_EQ"},{"index":2,"value":9,"op":"SCMP_CMP_EQ"}]},
		{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":2,"value":9,"op":"SCMP_CMP_NE"}]},
		{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":16,"op":"SCMP_CMP_NE"}]},
		{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":2,"value":9,"op":"SCMP_CMP_NE"}]},
		{"names":["futex_waitv"],"action":"SCMP_ACT_ALLOW"}]}`,
	"sub-calls of i386": `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[
		{"names":["accept","bind","connect","recv","sendto","recvmmsg","semop","semget","semtimedop","shmat","msgctl","futex_waitv"],"action":"SCMP_ACT_ALLOW"},
		{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
		{"names":["socketpair"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":2,"op":"SCMP_CMP_EQ"}]}]}`,
	"sub-calls beside the call": `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[
		{"names":["socket"],"action":"SCMP_ACT_TRAP"},{"names":["ipc","socketcall","futex_waitv"],"action":"SCMP_ACT_ALLOW"},
		{"names":["semop"],"action":"SCMP_ACT_TRAP"}]}`,
	"private calls of arm": `{"defaultAction":"SCMP_ACT_KILL","architectures":["SCMP_ARCH_AARCH64","SCMP_ARCH_ARM"],"syscalls":[
		{"names":["cacheflush","set_tls","read"],"action":"SCMP_ACT_ALLOW"},{"names":["get_tls"],"action":"SCMP_ACT_TRAP"}]}`,
}

// profiles yields the profiles of testdata and of handMade by name, for both machines.
func profiles(t *testing.T, test func(t *testing.T, p *specs.LinuxSeccomp, machine Arch)) {
	t.Helper()
	for machine, name := range map[Arch]string{AMD64: "amd64", ARM64: "arm64"} {
		for _, file := range []string{"containerd", "docker"} {
			t.Run(name+"/"+file, func(t *testing.T) {
				p := readProfile(t, file+".json")
				if machine == ARM64 {
					p = forARM64(p)
				}
				test(t, p, machine)
			})
		}
		for title, text := range handMade {
			t.Run(name+"/"+title, func(t *testing.T) { test(t, parseJSON(t, text), machine) })
		}
	}
}

func TestCompileAgainstModel(t *testing.T) {
	profiles(t, func(t *testing.T, p *specs.LinuxSeccomp, machine Arch) {
		f := mustCompile(t, p, machine)
		t.Logf("%d instructions", len(f.Insns))
		sameAnswers(t, p, machine, f.Insns, newModel(p, machine).ret)
	})
}

// TestLongJumps compiles a profile whose jumps are far longer than the 255 instructions of a conditional one.
func TestLongJumps(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86}}
	for row := 0; row < len(syscallEnds); row += 2 {
		errno := uint(row + 2)
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{
			Names: []string{syscallName(row)}, Action: specs.ActErrno, ErrnoRet: &errno,
			Args: []specs.LinuxSeccompArg{{Index: 1, Value: uint64(row), Op: specs.OpGreaterThan}},
		})
	}
	f := mustCompile(t, p, AMD64)
	t.Logf("%d instructions", len(f.Insns))
	if len(f.Insns) < 3*255 {
		t.Errorf("%d instructions are too few for this test", len(f.Insns))
	}
	sameAnswers(t, p, AMD64, f.Insns, newModel(p, AMD64).ret)
}

func TestTooManyInstructions(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range uint64(2000) {
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{
			Names: []string{"ioctl"}, Action: specs.ActAllow,
			Args: []specs.LinuxSeccompArg{{Index: 1, Value: i << 32, Op: specs.OpEqualTo}},
		})
	}
	_, err := Compile(p, Options{Arch: AMD64})
	if err == nil || !strings.Contains(err.Error(), "more than the kernel's 4096") {
		t.Errorf("Compile: %v", err)
	}
}

// TestProgramSize keeps the filters that nearly all containers get from growing.
func TestProgramSize(t *testing.T) {
	for name, most := range map[string]int{"containerd": 450, "docker": 450} {
		f := mustCompile(t, readProfile(t, name+".json"), AMD64)
		if len(f.Insns) > most {
			t.Errorf("%s: %d instructions, more than %d", name, len(f.Insns), most)
		}
		for _, nr := range []uint32{0, 1} { // read, write
			_, steps, err := eval(f.Insns, &Data{Nr: nr, Arch: abis[abiAMD64].audit})
			if err != nil || steps > 14 {
				t.Errorf("%s: system call %d takes %d instructions, %v", name, nr, steps, err)
			}
		}
	}
}

func TestNothingToDo(t *testing.T) {
	for _, p := range []*specs.LinuxSeccomp{nil, {}, {Architectures: []specs.Arch{specs.ArchX86}}} {
		if f, err := Compile(p, Options{Arch: AMD64}); f != nil || err != nil {
			t.Errorf("Compile(%v) = %v, %v", p, f, err)
		}
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		`{"syscalls":[{}]}`:                                                                                                                             `linux.seccomp.defaultAction: unknown action ""`,
		`{"defaultAction":"allow"}`:                                                                                                                     `linux.seccomp.defaultAction: unknown action "allow"`,
		`{"defaultAction":"SCMP_ACT_NOTIFY"}`:                                                                                                           `linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default action`,
		`{"defaultAction":"X","defaultErrnoRet":1}`:                                                                                                     `linux.seccomp.defaultAction: unknown action "X"`,
		`{"defaultAction":"SCMP_ACT_KILL","defaultErrnoRet":1}`:                                                                                         `linux.seccomp.defaultErrnoRet: SCMP_ACT_KILL takes no errno`,
		`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4096}`:                                                                                     `linux.seccomp.defaultErrnoRet: 4096 is out of range, SCMP_ACT_ERRNO takes 0 to 4095`,
		`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86","SCMP_ARCH_Z80"]}`:                                                          `linux.seccomp.architectures[1]: unknown architecture "SCMP_ARCH_Z80"`,
		`{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_TSYNC","LOUD"]}`:                                                               `linux.seccomp.flags[1]: unknown flag "LOUD"`,
		`{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"]}`:                                                                        `linux.seccomp.flags[0]: the kernel has no SECCOMP_FILTER_FLAG_LOG`,
		`{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}`:                                                         `linux.seccomp.flags[0]: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY`,
		`{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"x"}`:                                                                                     `linux.seccomp.listenerMetadata: set without linux.seccomp.listenerPath`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}`:                                                 `linux.seccomp.listenerPath: empty, but a rule has SCMP_ACT_NOTIFY`,
		`{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x","syscalls":[{"names":["read","write"],"action":"SCMP_ACT_NOTIFY"}]}`:                     `linux.seccomp.syscalls[0].names[1]: SCMP_ACT_NOTIFY cannot be used for write`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL"},{"names":["read"],"action":"SCMP_ACT_OOPS"}]}`:       `linux.seccomp.syscalls[1].action: unknown action "SCMP_ACT_OOPS"`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","errnoRet":1}]}`:                                     `linux.seccomp.syscalls[0].errnoRet: SCMP_ACT_ALLOW takes no errno`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":65536}]}`:                                 `linux.seccomp.syscalls[0].errnoRet: 65536 is out of range, SCMP_ACT_ERRNO takes 0 to 4095`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_TRACE","errnoRet":65536}]}`:                                 `linux.seccomp.syscalls[0].errnoRet: 65536 is out of range, SCMP_ACT_TRACE takes 0 to 65535`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read",""],"action":"SCMP_ACT_KILL"}]}`:                                                `linux.seccomp.syscalls[0].names[1]: empty name`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}`: `linux.seccomp.syscalls[0].args[0].index: 6 is out of range, a system call has the arguments 0 to 5`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL","args":[{"index":0,"value":0,"op":"=="}]}]}`:          `linux.seccomp.syscalls[0].args[0].op: unknown operator "=="`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL","args":[{"index":0,"value":9,"op":"SCMP_CMP_EQ"}]},
			{"names":["read"],"action":"SCMP_ACT_TRAP","args":[{"index":0,"value":9,"op":"SCMP_CMP_EQ"}]}]}`: `linux.seccomp.syscalls[1]: contradicts linux.seccomp.syscalls[0] on read: the same conditions, another action`,
	} {
		f, err := Compile(parseJSON(t, text), Options{Arch: AMD64, SupportedFlags: FlagTSync | FlagWaitKillableRecv})
		if err == nil || err.Error() != want {
			t.Errorf("Compile(%s):\n %v\nwant\n %s", text, err, want)
		}
		if f != nil {
			t.Errorf("Compile(%s): a filter beside the error", text)
		}
	}
	if _, err := Compile(parseJSON(t, handMade["allow by default"]), Options{}); err == nil {
		t.Error("Compile without a machine: no error")
	}
}

func TestWarnings(t *testing.T) {
	p := parseJSON(t, `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[
		{"names":["read","frobnicate"],"action":"SCMP_ACT_ALLOW"},{"names":[],"action":"SCMP_ACT_ALLOW"},
		{"names":["read"],"action":"SCMP_ACT_KILL"},{"names":["read"],"action":"SCMP_ACT_ALLOW"},
		{"names":["read"],"action":"SCMP_ACT_TRAP","args":[{"index":0,"value":9,"op":"SCMP_CMP_EQ"}]},
		{"names":["riscv_flush_icache","riscv_hwprobe","zzz"],"action":"SCMP_ACT_ALLOW"}]}`)
	want := []string{
		`linux.seccomp.syscalls[0].names[1]: unknown system call "frobnicate"`,
		`linux.seccomp.syscalls[1].names: empty, the entry has no effect`,
		`linux.seccomp.syscalls[5].names[2]: unknown system call "zzz"`,
		`linux.seccomp.syscalls[2]: no effect on read: linux.seccomp.syscalls[0] comes first`,
		`linux.seccomp.syscalls[4]: no effect on read: linux.seccomp.syscalls[0] comes first`,
	}
	if got := mustCompile(t, p, AMD64).Warnings; !slices.Equal(got, want) {
		t.Errorf("Warnings:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, file := range []string{"containerd.json", "docker.json"} {
		if got := mustCompile(t, readProfile(t, file), AMD64).Warnings; got != nil {
			t.Errorf("%s: %q", file, got)
		}
	}
}

// TestWhereLibseccompErrs has rules for which libseccomp 2.5 answers otherwise than they say.
func TestWhereLibseccompErrs(t *testing.T) {
	for _, test := range []struct {
		rules string
		args  [6]uint64
		want  uint32
	}{
		{ // neither holds, libseccomp allows
			`[{"index":0,"value":7,"op":"SCMP_CMP_LT"},{"index":1,"value":5,"op":"SCMP_CMP_EQ"}]},
			 {"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":5,"op":"SCMP_CMP_GE"},{"index":0,"value":6,"op":"SCMP_CMP_LT"}]`,
			[6]uint64{6, 6}, retErrno | eperm,
		},
		{ // the second holds, libseccomp refuses
			`[{"index":1,"value":4294967296,"op":"SCMP_CMP_LE"}]},
			 {"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":21474836480,"op":"SCMP_CMP_LT"}]`,
			[6]uint64{0, 1<<32 + 6}, retAllow,
		},
	} {
		p := parseJSON(t, `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":`+test.rules+`}]}`)
		got, err := Eval(mustCompile(t, p, AMD64).Insns, Data{Nr: 0, Arch: abis[abiAMD64].audit, Args: test.args})
		if err != nil || got != test.want {
			t.Errorf("%s\n%#x: %#x, %v, want %#x", test.rules, test.args, got, err, test.want)
		}
	}
}

func TestFlags(t *testing.T) {
	const log, spec, wait = "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
	all := FlagTSync | FlagLog | FlagSpecAllow | FlagWaitKillableRecv
	for _, test := range []struct {
		flags     string
		notify    bool
		supported uint32
		want      uint32
	}{
		{`null`, false, all, FlagSpecAllow},
		{`null`, false, FlagLog, 0},
		{`null`, true, all, FlagSpecAllow | FlagNewListener},
		{`[]`, false, all, 0},
		{`["` + log + `"]`, false, all, FlagLog},
		{`["` + log + `","` + spec + `","SECCOMP_FILTER_FLAG_TSYNC"]`, false, all, FlagLog | FlagSpecAllow},
		{`["` + wait + `"]`, true, all, FlagWaitKillableRecv | FlagNewListener},
	} {
		action := specs.ActKill
		if test.notify {
			action = specs.ActNotify
		}
		p := parseJSON(t, fmt.Sprintf(`{"defaultAction":"SCMP_ACT_ALLOW","flags":%s,"listenerPath":"/run/agent","syscalls":[{"names":["read"],"action":%q}]}`, test.flags, action))
		f, err := Compile(p, Options{Arch: ARM64, SupportedFlags: test.supported})
		if err != nil || f.Flags != test.want || f.Notify != test.notify {
			t.Errorf("flags %s: %+v, %v, want flags %#x", test.flags, f, err, test.want)
		}
	}
}

func TestForeignArchitecturesAreIgnored(t *testing.T) {
	p := parseJSON(t, `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`)
	plain := mustCompile(t, p, AMD64)
	for _, a := range archs {
		if !slices.Contains([]specs.Arch{specs.ArchX86, specs.ArchX32}, a) {
			p.Architectures = append(p.Architectures, a)
		}
	}
	if f := mustCompile(t, p, AMD64); !slices.Equal(f.Insns, plain.Insns) {
		t.Error("architectures of other machines change the program")
	}
}

// TestTables checks the shape of the generated tables, and numbers that everybody knows.
func TestTables(t *testing.T) {
	if len(syscallEnds) != len(syscallNumbers) || int(syscallEnds[len(syscallEnds)-1]) != len(syscallNames) {
		t.Fatalf("%d names, %d rows, %d bytes of names", len(syscallEnds), len(syscallNumbers), len(syscallNames))
	}
	for row := range syscallEnds {
		if row > 0 && syscallName(row-1) >= syscallName(row) {
			t.Errorf("%q does not come after %q", syscallName(row), syscallName(row-1))
		}
		if got, ok := lookup(syscallName(row)); !ok || got != row {
			t.Errorf("lookup(%q) = %d, %v", syscallName(row), got, ok)
		}
	}
	for _, name := range []string{"", "a", "reae", "zzz", "readx"} {
		if _, ok := lookup(name); ok {
			t.Errorf("%q is known", name)
		}
	}
	for name, want := range map[string][numABIs]int32{
		"read":          {0, 3, 0, 63, 3},
		"execve":        {59, 11, 520, 221, 11},
		"waitpid":       {absent, 7, absent, absent, absent},
		"socket":        {41, 359, 41, 198, 281},
		"accept":        {43, multiplexed, 43, 202, 285},
		"openat2":       {437, 437, 437, 437, 437},
		"file_setattr":  {469, 469, 469, 469, 469},
		"uprobe":        {336, absent, absent, absent, absent},
		"set_tls":       {absent, absent, absent, absent, 0xf0005},
		"newfstatat":    {262, absent, 262, 79, absent},
		"clock_gettime": {228, 265, 228, 113, 263},
	} {
		if row, ok := lookup(name); !ok || syscallNumbers[row] != want {
			t.Errorf("%s: %v, want %v", name, syscallNumbers[row], want)
		}
	}
}

func TestNames(t *testing.T) {
	for what, names := range map[string][]string{"Actions": Actions(), "Operators": Operators(), "Archs": Archs(), "Flags": Flags()} {
		if len(names) == 0 || !slices.IsSorted(names) {
			t.Errorf("%s: %q", what, names)
		}
	}
	if got := SupportedFlags(FlagLog | FlagNewListener); !slices.Equal(got, []string{"SECCOMP_FILTER_FLAG_LOG"}) {
		t.Errorf("SupportedFlags: %q", got)
	}
}
