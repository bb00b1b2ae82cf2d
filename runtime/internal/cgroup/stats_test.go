package cgroup

import (
	"math"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestStats(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20))}, Pids: &specs.LinuxPids{Limit: ptr(int64(77))}})
		p := run(t, c, `i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; (read y) < /dev/null; echo done; read x`)
		p.line(t)
		var s Stats
		for range 3 { // the files are opened, and used again
			if err := c.Stats(&s); err != nil {
				t.Fatal(err)
			}
			if h.Mode == V2 {
				checkV2(t, s.V2)
			} else {
				checkV1(t, s.V1)
			}
		}
		if n := testing.AllocsPerRun(20, func() {
			if err := c.Stats(&s); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// TestStatsOpensOnce: no file is opened a second time, and none is kept where descriptors are scarce.
func TestStatsOpensOnce(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		once, scarce := create(t, h, nil), create(t, h, nil)
		var s Stats
		if err := once.Stats(&s); err != nil {
			t.Fatal(err)
		}
		before := openFiles()
		limitFiles(t, 1, func() { // what is open stays open; half of 1 is 0
			if err := once.Stats(&s); err != nil {
				t.Errorf("the second time: %v", err)
			}
		})
		limitFiles(t, 2*uint64(before), func() { // from the middle on nothing is kept
			for range 2 {
				if err := scarce.Stats(&s); err != nil {
					t.Error(err)
				}
			}
		})
		if now := openFiles(); now > before+1 { // the middle itself may have been free
			t.Errorf("%d files are open, were %d", now, before)
		}
		once.Close()
		if now := openFiles(); now >= before-3 {
			t.Errorf("%d files are open after Close, were %d", now, before)
		}
	})
}

// limitFiles calls f while no file descriptor can be as high as limit.
func limitFiles(t *testing.T, limit uint64, f func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

func checkV1(t *testing.T, s *StatsV1) {
	t.Helper()
	check(t, "Pids.Current", s.Pids.Current, 1, 1)
	check(t, "Pids.Limit", s.Pids.Limit, 77, 77)
	check(t, "CPU.Total", s.CPU.Total, 1e6, 60e9)
	check(t, "CPU.User+Kernel", s.CPU.User+s.CPU.Kernel, 0, 60e9)
	var perCPU uint64
	for _, n := range s.CPU.PerCPU {
		perCPU += n
	}
	check(t, "sum of CPU.PerCPU", perCPU, s.CPU.Total, s.CPU.Total)
	check(t, "CPUs", uint64(len(s.CPU.PerCPU)), uint64(runtime.NumCPU()), 1<<16)
	check(t, "Memory.Usage.Usage", s.Memory.Usage.Usage, 1, 64<<20)
	check(t, "Memory.Usage.Max", s.Memory.Usage.Max, s.Memory.Usage.Usage, 64<<20)
	check(t, "Memory.Usage.Limit", s.Memory.Usage.Limit, 64<<20, 64<<20)
	check(t, "Memory.HierarchicalMemoryLimit", s.Memory.HierarchicalMemoryLimit, 64<<20, 64<<20)
	check(t, "Memory.Swap.Limit", s.Memory.Swap.Limit, 1<<40, math.MaxUint64)
	check(t, "Memory.Kernel.Usage", s.Memory.Kernel.Usage, 1, 64<<20)
	check(t, "Memory.PgFault", s.Memory.PgFault, 0, 1<<30) // gathered from the CPUs every two seconds
	check(t, "Memory.TotalPgFault", s.Memory.TotalPgFault, s.Memory.PgFault, 1<<30)
	check(t, "OOMControl.OOMKill", s.OOMControl.OOMKill, 0, 0)
}

func checkV2(t *testing.T, s *StatsV2) {
	t.Helper()
	check(t, "Pids.Current", s.Pids.Current, 1, 1)
	check(t, "Pids.Limit", s.Pids.Limit, 77, 77)
	check(t, "CPU.UsageUsec", s.CPU.UsageUsec, 1000, 60e6)
	check(t, "CPU.UserUsec+SystemUsec", s.CPU.UserUsec+s.CPU.SystemUsec, s.CPU.UsageUsec-1000, s.CPU.UsageUsec+1000)
	check(t, "Memory.Usage", s.Memory.Usage, 1, 64<<20)
	check(t, "Memory.UsageLimit", s.Memory.UsageLimit, 64<<20, 64<<20)
	check(t, "Memory.Anon", s.Memory.Anon, 0, 64<<20) // gathered from the CPUs every two seconds
	if s.MemoryEvents == nil || s.MemoryEvents.OOMKill != 0 {
		t.Errorf("MemoryEvents %+v", s.MemoryEvents)
	}
}

func check(t *testing.T, name string, got, low, high uint64) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s is %d, not between %d and %d", name, got, low, high)
	}
}

