package cgroup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const (
	hybridMounts = `31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /run/rootfs/cpu rw - cgroup cgroup rw,cpu,cpuacct
33 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
34 31 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
35 31 0:31 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
36 31 0:32 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
`
	hybridOwn = "5:memory:/a/b\n4:freezer:/\n3:cpu,cpuacct:/a\n1:name=systemd:/\n0::/u\n"
)

func TestParseHost(t *testing.T) {
	for _, test := range []struct {
		name, mounts, own string
		want              string
	}{
		{"hybrid", hybridMounts, hybridOwn,
			"1 [memory]@/sys/fs/cgroup/memory:/sys/fs/cgroup/memory/a/b" +
				" [cpu cpuacct]@/sys/fs/cgroup/cpu,cpuacct:/sys/fs/cgroup/cpu,cpuacct/a" +
				" [name=systemd]@/sys/fs/cgroup/systemd:/sys/fs/cgroup/systemd" +
				" unified /sys/fs/cgroup/unified:/sys/fs/cgroup/unified/u"},
		{"v2", "36 31 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/system.slice/x.service\n",
			"2 unified /sys/fs/cgroup:/sys/fs/cgroup/system.slice/x.service"},
		{"v2 with a stray v1 mount",
			"36 31 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n37 31 0:33 / /opt/net\\040cls rw - cgroup cgroup rw,net_cls\n",
			"1:net_cls:/\n0::/\n", "2 unified /sys/fs/cgroup:/sys/fs/cgroup"},
		{"v2 elsewhere", "36 31 0:32 / /mnt/c\\134g rw - cgroup2 cgroup2 rw\n", "0::/\n", `2 unified /mnt/c\g:/mnt/c\g`},
		{"v1 without cgroup2", "34 31 0:30 / /cg/memory rw,relatime - cgroup cgroup rw,memory\n", "5:memory:/\n0::/\n",
			"1 [memory]@/cg/memory:/cg/memory"},
		{"in a container without cgroup namespace",
			"34 31 0:30 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n", "5:memory:/docker/x/sub\n",
			"1 [memory]@/sys/fs/cgroup/memory:/sys/fs/cgroup/memory/sub"},
		{"outside of the mount",
			"34 31 0:30 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n", "5:memory:/docker/xy\n",
			"1 [memory]@/sys/fs/cgroup/memory:"},
		{"outside of the cgroup namespace", "36 31 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/../a\n",
			"2 unified /sys/fs/cgroup:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, err := parseHost(strings.NewReader(test.mounts), test.own)
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprint(h.Mode)
			for _, hier := range h.Hierarchies {
				got += fmt.Sprintf(" %v@%s:%s", hier.Controllers, hier.Mount, hier.Own)
			}
			if h.Unified != "" {
				got += " unified " + h.Unified + ":" + h.UnifiedOwn
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
	h, err := parseHost(strings.NewReader("1 2 0:1 / /proc rw - proc proc rw\n"), "0::/\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(h, Config{ID: "x"}); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Errorf("without any cgroup mount: %v", err)
	}
	for _, cfg := range []Config{{ID: "x", Rootless: true}, {ID: "x", Disabled: true}} {
		if c, err := New(h, cfg); err != nil || !c.None() {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// TestParseHostReads: of mountinfo as much as it needs, and all of it if a hierarchy is not where it usually is.
func TestParseHostReads(t *testing.T) {
	const v2, elsewhere = "36 31 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "36 31 0:32 / /mnt rw - cgroup2 cgroup2 rw\n"
	broken := errors.New("read on")
	for _, test := range []struct {
		name, mounts, own string
		want              error
	}{
		{"v2", v2, "0::/\n", nil},
		{"v2 elsewhere", elsewhere, "0::/\n", broken},
		{"v2 with a v1 hierarchy that is not mounted", v2, "1:net_cls:/\n0::/\n", broken},
		{"hybrid", hybridMounts, strings.Replace(hybridOwn, "4:freezer:/\n", "", 1), nil},
		{"hybrid without one", hybridMounts, hybridOwn, broken},
		{"v1, not yet all", strings.Join(strings.SplitAfter(hybridMounts, "\n")[:3], ""), hybridOwn, broken},
	} {
		if _, err := parseHost(io.MultiReader(strings.NewReader(test.mounts), iotest.ErrReader(broken)), test.own); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

func TestPlace(t *testing.T) {
	hybrid, err := parseHost(strings.NewReader(hybridMounts), hybridOwn)
	if err != nil {
		t.Fatal(err)
	}
	v2, err := parseHost(strings.NewReader("36 31 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"), "0::/system.slice/x.service\n")
	if err != nil {
		t.Fatal(err)
	}
	systemd, err := parseHost(strings.NewReader("36 31 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"), "0::/\n")
	if err != nil {
		t.Fatal(err)
	}
	systemd.Systemd = true
	for _, test := range []struct {
		host *Host
		cfg  Config
		want string // the directory in the cgroup2 tree, then that of memory; or the error
	}{
		{hybrid, Config{Path: "/x/y"}, "/sys/fs/cgroup/unified/x/y /sys/fs/cgroup/memory/x/y"},
		{hybrid, Config{Path: "/x//./z/../y/"}, "/sys/fs/cgroup/unified/x/y /sys/fs/cgroup/memory/x/y"},
		{hybrid, Config{Path: "x"}, "/sys/fs/cgroup/unified/u/x /sys/fs/cgroup/memory/a/b/x"},
		{hybrid, Config{ID: "id"}, "/sys/fs/cgroup/unified/u/id /sys/fs/cgroup/memory/a/b/id"},
		{hybrid, Config{Path: "/a:b:c"}, "/sys/fs/cgroup/unified/a:b:c /sys/fs/cgroup/memory/a:b:c"},
		{v2, Config{Path: "/x"}, "/sys/fs/cgroup/x "},
		{v2, Config{ID: "id"}, "/sys/fs/cgroup/system.slice/id "},
		{systemd, Config{ID: "id"}, "/sys/fs/cgroup/id "},
		{systemd, Config{Path: "a-b.slice:cri:id"}, "/sys/fs/cgroup/a.slice/a-b.slice/cri-id.scope "},
		{systemd, Config{Path: ":cri:id"}, "/sys/fs/cgroup/system.slice/cri-id.scope "},
		{systemd, Config{Path: "-.slice:cri:id"}, "/sys/fs/cgroup/cri-id.scope "},
		{systemd, Config{ID: "id", Systemd: true}, "/sys/fs/cgroup/system.slice/gosuda-id.scope "},

		{hybrid, Config{Path: "/../x"}, `linux.cgroupsPath "/../x": escapes the root of the hierarchy`},
		{hybrid, Config{Path: "x/../../y"}, `linux.cgroupsPath "x/../../y": escapes the root of the hierarchy`},
		{hybrid, Config{Path: "/"}, `linux.cgroupsPath "/": is the root of the hierarchy`},
		{hybrid, Config{Path: "x/.."}, `linux.cgroupsPath "x/..": is the root of the hierarchy`},
		{hybrid, Config{Path: "/x\n"}, `linux.cgroupsPath "/x\n": contains a NUL or a newline`},
		{hybrid, Config{Path: "/a"}, "cgroup /sys/fs/cgroup/memory/a: holds this process"},
		{v2, Config{Path: "/system.slice"}, "cgroup /sys/fs/cgroup/system.slice: holds this process"},
		{v2, Config{Path: "a.slice:b:c"}, `linux.cgroupsPath "a.slice:b:c": only systemd makes such a cgroup, and systemd is not running (there is no /run/systemd/system)`},
		{systemd, Config{Path: "/x", Systemd: true},
			`linux.cgroupsPath "/x": expected "slice:prefix:name", the format for systemd cgroups`},
		{systemd, Config{Path: "a/b.slice:b:c"}, `linux.cgroupsPath "a/b.slice:b:c": "a/b.slice" is not the name of a slice`},
		{systemd, Config{Path: "a--b.slice:b:c"}, `linux.cgroupsPath "a--b.slice:b:c": "a--b.slice" is not the name of a slice`},
		{systemd, Config{Path: "a.slice:b:../c"}, `linux.cgroupsPath "a.slice:b:../c": makes no unit name: "b-../c.scope"`},
	} {
		got := ""
		c, err := New(test.host, test.cfg)
		if err != nil {
			got = err.Error()
		} else {
			paths := c.Paths()
			got = paths[""] + " " + paths["memory"]
			again := Load(test.host, paths, c.Unit())
			if !slices.Equal(again.all(), c.all()) {
				t.Errorf("%+v: loaded as %q, was %q", test.cfg, again.all(), c.all())
			}
		}
		if got != test.want {
			t.Errorf("%+v:\ngot  %s\nwant %s", test.cfg, got, test.want)
		}
	}
}

// FuzzCleanPath: whatever is accepted is strictly below the directory that it is joined to.
func FuzzCleanPath(f *testing.F) {
	for _, seed := range []string{"/a/b", "a/../b", "../a", "/..", "", ".", "a/..", "//a///..//b", "..a/b.."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		clean, err := cleanPath(path)
		if err != nil {
			return
		}
		if joined := filepath.Join("/base", clean); !within(joined, "/base") || joined == "/base" {
			t.Errorf("%q becomes %q", path, joined)
		}
		if strings.Contains(clean, "..") && slices.Contains(strings.Split(clean, "/"), "..") {
			t.Errorf("%q stays %q", path, clean)
		}
	})
}

func TestProbe(t *testing.T) {
	h := probe(t)
	for _, hier := range h.Hierarchies {
		if _, err := os.Stat(filepath.Join(hier.Own, "cgroup.procs")); err != nil {
			t.Errorf("%v: %v", hier.Controllers, err)
		}
	}
	if h.Unified != "" {
		if _, err := os.Stat(filepath.Join(h.UnifiedOwn, "cgroup.procs")); err != nil {
			t.Error(err)
		}
	}
	if h.Mode == V2 && !slices.Contains(h.UnifiedControllers, "memory") {
		t.Errorf("controllers %q", h.UnifiedControllers)
	}
	t.Logf("mode v%d, hierarchies %v, cgroup2 %q with %q", h.Mode, len(h.Hierarchies), h.Unified, h.UnifiedControllers)
}
