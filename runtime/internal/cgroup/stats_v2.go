package cgroup

import (
	"bytes"
	"strconv"
)

func (r *statReader) readV2(s *StatsV2) {
	s.Pids = Pids{Current: r.number("pids", "pids.current"), Limit: r.number("pids", "pids.max")}

	pressure := s.CPU.Pressure
	s.CPU = CPUV2{}
	r.pairs("cpu", "cpu.stat", s.CPU.field)
	s.CPU.Pressure = r.pressure("cpu.pressure", pressure)

	r.memoryV2(&s.Memory)

	s.MemoryEvents = keep(s.MemoryEvents)
	*s.MemoryEvents = MemoryEvents{}
	if !r.pairs("memory", "memory.events", s.MemoryEvents.field) {
		s.MemoryEvents = nil
	}
	s.IO = r.io(s.IO)
	s.IOPressure = r.pressure("io.pressure", s.IOPressure)
	s.Rdma.Current = r.rdma("rdma.current", s.Rdma.Current)
	s.Rdma.Limit = r.rdma("rdma.max", s.Rdma.Limit)

	s.Hugetlb = s.Hugetlb[:0]
	if r.cgroup.host.home("hugetlb") == 0 {
		return
	}
	for _, size := range r.pageSizes() {
		s.Hugetlb = append(s.Hugetlb, HugetlbV2{
			Pagesize: size,
			Current:  r.number("hugetlb", "hugetlb."+size+".current"),
			Max:      r.number("hugetlb", "hugetlb."+size+".max"),
		})
		h := &s.Hugetlb[len(s.Hugetlb)-1]
		r.pairs("hugetlb", "hugetlb."+size+".events", func(key []byte) *uint64 {
			if string(key) == "max" {
				return &h.Failcnt
			}
			return nil
		})
	}
}

func (s *CPUV2) field(key []byte) *uint64 {
	switch string(key) {
	case "usage_usec":
		return &s.UsageUsec
	case "user_usec":
		return &s.UserUsec
	case "system_usec":
		return &s.SystemUsec
	case "nr_periods":
		return &s.NrPeriods
	case "nr_throttled":
		return &s.NrThrottled
	case "throttled_usec":
		return &s.ThrottledUsec
	case "nr_bursts":
		return &s.NrBursts
	case "burst_usec":
		return &s.BurstUsec
	}
	return nil
}

func (r *statReader) memoryV2(m *MemoryV2) {
	pressure := m.Pressure
	*m = MemoryV2{}
	r.pairs("memory", "memory.stat", m.field)
	m.Usage = r.number("memory", "memory.current")
	m.UsageLimit = r.number("memory", "memory.max")
	m.MaxUsage = r.number("memory", "memory.peak") // Linux 5.19
	m.SwapUsage = r.number("memory", "memory.swap.current")
	m.SwapLimit = r.number("memory", "memory.swap.max")
	m.SwapMaxUsage = r.number("memory", "memory.swap.peak") // Linux 6.5
	m.Pressure = r.pressure("memory.pressure", pressure)
}

// field returns where a key of memory.stat goes, nil for one that Metrics does not have.
func (m *MemoryV2) field(key []byte) *uint64 {
	switch string(key) {
	case "anon":
		return &m.Anon
	case "file":
		return &m.File
	case "kernel_stack":
		return &m.KernelStack
	case "slab":
		return &m.Slab
	case "sock":
		return &m.Sock
	case "shmem":
		return &m.Shmem
	case "file_mapped":
		return &m.FileMapped
	case "file_dirty":
		return &m.FileDirty
	case "file_writeback":
		return &m.FileWriteback
	case "anon_thp":
		return &m.AnonThp
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
	case "slab_reclaimable":
		return &m.SlabReclaimable
	case "slab_unreclaimable":
		return &m.SlabUnreclaimable
	case "pgfault":
		return &m.Pgfault
	case "pgmajfault":
		return &m.Pgmajfault
	case "workingset_refault":
		return &m.WorkingsetRefault
	case "workingset_activate":
		return &m.WorkingsetActivate
	case "workingset_nodereclaim":
		return &m.WorkingsetNodereclaim
	case "pgrefill":
		return &m.Pgrefill
	case "pgscan":
		return &m.Pgscan
	case "pgsteal":
		return &m.Pgsteal
	case "pgactivate":
		return &m.Pgactivate
	case "pgdeactivate":
		return &m.Pgdeactivate
	case "pglazyfree":
		return &m.Pglazyfree
	case "pglazyfreed":
		return &m.Pglazyfreed
	case "thp_fault_alloc":
		return &m.ThpFaultAlloc
	case "thp_collapse_alloc":
		return &m.ThpCollapseAlloc
	}
	return nil
}

func (e *MemoryEvents) field(key []byte) *uint64 {
	switch string(key) {
	case "low":
		return &e.Low
	case "high":
		return &e.High
	case "max":
		return &e.Max
	case "oom":
		return &e.OOM
	case "oom_kill":
		return &e.OOMKill
	case "oom_group_kill":
		return &e.OOMGroupKill
	}
	return nil
}

// io reads the "8:0 rbytes=1 wbytes=2 ..." lines of io.stat.
func (r *statReader) io(entries []IOEntry) []IOEntry {
	entries = entries[:0]
	for line := range bytes.Lines(r.file("io", "io.stat")) {
		device, rest, _ := bytes.Cut(line, []byte(" "))
		major, minor, ok := bytes.Cut(device, []byte(":"))
		if !ok {
			continue
		}
		e := IOEntry{Major: parseUint(major), Minor: parseUint(minor)}
		for field := range bytes.FieldsSeq(rest) {
			key, v, _ := bytes.Cut(field, []byte("="))
			switch string(key) {
			case "rbytes":
				e.Rbytes = parseUint(v)
			case "wbytes":
				e.Wbytes = parseUint(v)
			case "rios":
				e.Rios = parseUint(v)
			case "wios":
				e.Wios = parseUint(v)
			}
		}
		entries = append(entries, e)
	}
	return entries
}

// pressure reads the "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and "full ..." lines of a pressure file into p; nil
// when the kernel does not account pressure.
func (r *statReader) pressure(name string, p *Pressure) *Pressure {
	data := r.file("cgroup", name)
	if data == nil {
		return nil
	}
	p = keep(p)
	some, full := p.Some, p.Full
	*p = Pressure{}
	for line := range bytes.Lines(data) {
		kind, rest, _ := bytes.Cut(line, []byte(" "))
		switch string(kind) {
		case "some":
			p.Some = parsePressure(rest, keep(some))
		case "full":
			p.Full = parsePressure(rest, keep(full))
		}
	}
	return p
}

func parsePressure(fields []byte, d *PressureData) *PressureData {
	*d = PressureData{}
	for field := range bytes.FieldsSeq(fields) {
		key, v, _ := bytes.Cut(field, []byte("="))
		switch string(key) {
		case "avg10":
			d.Avg10, _ = strconv.ParseFloat(string(v), 64)
		case "avg60":
			d.Avg60, _ = strconv.ParseFloat(string(v), 64)
		case "avg300":
			d.Avg300, _ = strconv.ParseFloat(string(v), 64)
		case "total":
			d.Total = parseUint(v)
		}
	}
	return d
}
