package cgroup

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// fileCase is one sub-field of linux.resources and what the files of the cgroup say then.
type fileCase struct {
	property   string // as errors name it
	json       string // linux.resources
	controller string
	v1, v2     []knob // any of them will do, for kernels that differ; none: this version of cgroups does not have it
	shown      string // what the file says, if that is not what was written
}

func fileCases(t *testing.T) []fileCase {
	dev := blockDevice(t)
	at := func(text string) string {
		major, minor, _ := strings.Cut(dev, ":")
		return strings.NewReplacer("MAJ:MIN", dev, `"major":MAJ`, `"major":`+major, `"minor":MIN`, `"minor":`+minor,
			"SIZE", hugePage()).Replace(text)
	}
	one := func(file, v string) []knob { return []knob{{at(file), at(v)}} }
	throttle := func(property, v1, v2 string) fileCase {
		return fileCase{"blockIO." + property + "[0]", at(`{"blockIO":{"` + property + `":[{"major":MAJ,"minor":MIN,"rate":65536}]}}`),
			"blkio", one(v1, "MAJ:MIN 65536"), one("io.max", "MAJ:MIN "+v2+"=65536"), ""}
	}
	return []fileCase{
		{"memory.limit", `{"memory":{"limit":67108864}}`, "memory", one("memory.limit_in_bytes", "67108864"), one("memory.max", "67108864"), ""},
		{"memory.reservation", `{"memory":{"reservation":33554432}}`, "memory", one("memory.soft_limit_in_bytes", "33554432"), one("memory.low", "33554432"), ""},
		{"memory.swap", `{"memory":{"limit":67108864,"swap":100663296}}`, "memory", one("memory.memsw.limit_in_bytes", "100663296"), one("memory.swap.max", "33554432"), ""},
		{"memory.kernel", `{"memory":{"kernel":1048576}}`, "memory", one("memory.kmem.limit_in_bytes", "1048576"), nil, ""},
		{"memory.kernelTCP", `{"memory":{"kernelTCP":1048576}}`, "memory", one("memory.kmem.tcp.limit_in_bytes", "1048576"), nil, ""},
		{"memory.swappiness", `{"memory":{"swappiness":33}}`, "memory", one("memory.swappiness", "33"), nil, ""},
		{"memory.disableOOMKiller", `{"memory":{"disableOOMKiller":true}}`, "memory", one("memory.oom_control", "1"), nil, "oom_kill_disable 1"},
		{"cpu.shares", `{"cpu":{"shares":512}}`, "cpu", one("cpu.shares", "512"), one("cpu.weight", "59"), ""},
		{"cpu.period", `{"cpu":{"period":50000}}`, "cpu", one("cpu.cfs_period_us", "50000"), one("cpu.max", "max 50000"), ""},
		{"cpu.quota", `{"cpu":{"quota":20000,"period":50000}}`, "cpu", one("cpu.cfs_quota_us", "20000"), one("cpu.max", "20000 50000"), ""},
		{"cpu.burst", `{"cpu":{"quota":20000,"burst":10000}}`, "cpu", one("cpu.cfs_burst_us", "10000"), one("cpu.max.burst", "10000"), ""},
		{"cpu.idle", `{"cpu":{"idle":1}}`, "cpu", one("cpu.idle", "1"), one("cpu.idle", "1"), ""},
		{"cpu.realtimePeriod", `{"cpu":{"realtimePeriod":500000}}`, "cpu", one("cpu.rt_period_us", "500000"), nil, ""},
		{"cpu.cpus", `{"cpu":{"cpus":"0"}}`, "cpuset", one("cpuset.cpus", "0"), one("cpuset.cpus", "0"), ""},
		{"cpu.mems", `{"cpu":{"mems":"0"}}`, "cpuset", one("cpuset.mems", "0"), one("cpuset.mems", "0"), ""},
		{"pids.limit", `{"pids":{"limit":7}}`, "pids", one("pids.max", "7"), one("pids.max", "7"), ""},
		{"pids.limit", `{"pids":{"limit":0}}`, "pids", one("pids.max", "1"), one("pids.max", "1"), ""},
		{"pids.limit", `{"pids":{"limit":-1}}`, "pids", one("pids.max", "max"), one("pids.max", "max"), ""},
		{"blockIO.weight", `{"blockIO":{"weight":200}}`, "blkio", one("blkio.bfq.weight", "200"),
			[]knob{{"io.bfq.weight", "200"}, {"io.weight", "1920"}}, ""},
		{"blockIO.leafWeight", `{"blockIO":{"leafWeight":200}}`, "blkio", one("blkio.leaf_weight", "200"), nil, ""},
		{"blockIO.weightDevice[0].weight", at(`{"blockIO":{"weightDevice":[{"major":MAJ,"minor":MIN,"weight":200}]}}`), "blkio",
			one("blkio.bfq.weight_device", "MAJ:MIN 200"),
			slices.Concat(one("io.bfq.weight", "MAJ:MIN 200"), one("io.weight", "MAJ:MIN 1920")), ""},
		{"blockIO.weightDevice[0].leafWeight", at(`{"blockIO":{"weightDevice":[{"major":MAJ,"minor":MIN,"leafWeight":200}]}}`), "blkio",
			one("blkio.leaf_weight_device", "MAJ:MIN 200"), nil, ""},
		throttle("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"),
		throttle("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"),
		throttle("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"),
		throttle("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"),
		{"hugepageLimits[0]", at(`{"hugepageLimits":[{"pageSize":"SIZE","limit":1073741824}]}`), "hugetlb",
			one("hugetlb.SIZE.limit_in_bytes", "1073741824"), one("hugetlb.SIZE.max", "1073741824"), ""},
		{"hugepageLimits[0]", at(`{"hugepageLimits":[{"pageSize":"SIZE","limit":0}]}`), "hugetlb",
			one("hugetlb.SIZE.rsvd.limit_in_bytes", "0"), one("hugetlb.SIZE.rsvd.max", "0"), ""},
		{"network.classID", `{"network":{"classID":1048577}}`, "net_cls", one("net_cls.classid", "1048577"), nil, ""},
		{"network.priorities[0]", `{"network":{"priorities":[{"name":"lo","priority":3}]}}`, "net_prio", one("net_prio.ifpriomap", "lo 3"), nil, ""},
		{`rdma["mlx5_1"]`, `{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":4}}}`, "rdma",
			one("rdma.max", "mlx5_1 hca_handle=3 hca_object=4"), one("rdma.max", "mlx5_1 hca_handle=3 hca_object=4"), ""},
		{`unified["memory.high"]`, `{"unified":{"memory.high":"67108864"}}`, "memory", nil, one("memory.high", "67108864"), ""},
		{at(`unified["hugetlb.SIZE.max"]`), at(`{"unified":{"hugetlb.SIZE.max":"0"}}`), "hugetlb", nil, one("hugetlb.SIZE.max", "0"), ""},
		{`unified["cgroup.max.depth"]`, `{"unified":{"cgroup.max.depth":"3"}}`, "cgroup", nil, one("cgroup.max.depth", "3"), ""},
		{`unified["cgroup.nothing"]`, `{"unified":{"cgroup.nothing":"3"}}`, "cgroup", nil, one("cgroup.nothing", "3"), ""},
	}
}

