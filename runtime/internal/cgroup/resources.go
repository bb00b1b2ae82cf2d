package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// setting is one value to be written to one file of the cgroup.
type setting struct {
	property   string // of config.json, below linux.resources
	controller string
	knob
	// other is tried when the file does not exist.
	other knob
	// optional settings may go unset when no file exists for them: they ask for what is the case without it.
	optional bool
	// mayIgnore: there are kernels that take the value and do nothing about it.
	mayIgnore bool
}

// knob is a file and what is written to it.
type knob struct {
	file, value string
}

// compiler turns linux.resources into settings. A value of zero is the same as a missing one, and -1 means no limit,
// except where the runtime-spec says otherwise.
type compiler struct {
	host *Host
	// current reads a file of the live cgroup for an update; nil when the cgroup is still to be made.
	current func(controller, file string) (string, error)
	out     []setting
	errs    []error
}

// compile returns what has to be written for r, in an order in which most writes succeed at once.
func compile(r *specs.LinuxResources, h *Host, current func(controller, file string) (string, error)) ([]setting, error) {
	if r == nil {
		return nil, nil
	}
	b := &compiler{host: h, current: current}
	if r.Memory != nil {
		b.memory(r.Memory)
	}
	if r.CPU != nil {
		b.cpu(r.CPU)
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		b.pids(*r.Pids.Limit)
	}
	if r.BlockIO != nil {
		b.blockIO(r.BlockIO)
	}
	for i, l := range r.HugepageLimits {
		b.hugepages(fmt.Sprintf("hugepageLimits[%d]", i), l)
	}
	if r.Network != nil {
		b.network(r.Network)
	}
	for _, device := range slices.Sorted(maps.Keys(r.Rdma)) {
		b.rdma(device, r.Rdma[device])
	}
	for _, key := range slices.Sorted(maps.Keys(r.Unified)) {
		b.unified(key, r.Unified[key])
	}
	return b.out, errors.Join(b.errs...)
}

// set adds a setting in the controller's home. A knob without a file is one that this version of cgroups does not have.
func (b *compiler) set(property, controller string, v1, v2 knob) *setting {
	s := setting{property: property, controller: controller}
	switch b.host.home(controller) {
	case V1:
		s.knob = v1
	case V2:
		s.knob = v2
	default:
		return b.fail(property, "this host has no %s controller, neither mounted as cgroup v1 nor in cgroup2", controller)
	}
	if s.file == "" {
		return b.fail(property, "not supported by cgroup v%d", b.host.home(controller))
	}
	b.out = append(b.out, s)
	return &b.out[len(b.out)-1]
}

func (b *compiler) fail(property, format string, args ...any) *setting {
	b.errs = append(b.errs, fmt.Errorf("linux.resources.%s: %s", property, fmt.Sprintf(format, args...)))
	return new(setting)
}

func (b *compiler) memory(m *specs.LinuxMemory) {
	const memory = "memory"
	limit, swap := value(m.Limit), value(m.Swap)
	if limit < -1 || swap < -1 || value(m.Reservation) < -1 {
		b.fail(memory, "a limit is less than -1")
		return
	}
	if b.host.home(memory) == V1 {
		if limit == -1 && swap == 0 {
			swap = -1 // without a limit on memory, one on memory+swap would stay behind
		}
		if limit != 0 {
			b.set("memory.limit", memory, knob{"memory.limit_in_bytes", itoa(limit)}, knob{})
		}
		if swap != 0 {
			b.set("memory.swap", memory, knob{"memory.memsw.limit_in_bytes", itoa(swap)}, knob{}).optional = swap == -1
		}
	} else {
		b.swap(limit, swap)
		if limit != 0 {
			b.set("memory.limit", memory, knob{}, knob{"memory.max", orMax(limit)})
		}
	}
	if n := value(m.Reservation); n != 0 {
		b.set("memory.reservation", memory, knob{"memory.soft_limit_in_bytes", itoa(n)}, knob{"memory.low", orMax(n)})
	}
	if n := value(m.Kernel); n > 0 { //nolint:staticcheck // deprecated, but not to be dropped silently
		b.set("memory.kernel", memory, knob{"memory.kmem.limit_in_bytes", itoa(n)}, knob{}).mayIgnore = true
	}
	if n := value(m.KernelTCP); n > 0 {
		b.set("memory.kernelTCP", memory, knob{"memory.kmem.tcp.limit_in_bytes", itoa(n)}, knob{})
	}
	if m.Swappiness != nil && int64(*m.Swappiness) != -1 {
		if *m.Swappiness > 100 {
			b.fail("memory.swappiness", "%d is not between 0 and 100", *m.Swappiness)
		} else {
			b.set("memory.swappiness", memory, knob{"memory.swappiness", utoa(*m.Swappiness)}, knob{})
		}
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		b.set("memory.disableOOMKiller", memory, knob{"memory.oom_control", "1"}, knob{})
	}
	if m.UseHierarchy != nil && !*m.UseHierarchy {
		b.fail("memory.useHierarchy", "the kernel always accounts hierarchically since Linux 5.11")
	}
	if m.CheckBeforeUpdate != nil && *m.CheckBeforeUpdate && b.current != nil && b.host.home(memory) == V2 {
		b.checkUsage(limit, swap) // v1 refuses a limit below the usage by itself
	}
}

