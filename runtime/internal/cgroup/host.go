package cgroup

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/sys"
)

// Mode is the version of cgroups that controls resources.
type Mode uint8

// The modes. A hybrid host, which has the v1 controllers and a cgroup2 tree beside them, is V1.
const (
	V1 Mode = iota + 1
	V2
)

// Host is what the cgroup mounts of this machine look like to this process.
type Host struct {
	Mode Mode
	// Hierarchies are the mounted v1 hierarchies; none in mode V2.
	Hierarchies []Hierarchy
	// Unified is where cgroup2 is mounted, "" if nowhere (then the mode is V1).
	Unified string
	// UnifiedOwn is the directory of this process below Unified, "" if it is not visible there.
	UnifiedOwn string
	// UnifiedControllers are the resource controllers of the cgroup2 tree.
	UnifiedControllers []string
	// Systemd tells that systemd is the init system.
	Systemd bool

	unified cgroupMount // what is mounted at Unified
	watch   watcher
}

// Hierarchy is one mounted v1 hierarchy.
type Hierarchy struct {
	// Controllers are its controllers, or one "name=..." without any.
	Controllers []string
	// Mount is its mount point.
	Mount string
	// Own is the directory of this process below Mount, "" if it is not visible there.
	Own string

	mount cgroupMount
}

// Probe reads this machine's cgroup mounts. It costs two small reads of /proc and, with cgroup2, one of
// cgroup.controllers; call it once per process.
func Probe() (*Host, error) {
	mountinfo, err := sys.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	own, err := sys.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	h, err := parseHost(string(mountinfo), string(own))
	if err != nil {
		return nil, err
	}
	if h.Unified != "" {
		data, err := sys.ReadFile(filepath.Join(h.Unified, "cgroup.controllers"))
		if err != nil {
			return nil, err
		}
		h.UnifiedControllers = strings.Fields(string(data))
	}
	var st unix.Stat_t
	h.Systemd = unix.Lstat("/run/systemd/system", &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
	return h, nil
}

// home says where a controller's limits are set: in its v1 hierarchy, in the cgroup2 tree, or 0 for nowhere.
func (h *Host) home(controller string) Mode {
	for _, hier := range h.Hierarchies {
		if slices.Contains(hier.Controllers, controller) {
			return V1
		}
	}
	if h.Unified != "" && (controller == "cgroup" || slices.Contains(h.UnifiedControllers, controller)) {
		return V2
	}
	return 0
}

// cgroupMount is a line of mountinfo about cgroups.
type cgroupMount struct {
	root, point string
	options     []string // of the super block: the controllers, among others
}

// parseHost is Probe without the kernel.
func parseHost(mountinfo, own string) (*Host, error) {
	v1, v2 := parseMounts(mountinfo)
	h := &Host{Mode: V1}
	for line := range strings.Lines(own) {
		id, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		names, path, ok := strings.Cut(rest, ":")
		if !ok {
			return nil, fmt.Errorf("parse /proc/self/cgroup: malformed line %q", line)
		}
		if id == "0" {
			if m, ok := choose(v2); ok {
				h.Unified, h.UnifiedOwn, h.unified = m.point, m.dir(path), m
			}
			continue
		}
		controllers := strings.Split(names, ",")
		mounted := slices.DeleteFunc(slices.Clone(v1), func(m cgroupMount) bool {
			return !slices.Contains(m.options, controllers[0])
		})
		if m, ok := choose(mounted); ok {
			h.Hierarchies = append(h.Hierarchies, Hierarchy{controllers, m.point, m.dir(path), m})
		}
	}
	isResource := func(hier Hierarchy) bool { return !strings.HasPrefix(hier.Controllers[0], "name=") }
	switch {
	case h.Unified == cgroupRoot, h.Unified != "" && !slices.ContainsFunc(h.Hierarchies, isResource):
		// A lone v1 mount beside cgroup2 on /sys/fs/cgroup (some VPN clients mount net_cls) does not make the host v1.
		h.Mode, h.Hierarchies = V2, nil
	}
	return h, nil
}

const cgroupRoot = "/sys/fs/cgroup"

// parseMounts picks the cgroup mounts out of mountinfo.
func parseMounts(mountinfo string) (v1, v2 []cgroupMount) {
	for line := range strings.Lines(mountinfo) {
		// 36 35 98:0 /root /point rw,noatime master:1 - type source super,options
		before, after, _ := strings.Cut(line, " - ")
		if !strings.HasPrefix(after, "cgroup") {
			continue // of the hundreds of a node
		}
		fields, super := strings.Fields(before), strings.Fields(after)
		if len(fields) < 6 || len(super) < 3 {
			continue
		}
		m := cgroupMount{unescape(fields[3]), unescape(fields[4]), strings.Split(super[2], ",")}
		switch super[0] {
		case "cgroup":
			v1 = append(v1, m)
		case "cgroup2":
			v2 = append(v2, m)
		}
	}
	return v1, v2
}

// choose prefers the mount in the customary place to copies elsewhere, such as those in a container's rootfs.
func choose(mounts []cgroupMount) (cgroupMount, bool) {
	for _, m := range mounts {
		if within(m.point, cgroupRoot) {
			return m, true
		}
	}
	if len(mounts) > 0 {
		return mounts[0], true
	}
	return cgroupMount{}, false
}

// dir returns where a cgroup, given as in /proc/PID/cgroup, is in the mount; "" when the mount does not show it.
func (m cgroupMount) dir(path string) string {
	if !within(path, m.root) || within(path, "/..") { // "/.." is above our cgroup namespace
		return ""
	}
	return filepath.Join(m.point, strings.TrimPrefix(path, m.root))
}

// dirOf returns the directory of a process below a mount point of cgroups, "" when it is not visible there.
func (h *Host) dirOf(pid int, mount string) (string, error) {
	data, err := sys.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		id, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		names, path, _ := strings.Cut(rest, ":")
		path = strings.TrimSuffix(path, " (deleted)")
		if id == "0" && mount == h.Unified {
			return h.unified.dir(path), nil
		}
		for _, hier := range h.Hierarchies {
			if hier.Mount == mount && slices.Equal(hier.Controllers, strings.Split(names, ",")) {
				return hier.mount.dir(path), nil
			}
		}
	}
	return "", nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