// TestResourceFiles sets every sub-field of linux.resources, at creation and for a live cgroup. Either the file says so
// afterwards, or the error names the property and the kernel itself cannot do it.
func TestResourceFiles(t *testing.T) {
	if os.Getenv(netHierarchiesEnv) != "" {
		mountNetHierarchies(t)
	}
	hosts(t, func(t *testing.T, h *Host) {
		bare := create(t, h, nil)
		for _, test := range fileCases(t) {
			t.Run(test.property+" "+test.json, func(t *testing.T) {
				var r specs.LinuxResources
				if err := json.Unmarshal([]byte(test.json), &r); err != nil {
					t.Fatal(err)
				}
				controller := test.controller
				knobs := test.v1
				if h.home(controller) != V1 {
					controller, knobs = strings.Replace(controller, "blkio", "io", 1), test.v2
				}
				// The live cgroup: it is set there, too.
				live := create(t, h, nil)
				test.check(t, live, live.Set(&r), bare, controller, knobs)

				c, err := New(h, Config{Path: testRoot + "/files", Resources: &r})
				if err == nil {
					err = c.Create()
					defer func() {
						if err := c.Destroy(timeout(t)); err != nil {
							t.Error(err)
						}
					}()
				}
				test.check(t, c, err, bare, controller, knobs)
				if err != nil && c != nil {
					for _, path := range c.all() {
						if _, err := os.Stat(path); !os.IsNotExist(err) {
							t.Errorf("%s is left behind: %v", path, err)
						}
					}
				}
			})
		}
	})
}