// swap sets the limit of swap, which config.json gives together with memory and v2 wants alone.
func (b *compiler) swap(limit, swap int64) {
	const property = "memory.swap"
	if swap > 0 && limit == 0 && b.current != nil {
		data, err := b.current("memory", "memory.max")
		if err != nil {
			b.errs = append(b.errs, err)
			return
		}
		if limit, err = strconv.ParseInt(data, 10, 64); err != nil {
			limit = -1 // "max"
		}
	}
	switch {
	case swap == 0 && limit == -1, swap == -1:
		b.set(property, "memory", knob{}, knob{"memory.swap.max", "max"}).optional = true
	case swap == 0:
	case limit == 0:
		b.fail(property, "needs memory.limit, which it includes")
	case limit == -1:
		b.set(property, "memory", knob{}, knob{"memory.swap.max", itoa(swap)})
	case swap < limit:
		b.fail(property, "%d is less than memory.limit %d, which it includes", swap, limit)
	default:
		b.set(property, "memory", knob{}, knob{"memory.swap.max", itoa(swap - limit)}).optional = swap == limit
	}
}

// checkUsage refuses limits that the cgroup exceeds already.
func (b *compiler) checkUsage(limit, swap int64) {
	data, err := b.current("memory", "memory.current")
	if err != nil {
		b.errs = append(b.errs, err)
		return
	}
	usage, err := strconv.ParseInt(data, 10, 64)
	if err != nil {
		b.errs = append(b.errs, fmt.Errorf("parse memory.current: %w", err))
		return
	}
	if limit > 0 && limit <= usage {
		b.fail("memory.limit", "%d is not above the current usage %d", limit, usage)
	}
	if swap > 0 && swap <= usage {
		b.fail("memory.swap", "%d is not above the current usage %d", swap, usage)
	}
}

func (b *compiler) cpu(c *specs.LinuxCPU) {
	const cpu = "cpu"
	if n := value(c.Shares); n != 0 {
		if b.host.home(cpu) == V1 && (n < 2 || n > 262144) {
			b.fail("cpu.shares", "%d is not between 2 and 262144", n)
		} else {
			b.set("cpu.shares", cpu, knob{"cpu.shares", utoa(n)}, knob{"cpu.weight", utoa(weightOfShares(n))})
		}
	}
	if c.Idle != nil {
		n := itoa(*c.Idle)
		b.set("cpu.idle", cpu, knob{"cpu.idle", n}, knob{"cpu.idle", n})
	}
	quota, period := value(c.Quota), value(c.Period)
	if b.host.home(cpu) == V1 {
		if period != 0 {
			b.set("cpu.period", cpu, knob{"cpu.cfs_period_us", utoa(period)}, knob{})
		}
		if quota != 0 {
			b.set("cpu.quota", cpu, knob{"cpu.cfs_quota_us", itoa(quota)}, knob{})
		}
	} else {
		b.cpuMax(quota, period)
	}
	if c.Burst != nil {
		n := utoa(*c.Burst)
		b.set("cpu.burst", cpu, knob{"cpu.cfs_burst_us", n}, knob{"cpu.max.burst", n}).optional = *c.Burst == 0
	}
	if n := value(c.RealtimePeriod); n != 0 {
		b.set("cpu.realtimePeriod", cpu, knob{"cpu.rt_period_us", utoa(n)}, knob{})
	}
	if n := value(c.RealtimeRuntime); n != 0 {
		b.set("cpu.realtimeRuntime", cpu, knob{"cpu.rt_runtime_us", itoa(n)}, knob{})
	}
	if c.Cpus != "" {
		b.set("cpu.cpus", "cpuset", knob{"cpuset.cpus", c.Cpus}, knob{"cpuset.cpus", c.Cpus})
	}
	if c.Mems != "" {
		b.set("cpu.mems", "cpuset", knob{"cpuset.mems", c.Mems}, knob{"cpuset.mems", c.Mems})
	}
}

