package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
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
	own, err := sys.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mountinfo, err := sys.OpenFile("/proc/self/mountinfo", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer mountinfo.Close()
	h, err := parseHost(mountinfo, string(own))
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

// parseHost is Probe without the kernel. It reads of mountinfo what it needs.
func parseHost(mountinfo io.Reader, own string) (*Host, error) {
	cgroups, err := parseOwn(own)
	if err != nil {
		return nil, err
	}
	if err := findMounts(bufio.NewReader(mountinfo), cgroups); err != nil {
		return nil, err
	}
	h := &Host{Mode: V1, Hierarchies: make([]Hierarchy, 0, len(cgroups))}
	for _, c := range cgroups {
		switch m := c.mount; {
		case !c.mounted:
		case c.controllers == nil:
			h.Unified, h.UnifiedOwn, h.unified = m.point, m.dir(c.path), m
		default:
			h.Hierarchies = append(h.Hierarchies, Hierarchy{c.controllers, m.point, m.dir(c.path), m})
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

// ownCgroup is a cgroup of this process.
type ownCgroup struct {
	controllers []string // none: it is in the cgroup2 tree
	path        string
	// mount is where its hierarchy is mounted, if mounted: in the customary place rather than elsewhere, such as in a container's
	// rootfs, and rather the first than another.
	mount              cgroupMount
	mounted, customary bool
}

// parseOwn reads /proc/self/cgroup.
func parseOwn(own string) (cgroups []ownCgroup, err error) {
	cgroups = make([]ownCgroup, 0, strings.Count(own, "\n"))
	for line := range strings.Lines(own) {
		id, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		names, path, ok := strings.Cut(rest, ":")
		if !ok {
			return nil, fmt.Errorf("parse /proc/self/cgroup: malformed line %q", line)
		}
		c := ownCgroup{path: path}
		if id != "0" {
			c.controllers = strings.Split(names, ",")
		}
		cgroups = append(cgroups, c)
	}
	return cgroups, nil
}

// findMounts finds where cgroups are mounted. It stops when it knows: a node has thousands of mounts, and the kernel makes each line of
// them for us.
func findMounts(mountinfo *bufio.Reader, cgroups []ownCgroup) error {
	for wanted := len(cgroups); wanted > 0; {
		line, err := mountinfo.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		m, version := parseMount(line)
		for i := range cgroups {
			c := &cgroups[i]
			if c.customary || !m.has(version, c.controllers) {
				continue
			}
			if c.customary = within(m.point, cgroupRoot); c.customary {
				wanted--
			}
			if c.customary || !c.mounted {
				c.mount, c.mounted = m, true
			}
		}
	}
	return nil
}

// parseMount reads a line of mountinfo; version 0: it is not about cgroups.
func parseMount(line string) (m cgroupMount, version Mode) {
	// 36 35 98:0 /root /point rw,noatime master:1 - type source super,options
	before, after, _ := strings.Cut(line, " - ")
	if !strings.HasPrefix(after, "cgroup") {
		return m, 0
	}
	fields, super := strings.Fields(before), strings.Fields(after)
	if len(fields) < 6 || len(super) < 3 {
		return m, 0
	}
	switch super[0] {
	case "cgroup":
		version = V1
	case "cgroup2":
		version = V2
	}
	return cgroupMount{unescape(fields[3]), unescape(fields[4]), strings.Split(super[2], ",")}, version
}

// has tells whether a mount is one of the v1 hierarchy with these controllers, or, without any, one of cgroup2.
func (m cgroupMount) has(version Mode, controllers []string) bool {
	if controllers == nil {
		return version == V2
	}
	return version == V1 && slices.Contains(m.options, controllers[0])
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