// TestResourceDocs: docs/cgroups.md names every property with its files.
func TestResourceDocs(t *testing.T) {
	data, err := os.ReadFile("../../../docs/cgroups.md")
	if err != nil {
		t.Fatal(err)
	}
	general := regexp.MustCompile(`\[[^]]*\]`) // which of a list
	rows := map[string][]string{}
	for line := range strings.Lines(string(data)) {
		if cells := strings.Split(line, "|"); len(cells) > 4 && strings.HasPrefix(cells[1], " `") {
			rows[strings.Trim(cells[1], " `")] = cells
		}
	}
	for _, test := range fileCases(t) {
		property := general.ReplaceAllString(test.property, "[]")
		cells := rows[property]
		if cells == nil {
			t.Errorf("docs/cgroups.md has no row for %s", property)
			continue
		}
		for i, knobs := range [][]knob{test.v1, test.v2} {
			cell := cells[2+i]
			if (knobs == nil) != strings.Contains(cell, "–") {
				t.Errorf("%s, cgroup v%d: %q, and there is %v", property, i+1, cell, knobs)
			}
			for _, k := range knobs {
				file := strings.Replace(k.file, hugePage(), "SIZE", 1)
				if !strings.Contains(cell, "`"+file+"`") && property != "unified[]" {
					t.Errorf("%s, cgroup v%d: %q does not name %s", property, i+1, cell, file)
				}
			}
		}
	}
}

func (f *fileCase) check(t *testing.T, c *Cgroup, err error, bare *Cgroup, controller string, knobs []knob) {
	t.Helper()
	if err != nil {
		t.Log("refused:", err)
		if !strings.Contains(err.Error(), "linux.resources."+f.property) {
			t.Errorf("the error does not name the property: %v", err)
		}
		if bare.host.home(controller) == 0 {
			if !strings.Contains(err.Error(), controller) {
				t.Errorf("the error does not name the controller: %v", err)
			}
			return
		}
		if !slices.ContainsFunc(knobs, func(k knob) bool { return f.works(bare, controller, k) }) {
			return
		}
		t.Errorf("refused, although the kernel can do it: %v", err)
		return
	}
	for _, k := range knobs {
		if f.says(c.file(controller, k.file), k) {
			return
		}
	}
	t.Errorf("set without an error, but the files %q do not say so", knobs)
}

// works tells whether the kernel takes a value.
func (f *fileCase) works(bare *Cgroup, controller string, k knob) bool {
	path := bare.file(controller, k.file)
	return writeFile(path, k.value) == nil && f.says(path, k)
}

// says tells whether some line of a file has the words of the value.
func (f *fileCase) says(path string, k knob) bool {
	want := k.value
	if f.shown != "" {
		want = f.shown
	}
	content, err := readFile(path)
	if err != nil {
		return false
	}
	for line := range strings.Lines(content) {
		if isSubset(strings.Fields(want), strings.Fields(line)) {
			return true
		}
	}
	return false
}

// blockDevice returns the number of some disk of this machine, as MAJOR:MINOR.
func blockDevice(t *testing.T) string {
	t.Helper()
	names, _ := filepath.Glob("/sys/block/*/dev")
	for _, name := range names {
		if data, err := os.ReadFile(name); err == nil {
			return strings.TrimSpace(string(data))
		}
	}
	return "0:0" // there is none, which the kernel will say
}