// cpuMax sets quota and period, one file on v2. What is not given stays as it is.
func (b *compiler) cpuMax(quota int64, period uint64) {
	switch {
	case quota == 0 && period == 0:
	case period == 0:
		b.set("cpu.quota", "cpu", knob{}, knob{"cpu.max", orMax(quota)})
	case quota != 0:
		b.set("cpu.quota", "cpu", knob{}, knob{"cpu.max", orMax(quota) + " " + utoa(period)})
	case b.current == nil:
		b.set("cpu.period", "cpu", knob{}, knob{"cpu.max", "max " + utoa(period)})
	default:
		data, err := b.current("cpu", "cpu.max")
		if err != nil {
			b.errs = append(b.errs, err)
			return
		}
		old, _, _ := strings.Cut(data, " ")
		b.set("cpu.period", "cpu", knob{}, knob{"cpu.max", old + " " + utoa(period)})
	}
}

func (b *compiler) pids(limit int64) {
	if limit < 0 && b.host.home("pids") == 0 {
		return // nothing limits them without the controller
	}
	if limit == 0 {
		limit = 1 // 0 would keep out init itself; with 1 it is alone. systemd has no 0 either.
	}
	k := knob{"pids.max", orMax(limit)}
	b.set("pids.limit", "pids", k, k)
}

func (b *compiler) blockIO(io *specs.LinuxBlockIO) {
	// The io controller is called blkio on v1.
	controller := "blkio"
	if b.host.home(controller) != V1 {
		controller = "io"
	}
	if n := value(io.Weight); n != 0 {
		v := utoa(uint64(n))
		b.set("blockIO.weight", controller, knob{"blkio.bfq.weight", v}, knob{"io.bfq.weight", v}).other =
			b.ioWeight(knob{"io.weight", utoa(ioWeightOf(n))})
	}
	if value(io.LeafWeight) != 0 {
		b.set("blockIO.leafWeight", controller, knob{"blkio.leaf_weight", utoa(uint64(*io.LeafWeight))}, knob{})
	}
	for i, d := range io.WeightDevice {
		property, dev := fmt.Sprintf("blockIO.weightDevice[%d]", i), fmt.Sprintf("%d:%d ", d.Major, d.Minor)
		if n := value(d.Weight); n != 0 {
			v := dev + utoa(uint64(n))
			b.set(property+".weight", controller, knob{"blkio.bfq.weight_device", v}, knob{"io.bfq.weight", v}).other =
				b.ioWeight(knob{"io.weight", dev + utoa(ioWeightOf(n))})
		}
		if n := value(d.LeafWeight); n != 0 {
			b.set(property+".leafWeight", controller, knob{"blkio.leaf_weight_device", dev + utoa(uint64(n))}, knob{})
		}
	}
	for _, t := range []struct {
		property, v1, v2 string
		devices          []specs.LinuxThrottleDevice
	}{
		{"throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps", io.ThrottleReadBpsDevice},
		{"throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps", io.ThrottleWriteBpsDevice},
		{"throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops", io.ThrottleReadIOPSDevice},
		{"throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops", io.ThrottleWriteIOPSDevice},
	} {
		for i, d := range t.devices {
			dev, rate := fmt.Sprintf("%d:%d ", d.Major, d.Minor), utoa(d.Rate)
			if d.Rate == 0 { // takes a limit away
				b.set(fmt.Sprintf("blockIO.%s[%d]", t.property, i), controller,
					knob{t.v1, dev + "0"}, knob{"io.max", dev + t.v2 + "=max"})
				continue
			}
			b.set(fmt.Sprintf("blockIO.%s[%d]", t.property, i), controller,
				knob{t.v1, dev + rate}, knob{"io.max", dev + t.v2 + "=" + rate})
		}
	}
}

