package cgroup

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The hosts that limits are compiled for: all controllers on one side, and a hybrid one with hugetlb in the cgroup2 tree.
func compileHosts() (v1, v2, hybrid *Host) {
	v1 = &Host{Mode: V1}
	for _, name := range []string{"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "net_cls", "net_prio", "rdma"} {
		v1.Hierarchies = append(v1.Hierarchies, Hierarchy{Controllers: []string{name}})
	}
	v2 = &Host{Mode: V2, Unified: "/u", UnifiedControllers: []string{"cpu", "cpuset", "memory", "pids", "io", "hugetlb", "rdma"}}
	hybrid = &Host{Mode: V1, Hierarchies: v1.Hierarchies[:5], Unified: "/u", UnifiedControllers: []string{"hugetlb"}}
	return v1, v2, hybrid
}

func TestCompile(t *testing.T) {
	v1, v2, hybrid := compileHosts()
	live := map[string]string{"memory.max": "100", "memory.current": "50", "cpu.max": "7 100000"}
	for _, test := range []struct {
		host   *Host
		update bool
		json   string
		want   string // settings, or the error
	}{
		{v1, false, `{}`, ``},
		{v1, false, `{"memory":{"limit":100,"swap":200,"reservation":50,"swappiness":0,"disableOOMKiller":true,"useHierarchy":true}}`,
			`memory.limit_in_bytes=100 memory.memsw.limit_in_bytes=200 memory.soft_limit_in_bytes=50 memory.swappiness=0 memory.oom_control=1`},
		{v1, false, `{"memory":{"limit":-1}}`, `memory.limit_in_bytes=-1 memory.memsw.limit_in_bytes=-1?`},
		{v1, false, `{"memory":{"limit":0,"swap":0,"kernel":0,"kernelTCP":-1,"disableOOMKiller":false}}`, ``},
		{v2, false, `{"memory":{"limit":100,"swap":200,"reservation":50}}`, `memory.swap.max=100 memory.max=100 memory.low=50`},
		{v2, false, `{"memory":{"limit":100,"swap":100}}`, `memory.swap.max=0? memory.max=100`},
		{v2, false, `{"memory":{"limit":100,"swap":-1}}`, `memory.swap.max=max? memory.max=100`},
		{v2, false, `{"memory":{"limit":-1}}`, `memory.swap.max=max? memory.max=max`},
		{v2, false, `{"memory":{"limit":-1,"swap":50}}`, `memory.swap.max=50 memory.max=max`},
		{v2, true, `{"memory":{"swap":150}}`, `memory.swap.max=50`},
		{v2, true, `{"memory":{"limit":60,"checkBeforeUpdate":true}}`, `memory.max=60`},
		{v2, false, `{"memory":{"limit":60,"checkBeforeUpdate":true}}`, `memory.max=60`},

		{v1, false, `{"cpu":{"shares":1024,"quota":50000,"period":100000,"burst":1000,"cpus":"0-1","mems":"0","idle":1}}`,
			`cpu.shares=1024 cpu.idle=1 cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000 cpu.cfs_burst_us=1000 cpuset.cpus=0-1 cpuset.mems=0`},
		{v1, false, `{"cpu":{"realtimeRuntime":950000,"realtimePeriod":1000000}}`, `cpu.rt_period_us=1000000 cpu.rt_runtime_us=950000`},
		{v2, false, `{"cpu":{"shares":1024,"quota":50000,"period":100000,"burst":1000,"cpus":"0-1","mems":"0","idle":1}}`,
			`cpu.weight=100 cpu.idle=1 cpu.max=50000 100000 cpu.max.burst=1000 cpuset.cpus=0-1 cpuset.mems=0`},
		{v2, false, `{"cpu":{"quota":-1}}`, `cpu.max=max`},
		{v2, false, `{"cpu":{"quota":5000}}`, `cpu.max=5000`},
		{v2, false, `{"cpu":{"period":5000}}`, `cpu.max=max 5000`},
		{v2, true, `{"cpu":{"period":5000}}`, `cpu.max=7 5000`},
		{v2, false, `{"cpu":{"shares":0,"quota":0,"period":0}}`, ``},

		{v1, false, `{"pids":{"limit":7}}`, `pids.max=7`},
		{v2, false, `{"pids":{"limit":0}}`, `pids.max=1`},
		{v2, false, `{"pids":{"limit":-1}}`, `pids.max=max`},

		{v1, false, `{"blockIO":{"weight":10,"weightDevice":[{"major":8,"minor":0,"weight":500}],
			"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1024}],"throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":0}]}}`,
			`blkio.bfq.weight=10 blkio.bfq.weight_device=8:0 500 blkio.throttle.read_bps_device=8:0 1024 blkio.throttle.write_iops_device=8:16 0`},
		{v2, false, `{"blockIO":{"weight":10,"weightDevice":[{"major":8,"minor":0,"weight":1000}],
			"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1024}],"throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":0}]}}`,
			`io.bfq.weight=10|io.weight=1 io.bfq.weight=8:0 1000|io.weight=8:0 10000 io.max=8:0 rbps=1024 io.max=8:16 wiops=max`},

		{v1, false, `{"hugepageLimits":[{"pageSize":"2MB","limit":4}]}`, `hugetlb.2MB.limit_in_bytes=4 hugetlb.2MB.rsvd.limit_in_bytes=4?`},
		{v2, false, `{"hugepageLimits":[{"pageSize":"2MB","limit":4}]}`, `hugetlb.2MB.max=4 hugetlb.2MB.rsvd.max=4?`},
		{hybrid, false, `{"hugepageLimits":[{"pageSize":"2MB","limit":4}],"pids":{"limit":3}}`,
			`pids.max=3 hugetlb.2MB.max=4 hugetlb.2MB.rsvd.max=4?`},
		{v1, false, `{"network":{"classID":1048577,"priorities":[{"name":"eth0","priority":500}]}}`,
			`net_cls.classid=1048577 net_prio.ifpriomap=eth0 500`},
		{v1, false, `{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":4},"a":{"hcaObjects":1}}}`,
			`rdma.max=a hca_object=1 rdma.max=mlx5_1 hca_handle=3 hca_object=4`},
		{v2, false, `{"unified":{"memory.high":"10","io.max":"8:0 rbps=1\n8:16 rbps=2\n","cgroup.max.depth":"3"}}`,
			`cgroup.max.depth=3 io.max=8:0 rbps=1 io.max=8:16 rbps=2 memory.high=10`},
		{hybrid, false, `{"unified":{"cgroup.max.depth":"3","hugetlb.2MB.max":"0"}}`, `cgroup.max.depth=3 hugetlb.2MB.max=0`},

		{v2, false, `{"memory":{"swap":100}}`, `linux.resources.memory.swap: needs memory.limit, which it includes`},
		{v2, false, `{"memory":{"limit":100,"swap":99}}`, `linux.resources.memory.swap: 99 is less than memory.limit 100, which it includes`},
		{v2, true, `{"memory":{"limit":40,"checkBeforeUpdate":true}}`, `linux.resources.memory.limit: 40 is not above the current usage 50`},
		{v2, false, `{"memory":{"limit":-2}}`, `linux.resources.memory: a limit is less than -1`},
		{v2, false, `{"memory":{"kernel":1}}`, `linux.resources.memory.kernel: not supported by cgroup v2`},
		{v2, false, `{"memory":{"swappiness":1}}`, `linux.resources.memory.swappiness: not supported by cgroup v2`},
		{v1, false, `{"memory":{"swappiness":101}}`, `linux.resources.memory.swappiness: 101 is not between 0 and 100`},
		{v2, false, `{"memory":{"disableOOMKiller":true}}`, `linux.resources.memory.disableOOMKiller: not supported by cgroup v2`},
		{v1, false, `{"memory":{"useHierarchy":false}}`,
			`linux.resources.memory.useHierarchy: the kernel always accounts hierarchically since Linux 5.11`},
		{v1, false, `{"cpu":{"shares":1}}`, `linux.resources.cpu.shares: 1 is not between 2 and 262144`},
		{v2, false, `{"cpu":{"realtimeRuntime":1}}`, `linux.resources.cpu.realtimeRuntime: not supported by cgroup v2`},
		{v2, false, `{"blockIO":{"leafWeight":10}}`, `linux.resources.blockIO.leafWeight: not supported by cgroup v2`},
		{hybrid, false, `{"network":{"classID":1}}`, `linux.resources.network.classID: this host has no net_cls controller, neither mounted as cgroup v1 nor in cgroup2`},
		{v1, false, `{"unified":{"memory.max":"1"}}`, `linux.resources.unified["memory.max"]: the memory controller is in cgroup v1 on this host`},
		{v1, false, `{"unified":{"cgroup.freeze":"1"}}`, `linux.resources.unified["cgroup.freeze"]: cgroup2 is not mounted on this host`},
		{v2, false, `{"unified":{"../x.y":"1"}}`, `linux.resources.unified["../x.y"]: is not of the form CONTROLLER.PARAMETER`},
		{v2, false, `{"unified":{"memory":"1"}}`, `linux.resources.unified["memory"]: is not of the form CONTROLLER.PARAMETER`},
		{v1, false, `{"hugepageLimits":[{"pageSize":"../2MB","limit":4}]}`, `linux.resources.hugepageLimits[0].pageSize: "../2MB" is not a page size`},
	} {
		var r specs.LinuxResources
		if err := json.Unmarshal([]byte(test.json), &r); err != nil {
			t.Fatal(err)
		}
		var current func(controller, file string) (string, error)
		if test.update {
			current = func(_, file string) (string, error) {
				if v, ok := live[file]; ok {
					return v, nil
				}
				return "", os.ErrNotExist
			}
		}
		settings, err := compile(&r, test.host, current)
		got := describe(settings)
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("v%d %s:\ngot  %s\nwant %s", test.host.Mode, test.json, got, test.want)
		}
	}
}

