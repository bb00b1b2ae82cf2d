package cgroup

import (
	"bytes"
	"math"
)

// nanosPerTick converts USER_HZ, which is 100 on every architecture that we support.
const nanosPerTick = 1e9 / 100

func (r *statReader) readV1(s *StatsV1) {
	r.cpuV1(&s.CPU)
	s.Memory, s.OOMControl = r.memoryV1(s.Memory, s.OOMControl)

	s.Pids = keep(s.Pids)
	*s.Pids = Pids{Current: r.number("pids", "pids.current"), Limit: r.number("pids", "pids.max")}
	if s.Pids.Limit == math.MaxUint64 {
		s.Pids.Limit = 0
	}
	// What BFQ and others count for themselves is counted here as well.
	s.Blkio.ServiceBytes = r.blkio("blkio.throttle.io_service_bytes_recursive", s.Blkio.ServiceBytes)
	s.Blkio.Serviced = r.blkio("blkio.throttle.io_serviced_recursive", s.Blkio.Serviced)

	s.Hugetlb = s.Hugetlb[:0]
	if r.cgroup.dir("hugetlb") != "" {
		for _, size := range r.pageSizes() {
			prefix := "hugetlb." + size
			s.Hugetlb = append(s.Hugetlb, HugetlbV1{
				Pagesize: size,
				Usage:    r.number("hugetlb", prefix+".usage_in_bytes"),
				Max:      r.number("hugetlb", prefix+".max_usage_in_bytes"),
				Failcnt:  r.number("hugetlb", prefix+".failcnt"),
			})
		}
	}
	if r.cgroup.dir("pids") == "" {
		s.Pids = nil
	}
	if r.cgroup.dir("rdma") == "" {
		s.Rdma = nil
		return
	}
	s.Rdma = keep(s.Rdma)
	s.Rdma.Current = r.rdma("rdma.current", s.Rdma.Current)
	s.Rdma.Limit = r.rdma("rdma.max", s.Rdma.Limit)
}

func (r *statReader) cpuV1(s *CPUV1) {
	*s = CPUV1{PerCPU: s.PerCPU[:0]}
	r.pairs("cpuacct", "cpuacct.stat", func(key []byte) *uint64 {
		switch string(key) {
		case "user":
			return &s.User
		case "system":
			return &s.Kernel
		}
		return nil
	})
	s.User *= nanosPerTick
	s.Kernel *= nanosPerTick
	s.Total = r.number("cpuacct", "cpuacct.usage")
	for field := range bytes.FieldsSeq(r.file("cpuacct", "cpuacct.usage_percpu")) {
		s.PerCPU = append(s.PerCPU, parseUint(field))
	}
	r.pairs("cpu", "cpu.stat", func(key []byte) *uint64 {
		switch string(key) {
		case "nr_periods":
			return &s.Periods
		case "nr_throttled":
			return &s.ThrottledPeriods
		case "throttled_time":
			return &s.ThrottledTime
		}
		return nil
	})
}

func (r *statReader) memoryV1(m *MemoryV1, o *OOMControl) (*MemoryV1, *OOMControl) {
	m, o = keep(m), keep(o)
	*m, *o = MemoryV1{}, OOMControl{}
	if r.cgroup.dir("memory") == "" {
		return nil, nil
	}
	r.pairs("memory", "memory.stat", m.field)
	r.pairs("memory", "memory.oom_control", func(key []byte) *uint64 {
		switch string(key) {
		case "oom_kill_disable":
			return &o.OOMKillDisable
		case "under_oom":
			return &o.UnderOOM
		case "oom_kill":
			return &o.OOMKill
		}
		return nil
	})
	for _, e := range []struct {
		entry                      *MemoryEntry
		limit, usage, max, failcnt string
	}{
		{&m.Usage, "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt"},
		{&m.Swap, "memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes", "memory.memsw.max_usage_in_bytes",
			"memory.memsw.failcnt"},
		{&m.Kernel, "memory.kmem.limit_in_bytes", "memory.kmem.usage_in_bytes", "memory.kmem.max_usage_in_bytes",
			"memory.kmem.failcnt"},
		{&m.KernelTCP, "memory.kmem.tcp.limit_in_bytes", "memory.kmem.tcp.usage_in_bytes",
			"memory.kmem.tcp.max_usage_in_bytes", "memory.kmem.tcp.failcnt"},
	} {
		*e.entry = MemoryEntry{
			Limit:   r.number("memory", e.limit),
			Usage:   r.number("memory", e.usage),
			Max:     r.number("memory", e.max),
			Failcnt: r.number("memory", e.failcnt),
		}
	}
	return m, o
}

// field returns where a key of memory.stat goes, nil for one that Metrics does not have.
func (m *MemoryV1) field(key []byte) *uint64 {
	switch string(key) {
	case "cache":
		return &m.Cache
	case "rss":
		return &m.RSS
	case "rss_huge":
		return &m.RSSHuge
	case "mapped_file":
		return &m.MappedFile
	case "dirty":
		return &m.Dirty
	case "writeback":
		return &m.Writeback
	case "pgpgin":
		return &m.PgPgIn
	case "pgpgout":
		return &m.PgPgOut
	case "pgfault":
		return &m.PgFault
	case "pgmajfault":
		return &m.PgMajFault
	case "inactive_anon":
		return &m.InactiveAnon
	case "active_anon":
		return &m.ActiveAnon
	case "inactive_file":
		return &m.InactiveFile
	case "active_file":
		return &m.ActiveFile
	case "unevictable":
		return &m.Unevictable
	case "hierarchical_memory_limit":
		return &m.HierarchicalMemoryLimit
	case "hierarchical_memsw_limit":
		return &m.HierarchicalSwapLimit
	case "total_cache":
		return &m.TotalCache
	case "total_rss":
		return &m.TotalRSS
	case "total_rss_huge":
		return &m.TotalRSSHuge
	case "total_mapped_file":
		return &m.TotalMappedFile
	case "total_dirty":
		return &m.TotalDirty
	case "total_writeback":
		return &m.TotalWriteback
	case "total_pgpgin":
		return &m.TotalPgPgIn
	case "total_pgpgout":
		return &m.TotalPgPgOut
	case "total_pgfault":
		return &m.TotalPgFault
	case "total_pgmajfault":
		return &m.TotalPgMajFault
	case "total_inactive_anon":
		return &m.TotalInactiveAnon
	case "total_active_anon":
		return &m.TotalActiveAnon
	case "total_inactive_file":
		return &m.TotalInactiveFile
	case "total_active_file":
		return &m.TotalActiveFile
	case "total_unevictable":
		return &m.TotalUnevictable
	}
	return nil
}

// blkio reads the "8:0 Read 4096" lines of the next file.
func (r *statReader) blkio(name string, entries []BlkioEntry) []BlkioEntry {
	entries = entries[:0]
	for line := range bytes.Lines(r.file("blkio", name)) {
		device, rest, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
		major, minor, ok := bytes.Cut(device, []byte(":"))
		op, v, _ := bytes.Cut(rest, []byte(" "))
		if !ok {
			continue // the grand total
		}
		e := BlkioEntry{Op: operation(op), Major: parseUint(major), Minor: parseUint(minor), Value: parseUint(v)}
		e.Device = r.device(e.Major, e.Minor)
		entries = append(entries, e)
	}
	return entries
}

// operation returns the name of an operation without allocating it.
func operation(b []byte) string {
	for _, op := range [...]string{"Read", "Write", "Sync", "Async", "Discard", "Total"} {
		if string(b) == op {
			return op
		}
	}
	return string(b)
}
