package cgroup

import (
	"context"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// BenchmarkLife is what a container costs in cgroups, less what its processes do.
func BenchmarkLife(b *testing.B) {
	h := probe(b)
	r := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{rule(false, "a", -1, -1, "rwm")},
		CPU:     &specs.LinuxCPU{Shares: ptr(uint64(1024))},
	}
	for b.Loop() {
		c, err := New(h, Config{Path: testRoot + "/bench", Resources: r})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Create(); err != nil {
			b.Fatal(err)
		}
		j, err := c.Join()
		if err != nil {
			b.Fatal(err)
		}
		j.Close()
		if err := c.Destroy(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkProbe is paid once per process.
func BenchmarkProbe(b *testing.B) {
	for b.Loop() {
		probe(b)
	}
}

// BenchmarkStats is what each reading of the figures costs, from the second on.
func BenchmarkStats(b *testing.B) {
	c := create(b, probe(b), nil)
	var s Stats
	for b.Loop() {
		if err := c.Stats(&s); err != nil {
			b.Fatal(err)
		}
	}
}