// hugePage returns a size of huge pages of this machine.
func hugePage() string {
	sizes := (&statReader{}).pageSizes()
	if len(sizes) == 0 {
		return "2MB" // there is none, which the kernel will say
	}
	return sizes[len(sizes)-1]
}

// TestRealtime gives a cgroup real-time, which a directory below one that has none cannot get.
func TestRealtime(t *testing.T) {
	h := probe(t)
	if h.home("cpu") != V1 {
		t.Skip("the cpu controller is not in cgroup v1")
	}
	if _, err := os.Stat(filepath.Join(testMount(h, "cpu"), "cpu.rt_runtime_us")); err != nil {
		t.Skip("the kernel has no real-time group scheduling (CONFIG_RT_GROUP_SCHED)")
	}
	r := &specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimePeriod: ptr(uint64(500_000)), RealtimeRuntime: ptr(int64(1000))}}
	top, err := New(h, Config{Path: testRoot + "-realtime", Resources: r})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := top.Destroy(timeout(t)); err != nil {
			t.Error(err)
		}
	})
	if err := top.Create(); err != nil {
		t.Fatal(err)
	}
	checkFiles(t, top, map[string]string{"cpu.rt_runtime_us": "1000", "cpu.rt_period_us": "500000"}, nil, nil)
	below, err := New(h, Config{Path: testRoot + "/realtime", Resources: r})
	if err != nil {
		t.Fatal(err)
	}
	if err := below.Create(); err == nil || !strings.Contains(err.Error(), "must have that much to give away") {
		t.Errorf("below a cgroup without real-time: %v", err)
	}
}

func testMount(h *Host, controller string) string {
	for _, hier := range h.Hierarchies {
		if slices.Contains(hier.Controllers, controller) {
			return hier.Mount
		}
	}
	return ""
}

const netHierarchiesEnv = "GOSUDA_TEST_NET_HIERARCHIES"

// TestResourceFilesNet is TestResourceFiles with the hierarchies of net_cls and net_prio, which few hosts mount, in a mount
// namespace of its own, so that nobody else uses them.
func TestResourceFilesNet(t *testing.T) {
	h := probe(t)
	if h.Mode == V2 {
		t.Skip("net_cls and net_prio are of cgroup v1")
	}
	if h.home("net_cls") == V1 {
		t.Skip("net_cls is mounted: TestResourceFiles has used it")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestResourceFiles$/^(hybrid|v1)$/^(network|memory.limit)", "-test.v")
	cmd.Env = append(os.Environ(), netHierarchiesEnv+"=1")
	cmd.SysProcAttr = &unix.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), noNetHierarchies) {
		t.Skip(noNetHierarchies)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestResourceFiles/v1/network.classID") {
		t.Errorf("%v\n%s", err, out)
	}
}

const noNetHierarchies = "the kernel has no net_cls and net_prio (CONFIG_CGROUP_NET_CLASSID, CONFIG_CGROUP_NET_PRIO)"

func mountNetHierarchies(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("cgroup", dir, "cgroup", 0, "net_cls,net_prio"); errors.Is(err, unix.EINVAL) {
		t.Skip(noNetHierarchies)
	} else if err != nil {
		t.Fatal(fmt.Errorf("mount net_cls,net_prio: %w", err))
	}
	t.Cleanup(func() {
		_ = rmdir(dir + testRoot)
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
}

// A limit below what is in use is refused when the caller asks to look first, and stays as it was.
func TestCheckBeforeUpdate(t *testing.T) {
	hosts(t, func(t *testing.T, h *Host) {
		c := create(t, h, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20))}})
		p := run(t, c, helperEnv+`=hold exec "$SELF"`)
		if line := p.line(t); line != "holding" {
			t.Fatal(line)
		}
		err := c.Set(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(4 << 20)), CheckBeforeUpdate: ptr(true)}})
		if err == nil || !strings.Contains(err.Error(), "linux.resources.memory.limit") {
			t.Errorf("a limit of 4 MiB with 16 MiB in use: %v", err)
		}
		limit := strconv.Itoa(64 << 20)
		checkFiles(t, c, map[string]string{"memory.limit_in_bytes": limit}, map[string]string{"memory.max": limit}, nil)
	})
}