// TestStatsFiles reads files of every kind that no container here may have.
func TestStatsFiles(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string]string{
		"rdma.max":     "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\n",
		"io.stat":      "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:16 \n",
		"cpu.pressure": "some avg10=46.06 avg60=22.36 avg300=12.76 total=348151892\n",
		"io.pressure":  "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=1.50 avg60=0.00 avg300=0.00 total=7\n",
		"memory.stat":  "anon 1\nfile 2\n" + strings.Repeat("other_key_that_nobody_knows 123456789\n", 1000) + "thp_collapse_alloc 9\n",
		"memory.max":   "max\n",
	} {
		if err := os.WriteFile(dir+"/"+name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &Cgroup{host: &Host{Mode: V2, Unified: dir}, unified: dir}
	defer c.Close()
	var s Stats
	for range 3 {
		if err := c.Stats(&s); err != nil {
			t.Fatal(err)
		}
		v := s.V2
		if len(v.Rdma.Limit) != 2 || v.Rdma.Limit[0] != (RdmaEntry{"mlx4_0", 2, 2000}) || v.Rdma.Limit[1].HcaObjects != math.MaxUint32 {
			t.Errorf("rdma %+v", v.Rdma)
		}
		if len(v.IO) != 2 || v.IO[0] != (IOEntry{8, 0, 1, 2, 3, 4}) || v.IO[1] != (IOEntry{Major: 253, Minor: 16}) {
			t.Errorf("io %+v", v.IO)
		}
		if p := v.CPU.Pressure; p == nil || p.Full != nil || *p.Some != (PressureData{46.06, 22.36, 12.76, 348151892}) {
			t.Errorf("cpu pressure %+v", p)
		}
		if p := v.IOPressure; p == nil || p.Full == nil || p.Full.Avg10 != 1.5 || p.Full.Total != 7 {
			t.Errorf("io pressure %+v", p)
		}
		if v.Memory.Anon != 1 || v.Memory.File != 2 || v.Memory.ThpCollapseAlloc != 9 || v.Memory.UsageLimit != math.MaxUint64 {
			t.Errorf("memory %+v", v.Memory)
		}
		if v.MemoryEvents != nil || v.Memory.Pressure != nil {
			t.Error("sections of files that are not there")
		}
	}
}

func TestBlkioLines(t *testing.T) {
	dir := t.TempDir()
	const name = "blkio.throttle.io_serviced_recursive"
	if err := os.WriteFile(dir+"/"+name, []byte("8:0 Read 5\n8:0 Total 7\n7:1 Write 9\nTotal 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &statReader{cgroup: &Cgroup{host: &Host{Mode: V2, Unified: dir}, unified: dir}, buf: make([]byte, 16)}
	got := r.blkio(name, nil)
	if len(got) != 3 || got[0].Op != "Read" || got[0].Value != 5 || got[2].Major != 7 || got[2].Minor != 1 || got[2].Op != "Write" {
		t.Errorf("%+v", got)
	}
}

func TestWithOOMKills(t *testing.T) {
	for _, h := range []*Host{{Mode: V1}, {Mode: V2}} {
		before := h.NoStats()
		for _, kills := range []uint64{2, 1} {
			after := before.WithOOMKills(kills)
			if h.Mode == V1 && after.V1.OOMControl.OOMKill != 2 || h.Mode == V2 && after.V2.MemoryEvents.OOMKill != 2 {
				t.Errorf("%+v with %d kills: %+v", before, kills, after)
			}
			before = after
		}
		if s := h.NoStats(); h.Mode == V1 && s.V1.OOMControl.OOMKill != 0 || h.Mode == V2 && s.V2.MemoryEvents.OOMKill != 0 {
			t.Errorf("figures without kills: %+v", s)
		}
	}
}

func TestPageSize(t *testing.T) {
	for kib, want := range map[uint64]string{64: "64KB", 2048: "2MB", 1 << 20: "1GB", 32768: "32MB"} {
		if got := pageSize(kib); got != want {
			t.Errorf("%d KiB: %s, want %s", kib, got, want)
		}
	}
}
