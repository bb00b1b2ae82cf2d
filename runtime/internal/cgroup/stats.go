package cgroup

// Stats are the figures of a cgroup: exactly one of the two is set.
type Stats struct {
	V1 *StatsV1
	V2 *StatsV2
}

// NoStats returns figures of the host's kind that are all zero.
func (h *Host) NoStats() *Stats {
	if h.Mode == V2 {
		return &Stats{V2: &StatsV2{MemoryEvents: &MemoryEvents{}}}
	}
	return &Stats{V1: &StatsV1{Pids: &Pids{}, Memory: &MemoryV1{}, OOMControl: &OOMControl{}}}
}

// WithOOMKills returns figures that show at least that many kills by the OOM killer.
func (s *Stats) WithOOMKills(kills uint64) *Stats {
	out := *s
	if s.V1 != nil && s.V1.OOMControl != nil {
		v, o := *s.V1, *s.V1.OOMControl
		o.OOMKill = max(o.OOMKill, kills)
		v.OOMControl = &o
		out.V1 = &v
	}
	if s.V2 != nil && s.V2.MemoryEvents != nil {
		v, e := *s.V2, *s.V2.MemoryEvents
		e.OOMKill = max(e.OOMKill, kills)
		v.MemoryEvents = &e
		out.V2 = &v
	}
	return &out
}

// StatsV1 has the content of io.containerd.cgroups.v1.Metrics. A section is nil when its controller is not there.
type StatsV1 struct {
	Hugetlb    []HugetlbV1
	Pids       *Pids // Limit 0 is no limit
	CPU        CPUV1
	Memory     *MemoryV1
	OOMControl *OOMControl
	Blkio      BlkioV1
	Rdma       *Rdma
}

// StatsV2 has the content of io.containerd.cgroups.v2.Metrics. Limits of math.MaxUint64 are none.
type StatsV2 struct {
	Pids         Pids
	CPU          CPUV2
	Memory       MemoryV2
	MemoryEvents *MemoryEvents // nil without the memory controller
	IO           []IOEntry
	IOPressure   *Pressure
	Rdma         Rdma
	Hugetlb      []HugetlbV2
}

// Pids counts processes and threads.
type Pids struct {
	Current, Limit uint64
}

// CPUV1 is CPU time in nanoseconds.
type CPUV1 struct {
	Total, Kernel, User uint64
	PerCPU              []uint64

	Periods, ThrottledPeriods, ThrottledTime uint64
}

// MemoryV1 is memory in bytes, and counts of pages and faults; Total... includes child cgroups.
type MemoryV1 struct {
	Cache, RSS, RSSHuge, MappedFile, Dirty, Writeback           uint64
	PgPgIn, PgPgOut, PgFault, PgMajFault                        uint64
	InactiveAnon, ActiveAnon, InactiveFile, ActiveFile          uint64
	Unevictable, HierarchicalMemoryLimit, HierarchicalSwapLimit uint64
	TotalCache, TotalRSS, TotalRSSHuge, TotalMappedFile         uint64
	TotalDirty, TotalWriteback                                  uint64
	TotalPgPgIn, TotalPgPgOut, TotalPgFault, TotalPgMajFault    uint64
	TotalInactiveAnon, TotalActiveAnon                          uint64
	TotalInactiveFile, TotalActiveFile, TotalUnevictable        uint64
	Usage, Swap, Kernel, KernelTCP                              MemoryEntry
}

// MemoryEntry is one of v1's counters of memory, in bytes. Swap's include memory.
type MemoryEntry struct {
	Limit, Usage, Max, Failcnt uint64
}

// OOMControl is memory.oom_control.
type OOMControl struct {
	OOMKillDisable, UnderOOM, OOMKill uint64
}

// BlkioV1 is input and output per device and direction.
type BlkioV1 struct {
	ServiceBytes, Serviced []BlkioEntry // bytes; requests
}

// BlkioEntry is one line of a blkio file.
type BlkioEntry struct {
	Op           string
	Device       string // such as /dev/sda, "" if unknown
	Major, Minor uint64
	Value        uint64
}

// HugetlbV1 is the use of huge pages of one size, in bytes.
type HugetlbV1 struct {
	Pagesize            string
	Usage, Max, Failcnt uint64
}

// Rdma is the use and the limits of RDMA devices.
type Rdma struct {
	Current, Limit []RdmaEntry
}

// RdmaEntry is one RDMA device; math.MaxUint32 is no limit.
type RdmaEntry struct {
	Device                 string
	HcaHandles, HcaObjects uint32
}

// CPUV2 is CPU time in microseconds.
type CPUV2 struct {
	UsageUsec, UserUsec, SystemUsec       uint64
	NrPeriods, NrThrottled, ThrottledUsec uint64
	NrBursts, BurstUsec                   uint64
	Pressure                              *Pressure
}

// MemoryV2 is memory in bytes, and counts of pages and faults.
type MemoryV2 struct {
	Anon, File, KernelStack, Slab, Sock, Shmem                      uint64
	FileMapped, FileDirty, FileWriteback, AnonThp                   uint64
	InactiveAnon, ActiveAnon, InactiveFile, ActiveFile              uint64
	Unevictable, SlabReclaimable, SlabUnreclaimable                 uint64
	Pgfault, Pgmajfault                                             uint64
	WorkingsetRefault, WorkingsetActivate, WorkingsetNodereclaim    uint64
	Pgrefill, Pgscan, Pgsteal, Pgactivate, Pgdeactivate             uint64
	Pglazyfree, Pglazyfreed, ThpFaultAlloc, ThpCollapseAlloc        uint64
	Usage, UsageLimit, MaxUsage, SwapUsage, SwapLimit, SwapMaxUsage uint64
	Pressure                                                        *Pressure
}

// MemoryEvents is memory.events, which includes child cgroups.
type MemoryEvents struct {
	Low, High, Max, OOM, OOMKill, OOMGroupKill uint64
}

// IOEntry is input and output of one device: bytes, and requests.
type IOEntry struct {
	Major, Minor               uint64
	Rbytes, Wbytes, Rios, Wios uint64
}

// HugetlbV2 is the use of huge pages of one size, in bytes.
type HugetlbV2 struct {
	Pagesize              string
	Current, Max, Failcnt uint64
}

// Pressure is pressure stall information; a file without a line has that one nil.
type Pressure struct {
	Some, Full *PressureData
}

// PressureData is one line of it: percentages, and microseconds in all.
type PressureData struct {
	Avg10, Avg60, Avg300 float64
	Total                uint64
}
