package cli

import "github.com/gosuda/gosudacon/runtime/engine"

// The figures in runc's form. CPU times are nanoseconds, sizes bytes.
type (
	stats struct {
		CPU     cpuStats                `json:"cpu"`
		Memory  memoryStats             `json:"memory"`
		Pids    pidsStats               `json:"pids"`
		Blkio   blkioStats              `json:"blkio"`
		Hugetlb map[string]hugetlbStats `json:"hugetlb"`
		RDT     struct{}                `json:"intel_rdt"`
	}
	cpuStats struct {
		Usage struct {
			Total  uint64   `json:"total,omitempty"`
			PerCPU []uint64 `json:"percpu,omitempty"`
			Kernel uint64   `json:"kernel"`
			User   uint64   `json:"user"`
		} `json:"usage,omitzero"`
		Throttling struct {
			Periods   uint64 `json:"periods,omitempty"`
			Throttled uint64 `json:"throttledPeriods,omitempty"`
			Time      uint64 `json:"throttledTime,omitempty"`
		} `json:"throttling,omitzero"`
		PSI *pressure `json:"psi,omitempty"`
	}
	memoryStats struct {
		Cache     uint64            `json:"cache,omitempty"`
		Usage     memoryEntry       `json:"usage,omitzero"`
		Swap      memoryEntry       `json:"swap,omitzero"` // with memory, on cgroup v2 as well
		Kernel    memoryEntry       `json:"kernel,omitzero"`
		KernelTCP memoryEntry       `json:"kernelTCP,omitzero"`
		Raw       map[string]uint64 `json:"raw,omitempty"` // of memory.stat
		PSI       *pressure         `json:"psi,omitempty"`
	}
	memoryEntry struct {
		Limit   uint64 `json:"limit"`
		Usage   uint64 `json:"usage,omitempty"`
		Max     uint64 `json:"max,omitempty"`
		Failcnt uint64 `json:"failcnt"`
	}
	pidsStats struct {
		Current uint64 `json:"current,omitempty"`
		Limit   uint64 `json:"limit,omitempty"` // 0 is none
	}
	blkioStats struct {
		Bytes    []blkioEntry `json:"ioServiceBytesRecursive,omitempty"`
		Requests []blkioEntry `json:"ioServicedRecursive,omitempty"`
		PSI      *pressure    `json:"psi,omitempty"`
	}
	blkioEntry struct {
		Major uint64 `json:"major,omitempty"`
		Minor uint64 `json:"minor,omitempty"`
		Op    string `json:"op,omitempty"`
		Value uint64 `json:"value,omitempty"`
	}
	hugetlbStats struct {
		Usage   uint64 `json:"usage,omitempty"`
		Max     uint64 `json:"max,omitempty"`
		Failcnt uint64 `json:"failcnt"`
	}
	pressure struct {
		Some pressureData `json:"some,omitzero"`
		Full pressureData `json:"full,omitzero"`
	}
	pressureData struct {
		Avg10  float64 `json:"avg10"`
		Avg60  float64 `json:"avg60"`
		Avg300 float64 `json:"avg300"`
		Total  uint64  `json:"total"`
	}
)

func statsOf(s *engine.Stats) *stats {
	if s.V1 != nil {
		return statsOfV1(s.V1)
	}
	return statsOfV2(s.V2)
}

func statsOfV1(s *engine.StatsV1) *stats {
	out := &stats{Hugetlb: map[string]hugetlbStats{}}
	u, t := &out.CPU.Usage, &out.CPU.Throttling
	u.Total, u.PerCPU, u.Kernel, u.User = s.CPU.Total, s.CPU.PerCPU, s.CPU.Kernel, s.CPU.User
	t.Periods, t.Throttled, t.Time = s.CPU.Periods, s.CPU.ThrottledPeriods, s.CPU.ThrottledTime
	if s.Pids != nil {
		out.Pids = pidsStats(*s.Pids)
	}
	if m := s.Memory; m != nil {
		out.Memory = memoryStats{Cache: m.Cache, Usage: memoryEntry(m.Usage), Swap: memoryEntry(m.Swap), Kernel: memoryEntry(m.Kernel),
			KernelTCP: memoryEntry(m.KernelTCP), Raw: rawV1(m)}
	}
	entries := func(list []engine.BlkioEntry) (out []blkioEntry) {
		for _, e := range list {
			out = append(out, blkioEntry{e.Major, e.Minor, e.Op, e.Value})
		}
		return out
	}
	out.Blkio = blkioStats{Bytes: entries(s.Blkio.ServiceBytes), Requests: entries(s.Blkio.Serviced)}
	for _, h := range s.Hugetlb {
		out.Hugetlb[h.Pagesize] = hugetlbStats{h.Usage, h.Max, h.Failcnt}
	}
	return out
}

