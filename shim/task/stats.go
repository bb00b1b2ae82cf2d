package task

import (
	"context"
	"encoding/binary"
	"math"

	"github.com/gosuda/gosudacon/internal/wire"
	"github.com/gosuda/gosudacon/runtime/engine"
	api "github.com/gosuda/gosudacon/shim/internal/taskapi"
)

// Stats returns the figures of a container's cgroup, after its end the last ones: containerd looks there for the reason.
func (s *Service) Stats(_ context.Context, r *api.ContainerRequest) (*api.StatsResponse, error) {
	t, err := s.task(r.ID)
	if err != nil {
		return nil, err
	}
	stats, err := t.container.Stats()
	if err != nil {
		return nil, err
	}
	a, err := EncodeStats(stats)
	if err != nil {
		return nil, err
	}
	return &api.StatsResponse{Stats: a}, nil
}

// EncodeStats encodes io.containerd.cgroups.v1.Metrics or v2.Metrics of containerd/cgroups, field by field: CRI asks once a
// second for every container, and the generated messages would keep 150 KiB in each shim.
func EncodeStats(s *engine.Stats) (wire.Any, error) {
	switch {
	case s != nil && s.V1 != nil:
		return wire.Any{TypeURL: "io.containerd.cgroups.v1.Metrics", Value: encodeV1(s.V1)}, nil
	case s != nil && s.V2 != nil:
		return wire.Any{TypeURL: "io.containerd.cgroups.v2.Metrics", Value: encodeV2(s.V2)}, nil
	}
	return wire.Any{}, refuse(engine.NotFound, "cgroup does not exist")
}

func encodeV1(s *engine.StatsV1) []byte {
	b := make([]byte, 0, 1024)
	for _, h := range s.Hugetlb {
		b = wire.AppendMessage(b, 1, wire.AppendString(integers(h.Usage, h.Max, h.Failcnt), 4, h.Pagesize))
	}
	if p := s.Pids; p != nil {
		b = wire.AppendMessage(b, 2, integers(p.Current, p.Limit))
	}
	usage := integers(s.CPU.Total, s.CPU.Kernel, s.CPU.User)
	if len(s.CPU.PerCPU) > 0 {
		var packed []byte
		for _, v := range s.CPU.PerCPU {
			packed = binary.AppendUvarint(packed, v)
		}
		usage = wire.AppendMessage(usage, 4, packed)
	}
	cpu := wire.AppendMessage(nil, 1, usage)
	cpu = wire.AppendMessage(cpu, 2, integers(s.CPU.Periods, s.CPU.ThrottledPeriods, s.CPU.ThrottledTime))
	b = wire.AppendMessage(b, 3, cpu)
	if m := s.Memory; m != nil {
		memory := integers(
			m.Cache, m.RSS, m.RSSHuge, m.MappedFile, m.Dirty, m.Writeback, m.PgPgIn, m.PgPgOut, m.PgFault, m.PgMajFault,
			m.InactiveAnon, m.ActiveAnon, m.InactiveFile, m.ActiveFile, m.Unevictable,
			m.HierarchicalMemoryLimit, m.HierarchicalSwapLimit,
			m.TotalCache, m.TotalRSS, m.TotalRSSHuge, m.TotalMappedFile, m.TotalDirty, m.TotalWriteback,
			m.TotalPgPgIn, m.TotalPgPgOut, m.TotalPgFault, m.TotalPgMajFault,
			m.TotalInactiveAnon, m.TotalActiveAnon, m.TotalInactiveFile, m.TotalActiveFile, m.TotalUnevictable)
		for i, e := range []engine.MemoryEntry{m.Usage, m.Swap, m.Kernel, m.KernelTCP} {
			memory = wire.AppendMessage(memory, 33+i, integers(e.Limit, e.Usage, e.Max, e.Failcnt))
		}
		b = wire.AppendMessage(b, 4, memory)
	}
	blkio := blkioEntries(nil, 1, s.Blkio.ServiceBytes)
	blkio = blkioEntries(blkio, 2, s.Blkio.Serviced)
	b = wire.AppendMessage(b, 5, blkio)
	if s.Rdma != nil {
		b = wire.AppendMessage(b, 6, rdma(s.Rdma))
	}
	if o := s.OOMControl; o != nil {
		b = wire.AppendMessage(b, 9, integers(o.OOMKillDisable, o.UnderOOM, o.OOMKill))
	}
	return b
}