// ioWeight returns the knob of the iocost controller, which is there when BFQ is not; v1 has none.
func (b *compiler) ioWeight(k knob) knob {
	if b.host.home("blkio") == V1 {
		return knob{}
	}
	return k
}

func (b *compiler) hugepages(property string, l specs.LinuxHugepageLimit) {
	if l.Pagesize == "" || strings.ContainsAny(l.Pagesize, "/.") {
		b.fail(property+".pageSize", "%q is not a page size", l.Pagesize)
		return
	}
	prefix, n := "hugetlb."+l.Pagesize, utoa(l.Limit)
	b.set(property, "hugetlb", knob{prefix + ".limit_in_bytes", n}, knob{prefix + ".max", n})
	// Reservations are limited apart from usage since Linux 5.7.
	b.set(property, "hugetlb", knob{prefix + ".rsvd.limit_in_bytes", n}, knob{prefix + ".rsvd.max", n}).optional = true
}

func (b *compiler) network(n *specs.LinuxNetwork) {
	if id := value(n.ClassID); id != 0 {
		b.set("network.classID", "net_cls", knob{"net_cls.classid", utoa(uint64(id))}, knob{})
	}
	for i, p := range n.Priorities {
		b.set(fmt.Sprintf("network.priorities[%d]", i), "net_prio",
			knob{"net_prio.ifpriomap", p.Name + " " + utoa(uint64(p.Priority))}, knob{})
	}
}

func (b *compiler) rdma(device string, l specs.LinuxRdma) {
	v := device
	if l.HcaHandles != nil {
		v += " hca_handle=" + utoa(uint64(*l.HcaHandles))
	}
	if l.HcaObjects != nil {
		v += " hca_object=" + utoa(uint64(*l.HcaObjects))
	}
	b.set(fmt.Sprintf("rdma[%q]", device), "rdma", knob{"rdma.max", v}, knob{"rdma.max", v})
}

// unified sets files of the cgroup2 tree by name. On a hybrid host that tree has the cgroup.* files and the controllers
// that no v1 hierarchy took.
func (b *compiler) unified(file, value string) {
	property := fmt.Sprintf("unified[%q]", file)
	controller, _, ok := strings.Cut(file, ".")
	if !ok || strings.Contains(file, "/") {
		b.fail(property, "is not of the form CONTROLLER.PARAMETER")
		return
	}
	switch {
	case b.host.home(controller) == V1:
		b.fail(property, "the %s controller is in cgroup v1 on this host", controller)
		return
	case b.host.Unified == "":
		b.fail(property, "cgroup2 is not mounted on this host")
		return
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(value, "\n"), "\n") {
		b.set(property, controller, knob{}, knob{file, line})
	}
}

// weightOfShares converts cpu.shares (2 to 262144, 1024 by default) to cpu.weight (1 to 10000, 100 by default) with the
// curve through minimum, default and maximum that the OCI runtimes agreed on.
func weightOfShares(shares uint64) uint64 {
	switch {
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// ioWeightOf converts blkio.weight (10 to 1000) to io.weight (1 to 10000) linearly.
func ioWeightOf(weight uint16) uint64 {
	return 1 + (max(uint64(weight), 10)-10)*9999/990
}

// value returns what p points to, or zero.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func itoa(n int64) string  { return strconv.FormatInt(n, 10) }
func utoa(n uint64) string { return strconv.FormatUint(n, 10) }

// orMax formats a limit for v2, where what v1 calls -1 is called max.
func orMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return itoa(n)
}
