package cgroup

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// FuzzParseHost: whatever mounts and cgroup names there are, and a container's may have any, we and our hierarchies are where the
// kernel said that cgroups are mounted.
func FuzzParseHost(f *testing.F) {
	const v1 = "30 20 0:26 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n31 20 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	f.Add(v1, "4:memory:/a\n0::/b\n")
	f.Add("31 20 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/user.slice\n")
	f.Add("31 20 0:27 /../.. /sys/fs/cg\\040roup rw - cgroup2 cgroup2 rw\n", "0::/../../x\n")
	f.Add("30 20 0:26 /docker/x /mnt\\134\\1 rw master:1 - cgroup cgroup rw,name=systemd\n", "1:name=systemd:/docker/x/y (deleted)\n")
	f.Fuzz(func(t *testing.T, mountinfo, own string) {
		h, err := parseHost(strings.NewReader(mountinfo), own)
		if err != nil {
			return
		}
		check := func(dir, mount string) {
			if dir != "" && filepath.IsAbs(mount) && !within(dir, filepath.Clean(mount)) {
				t.Fatalf("%q is not within %q", dir, mount)
			}
		}
		for _, hier := range h.Hierarchies {
			check(hier.Own, hier.Mount)
			if len(hier.Controllers) == 0 {
				t.Fatalf("no controllers: %+v", hier)
			}
		}
		check(h.UnifiedOwn, h.Unified)
	})
}

// FuzzPath: no path of config.json leads out of the hierarchies, to their root, or to our own cgroup.
func FuzzPath(f *testing.F) {
	for _, p := range []string{"/a/b", "a", "../x", "/../..", "/", ".", "a/../..", "/a//./b/", "system.slice:gosuda:x", "user.slice:a:../b", ":cri:x", "-.slice:a:b", "a\x00b", "/a\nb"} {
		f.Add(p, false)
		f.Add(p, true)
	}
	host := &Host{Mode: V1, Unified: "/sys/fs/cgroup/unified", UnifiedOwn: "/sys/fs/cgroup/unified/own/self", Systemd: true,
		Hierarchies: []Hierarchy{{Controllers: []string{"memory"}, Mount: "/sys/fs/cgroup/memory", Own: "/sys/fs/cgroup/memory/own/self"},
			{Controllers: []string{"devices"}, Mount: "/sys/fs/cgroup/devices", Own: "/sys/fs/cgroup/devices"}}}
	f.Fuzz(func(t *testing.T, path string, systemd bool) {
		c, err := New(host, Config{ID: "id", Path: path, Systemd: systemd})
		if err != nil {
			return
		}
		if err := host.CheckPaths(c.Paths()); err != nil {
			t.Fatalf("%q: %v", path, err)
		}
		for name, p := range c.Paths() {
			if within("/sys/fs/cgroup/memory/own/self", p) || within("/sys/fs/cgroup/unified/own/self", p) {
				t.Fatalf("%q: %s is %s, which we are in", path, name, p)
			}
		}
	})
}

// FuzzDevices: every line of devices.list that we understand is one that we write the same way.
func FuzzDevices(f *testing.F) {
	for _, line := range []string{"a *:* rwm", "c 1:3 rwm", "b 8:* m", "c *:5 r", "c 1:x r", ""} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		e, err := parseException(line)
		if err != nil {
			return
		}
		again, err := parseException(e.String())
		if err != nil || again != e {
			t.Fatalf("%q is %+v, written %q, read %+v, %v", line, e, e.String(), again, err)
		}
	})
}

// FuzzResources: every linux.resources is turned into settings of files, or refused by its property's name.
func FuzzResources(f *testing.F) {
	f.Add([]byte(`{"memory":{"limit":1,"swap":2},"cpu":{"shares":2,"quota":-1,"period":100000,"cpus":"0-1"},"pids":{"limit":0}}`))
	f.Add([]byte(`{"unified":{"../x":"1","memory.high":"max"},"devices":[{"allow":true,"type":"c","major":-1,"access":"rwmx"}]}`))
	f.Add([]byte(`{"hugepageLimits":[{"pageSize":"../../x","limit":1}],"blockIO":{"weight":1,"throttleReadBpsDevice":[{"major":-1,"minor":1,"rate":1}]}}`))
	f.Add([]byte(`{"rdma":{"a\nb":{"hcaHandles":1}},"network":{"classID":1,"priorities":[{"name":"a b\nc","priority":1}]}}`))
	hosts := []*Host{
		{Mode: V2, Unified: "/sys/fs/cgroup", UnifiedControllers: []string{"cpu", "cpuset", "memory", "pids", "io", "hugetlb", "rdma", "misc"}},
		{Mode: V1, Hierarchies: []Hierarchy{{Controllers: []string{"memory"}}, {Controllers: []string{"cpu", "cpuacct"}}, {Controllers: []string{"cpuset"}},
			{Controllers: []string{"devices"}}, {Controllers: []string{"blkio"}}, {Controllers: []string{"pids"}}, {Controllers: []string{"hugetlb"}},
			{Controllers: []string{"net_cls", "net_prio"}}, {Controllers: []string{"rdma"}}}},
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r specs.LinuxResources
		if json.Unmarshal(data, &r) != nil {
			return
		}
		for _, h := range hosts {
			settings, err := compile(&r, h, nil)
			if err != nil {
				if err.Error() == "" {
					t.Fatal("an error without a text")
				}
				continue
			}
			for _, s := range settings {
				if s.file == "" || filepath.Base(s.file) != s.file || s.file == ".." {
					t.Fatalf("%s is written to the file %q", s.property, s.file)
				}
			}
			if _, err := compileDevices(&r); err != nil {
				continue
			}
		}
	})
}