func encodeV2(s *engine.StatsV2) []byte {
	b := make([]byte, 0, 1024)
	b = wire.AppendMessage(b, 1, integers(s.Pids.Current, s.Pids.Limit))

	c := &s.CPU
	cpu := integers(c.UsageUsec, c.UserUsec, c.SystemUsec, c.NrPeriods, c.NrThrottled, c.ThrottledUsec)
	cpu = appendPressure(cpu, 7, c.Pressure)
	cpu = wire.AppendVarint(cpu, 8, c.NrBursts)
	cpu = wire.AppendVarint(cpu, 9, c.BurstUsec)
	b = wire.AppendMessage(b, 2, cpu)

	m := &s.Memory
	memory := integers(
		m.Anon, m.File, m.KernelStack, m.Slab, m.Sock, m.Shmem, m.FileMapped, m.FileDirty, m.FileWriteback, m.AnonThp,
		m.InactiveAnon, m.ActiveAnon, m.InactiveFile, m.ActiveFile, m.Unevictable, m.SlabReclaimable, m.SlabUnreclaimable,
		m.Pgfault, m.Pgmajfault, m.WorkingsetRefault, m.WorkingsetActivate, m.WorkingsetNodereclaim,
		m.Pgrefill, m.Pgscan, m.Pgsteal, m.Pgactivate, m.Pgdeactivate, m.Pglazyfree, m.Pglazyfreed,
		m.ThpFaultAlloc, m.ThpCollapseAlloc, m.Usage, m.UsageLimit, m.SwapUsage, m.SwapLimit, m.MaxUsage, m.SwapMaxUsage)
	b = wire.AppendMessage(b, 4, appendPressure(memory, 38, m.Pressure))

	b = wire.AppendMessage(b, 5, rdma(&s.Rdma))
	var io []byte
	for _, e := range s.IO {
		io = wire.AppendMessage(io, 1, integers(e.Major, e.Minor, e.Rbytes, e.Wbytes, e.Rios, e.Wios))
	}
	b = wire.AppendMessage(b, 6, appendPressure(io, 2, s.IOPressure))
	for _, h := range s.Hugetlb {
		hugetlb := wire.AppendString(integers(h.Current, h.Max), 3, h.Pagesize)
		b = wire.AppendMessage(b, 7, wire.AppendVarint(hugetlb, 4, h.Failcnt))
	}
	if e := s.MemoryEvents; e != nil {
		b = wire.AppendMessage(b, 8, integers(e.Low, e.High, e.Max, e.OOM, e.OOMKill, e.OOMGroupKill))
	}
	return b
}

// integers encodes fields 1, 2, 3, ... of a message.
func integers(values ...uint64) []byte {
	b := make([]byte, 0, 8*len(values))
	for i, v := range values {
		b = wire.AppendVarint(b, i+1, v)
	}
	return b
}

func blkioEntries(b []byte, num int, entries []engine.BlkioEntry) []byte {
	for _, e := range entries {
		entry := wire.AppendString(nil, 1, e.Op)
		entry = wire.AppendString(entry, 2, e.Device)
		entry = wire.AppendVarint(entry, 3, e.Major)
		entry = wire.AppendVarint(entry, 4, e.Minor)
		b = wire.AppendMessage(b, num, wire.AppendVarint(entry, 5, e.Value))
	}
	return b
}

func rdma(r *engine.Rdma) []byte {
	var b []byte
	for i, entries := range [][]engine.RdmaEntry{r.Current, r.Limit} {
		for _, e := range entries {
			entry := wire.AppendString(nil, 1, e.Device)
			entry = wire.AppendVarint(entry, 2, uint64(e.HcaHandles))
			b = wire.AppendMessage(b, i+1, wire.AppendVarint(entry, 3, uint64(e.HcaObjects)))
		}
	}
	return b
}

// appendPressure appends a PSIStats field, if the kernel has it.
func appendPressure(b []byte, num int, p *engine.Pressure) []byte {
	if p == nil {
		return b
	}
	var stats []byte
	for i, d := range []*engine.PressureData{p.Some, p.Full} {
		if d == nil {
			continue
		}
		var data []byte
		for j, v := range []float64{d.Avg10, d.Avg60, d.Avg300} {
			data = appendDouble(data, j+1, v)
		}
		stats = wire.AppendMessage(stats, i+1, wire.AppendVarint(data, 4, d.Total))
	}
	return wire.AppendMessage(b, num, stats)
}

// appendDouble appends a double field. Like proto3 it leaves zero out.
func appendDouble(b []byte, num int, v float64) []byte {
	if v == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(num)<<3|1) // wire type I64
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
}
