package seccomp

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// FuzzProfile: every text that decodes as a profile is compiled or refused, and what is compiled answers every call with an
// action, in a program that the kernel takes.
func FuzzProfile(f *testing.F) {
	for _, name := range []string{"testdata/docker.json", "testdata/containerd.json"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, seed := range []string{
		`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4095,"architectures":["SCMP_ARCH_X86","SCMP_ARCH_X86_64"],"flags":["SECCOMP_FILTER_FLAG_LOG"],
		"syscalls":[{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["nothing","read"],"action":"SCMP_ACT_ERRNO","errnoRet":70000}]}`,
		`{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/a"}`,
		`{"defaultAction":"","syscalls":[{"names":[""],"action":"","args":[{"index":9,"op":""}]}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p specs.LinuxSeccomp
		if json.Unmarshal(data, &p) != nil {
			return
		}
		for _, machine := range []Arch{AMD64, ARM64} {
			filter, err := Compile(&p, Options{Arch: machine, SupportedFlags: 0x3f})
			if err != nil || filter == nil {
				continue
			}
			if n := len(filter.Insns); n == 0 || n > 4096 {
				t.Fatalf("%d instructions", n)
			}
			for _, arch := range []uint32{0xc000003e, 0x40000003, 0xc00000b7, 0x40000028, 0, 0xffffffff} {
				for _, nr := range []uint32{0, 1, 56, 220, 434, 471, 0x40000000, 0x40000200, 0xffffffff} {
					for _, arg := range []uint64{0, 1, 1 << 31, 1<<32 | 1, ^uint64(0)} {
						ret, err := Eval(filter.Insns, Data{Nr: nr, Arch: arch, Args: [6]uint64{arg, arg, arg, arg, arg, arg}})
						if err != nil {
							t.Fatalf("call %d of %#x with %#x: %v", nr, arch, arg, err)
						}
						switch ret & 0xffff0000 {
						case 0, 0x80000000, 0x30000, 0x50000, 0x7fc00000, 0x7ff00000, 0x7ffc0000, 0x7fff0000:
						default:
							t.Fatalf("call %d of %#x: %#x is no action", nr, arch, ret)
						}
					}
				}
			}
		}
	})
}