func rawV1(m *engine.MemoryV1) map[string]uint64 {
	return map[string]uint64{
		"cache": m.Cache, "rss": m.RSS, "rss_huge": m.RSSHuge, "mapped_file": m.MappedFile, "dirty": m.Dirty, "writeback": m.Writeback,
		"pgpgin": m.PgPgIn, "pgpgout": m.PgPgOut, "pgfault": m.PgFault, "pgmajfault": m.PgMajFault,
		"inactive_anon": m.InactiveAnon, "active_anon": m.ActiveAnon, "inactive_file": m.InactiveFile, "active_file": m.ActiveFile,
		"unevictable": m.Unevictable, "hierarchical_memory_limit": m.HierarchicalMemoryLimit,
		"hierarchical_memsw_limit": m.HierarchicalSwapLimit, "total_cache": m.TotalCache, "total_rss": m.TotalRSS,
		"total_rss_huge": m.TotalRSSHuge, "total_mapped_file": m.TotalMappedFile, "total_dirty": m.TotalDirty,
		"total_writeback": m.TotalWriteback, "total_pgpgin": m.TotalPgPgIn, "total_pgpgout": m.TotalPgPgOut,
		"total_pgfault": m.TotalPgFault, "total_pgmajfault": m.TotalPgMajFault, "total_inactive_anon": m.TotalInactiveAnon,
		"total_active_anon": m.TotalActiveAnon, "total_inactive_file": m.TotalInactiveFile, "total_active_file": m.TotalActiveFile,
		"total_unevictable": m.TotalUnevictable,
	}
}

func statsOfV2(s *engine.StatsV2) *stats {
	const nano = 1000 // nanoseconds in the kernel's microsecond
	out := &stats{Hugetlb: map[string]hugetlbStats{}}
	u, t := &out.CPU.Usage, &out.CPU.Throttling
	u.Total, u.Kernel, u.User = s.CPU.UsageUsec*nano, s.CPU.SystemUsec*nano, s.CPU.UserUsec*nano
	t.Periods, t.Throttled, t.Time = s.CPU.NrPeriods, s.CPU.NrThrottled, s.CPU.ThrottledUsec*nano
	out.CPU.PSI = pressureOf(s.CPU.Pressure)
	out.Pids.Current = s.Pids.Current
	if s.Pids.Limit != noLimit {
		out.Pids.Limit = s.Pids.Limit
	}
	m := &s.Memory
	out.Memory = memoryStats{Cache: m.File, Usage: memoryEntry{Limit: m.UsageLimit, Usage: m.Usage, Max: m.MaxUsage},
		Swap: memoryEntry{Limit: sum(m.UsageLimit, m.SwapLimit), Usage: m.Usage + m.SwapUsage}, Raw: rawV2(m), PSI: pressureOf(m.Pressure)}
	if e := s.MemoryEvents; e != nil {
		out.Memory.Usage.Failcnt = e.Max
	}
	for _, e := range s.IO {
		out.Blkio.Bytes = append(out.Blkio.Bytes, blkioEntry{e.Major, e.Minor, "Read", e.Rbytes}, blkioEntry{e.Major, e.Minor, "Write", e.Wbytes})
		out.Blkio.Requests = append(out.Blkio.Requests, blkioEntry{e.Major, e.Minor, "Read", e.Rios}, blkioEntry{e.Major, e.Minor, "Write", e.Wios})
	}
	out.Blkio.PSI = pressureOf(s.IOPressure)
	for _, h := range s.Hugetlb {
		out.Hugetlb[h.Pagesize] = hugetlbStats{Usage: h.Current, Failcnt: h.Failcnt}
	}
	return out
}

// noLimit is "max" in a file of cgroup v2.
const noLimit = ^uint64(0)

func sum(a, b uint64) uint64 {
	if a == noLimit || b == noLimit {
		return noLimit
	}
	return a + b
}

func rawV2(m *engine.MemoryV2) map[string]uint64 {
	return map[string]uint64{
		"anon": m.Anon, "file": m.File, "kernel_stack": m.KernelStack, "slab": m.Slab, "sock": m.Sock, "shmem": m.Shmem,
		"file_mapped": m.FileMapped, "file_dirty": m.FileDirty, "file_writeback": m.FileWriteback, "anon_thp": m.AnonThp,
		"inactive_anon": m.InactiveAnon, "active_anon": m.ActiveAnon, "inactive_file": m.InactiveFile, "active_file": m.ActiveFile,
		"unevictable": m.Unevictable, "slab_reclaimable": m.SlabReclaimable, "slab_unreclaimable": m.SlabUnreclaimable,
		"pgfault": m.Pgfault, "pgmajfault": m.Pgmajfault, "pgrefill": m.Pgrefill, "pgscan": m.Pgscan, "pgsteal": m.Pgsteal,
		"pgactivate": m.Pgactivate, "pgdeactivate": m.Pgdeactivate, "pglazyfree": m.Pglazyfree, "pglazyfreed": m.Pglazyfreed,
		"thp_fault_alloc": m.ThpFaultAlloc, "thp_collapse_alloc": m.ThpCollapseAlloc,
	}
}

func pressureOf(p *engine.Pressure) *pressure {
	if p == nil {
		return nil
	}
	out := &pressure{}
	if p.Some != nil {
		out.Some = pressureData(*p.Some)
	}
	if p.Full != nil {
		out.Full = pressureData(*p.Full)
	}
	return out
}