// describe writes settings as "file=value", with "?" behind optional ones and "|" before another file to try.
func describe(settings []setting) string {
	var words []string
	for _, s := range settings {
		w := s.file + "=" + s.value
		if s.other.file != "" {
			w += "|" + s.other.file + "=" + s.other.value
		}
		if s.optional {
			w += "?"
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

// The values that the OCI runtimes agreed on.
func TestConversions(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 10: 4, 512: 59, 1024: 100, 2048: 174, 262144: 10000, 1 << 20: 10000} {
		if got := weightOfShares(shares); got != want {
			t.Errorf("cpu.shares %d: weight %d, want %d", shares, got, want)
		}
	}
	for weight, want := range map[uint16]uint64{1: 1, 10: 1, 500: 4950, 1000: 10000} {
		if got := ioWeightOf(weight); got != want {
			t.Errorf("blkio.weight %d: io.weight %d, want %d", weight, got, want)
		}
	}
}

func TestLimitProperties(t *testing.T) {
	for _, test := range []struct {
		settings string
		version  int
		want     string
	}{
		{"memory.max=100 memory.swap.max=max pids.max=0 cpu.weight=50 memory.min=1", 252,
			"MemoryMax=100 MemorySwapMax=18446744073709551615 TasksMax=1 CPUWeight=50 MemoryMin=1"},
		{"cpu.max=50000_100000", 252, "CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=500000"},
		{"cpu.max=1234_100000", 252, "CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=20000"},
		{"cpu.max=max_100000", 252, "CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=18446744073709551615"},
		{"cpu.max=50000", 252, "CPUQuotaPerSecUSec=500000"},
		{"cpu.cfs_period_us=1000 cpu.cfs_quota_us=-1", 252, "CPUQuotaPeriodUSec=1000 CPUQuotaPerSecUSec=18446744073709551615"},
		{"cpuset.cpus=0,3,9-10 cpuset.mems=0", 252, "AllowedCPUs=[9 6] AllowedMemoryNodes=[1]"},
		{"cpu.weight=50 cpu.idle=1", 252, "CPUWeight=0"},
		{"cpu.weight=50 cpu.idle=1", 251, "CPUWeight=50"},
		{"memory.oom.group=1 io.max=8:0", 253, "OOMPolicy=kill"},
		{"memory.oom.group=1", 252, ""},
	} {
		var settings []setting
		for word := range strings.FieldsSeq(test.settings) {
			file, v, _ := strings.Cut(word, "=")
			settings = append(settings, setting{knob: knob{file, strings.ReplaceAll(v, "_", " ")}})
		}
		properties, err := limitProperties(settings, test.version, true)
		if err != nil {
			t.Errorf("%s: %v", test.settings, err)
		}
		var words []string
		for _, p := range properties {
			words = append(words, p.Name+"="+jsonText(t, p.Value.Value()))
		}
		if got := strings.Join(words, " "); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.settings, got, test.want)
		}
	}
	if v := parseVersion(`"v252.38-1~deb12u1"`); v != 252 {
		t.Errorf("version %d", v)
	}
	for _, bad := range []string{"", "3-1", "a", "1-", "4294967295"} {
		if bits, err := listBits(bad); err == nil {
			t.Errorf("list %q: %v", bad, bits)
		}
	}
}

func jsonText(t *testing.T, v any) string {
	t.Helper()
	if b, ok := v.([]byte); ok { // not as base64
		ints := make([]int, len(b))
		for i := range b {
			ints[i] = int(b[i])
		}
		v = ints
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Trim(strings.ReplaceAll(string(text), ",", " "), `"`)
}
