package seccomp

import (
	"testing"
)

func BenchmarkCompile(b *testing.B) {
	for _, name := range []string{"containerd", "docker"} {
		p := readProfile(b, name+".json")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mustCompile(b, p, AMD64)
			}
		})
	}
}

func BenchmarkCacheHit(b *testing.B) {
	p := readProfile(b, "docker.json")
	c := NewCache(8)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Compile(p, Options{Arch: AMD64}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSteps reports how many instructions the kernel would run for frequent system calls, beside runc's filter.
func BenchmarkSteps(b *testing.B) {
	r := startRunc(b)
	p, theirs := r.knownTo(b, readProfile(b, "docker.json"))
	if theirs.Error != "" {
		b.Fatal(theirs.Error)
	}
	for who, insns := range map[string][]Insn{"ours": mustCompile(b, p, AMD64).Insns, "runc": theirs.program()} {
		for _, name := range []string{"read", "write", "futex", "openat", "mount", "socket", "clone3"} {
			row, _ := lookup(name)
			d := Data{Nr: uint32(syscallNumbers[row][abiAMD64]), Arch: abis[abiAMD64].audit, Args: [6]uint64{2}}
			b.Run(name+"/"+who, func(b *testing.B) {
				var steps int
				for b.Loop() {
					_, steps, _ = eval(insns, &d)
				}
				b.ReportMetric(float64(steps), "insns/call")
				b.ReportMetric(float64(len(insns)), "insns")
			})
		}
	}
}
