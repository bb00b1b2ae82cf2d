package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gosuda/gosudacon/e2e/parity/ask"
)

// knobs are the files of a cgroup that a runtime sets, as patterns.
var knobs = []string{
	"cpu.shares", "cpu.cfs_*", "cpu.rt_*", "cpu.idle", "cpuset.cpus", "cpuset.mems",
	"memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes", "memory.swappiness",
	"memory.oom_control", "memory.use_hierarchy", "pids.max", "blkio.weight*", "blkio.bfq.weight*", "blkio.throttle.*_device", "devices.list",
	"freezer.state", "hugetlb.*limit_in_bytes", "net_cls.classid", "net_prio.ifpriomap",
	"cpu.weight", "cpu.max*", "memory.max", "memory.low", "memory.high", "memory.min", "memory.swap.max", "memory.oom.group", "io.max", "io.weight",
	"io.bfq.weight", "hugetlb.*max", "cgroup.max.*", "cgroup.freeze", "rdma.max",
}

// hostCgroups lists the hierarchies that the host has mounted below /sys/fs/cgroup.
func hostCgroups() (ask.Cgroups, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var all ask.Cgroups
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(line, ":", 3)
		if len(f) == 3 && isDir(filepath.Join("/sys/fs/cgroup", strings.TrimPrefix(f[1], "name="))) {
			all = append(all, f[1])
		}
	}
	return all, nil
}

// cgroup makes fields of the container's cgroups as the host sees them.
func (l *life) cgroup(pid int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		l.fields["cgroup"] = err.Error()
		return
	}
	for name, path := range l.b.host.cgroups.Mounted(string(text)) {
		name = strings.TrimPrefix(name, "name=")
		l.fields["outside cgroup "+name] = path
		dir := filepath.Join("/sys/fs/cgroup", name, path)
		if name == "" {
			if dir = filepath.Join("/sys/fs/cgroup/unified", path); !isDir(dir) {
				dir = filepath.Join("/sys/fs/cgroup", path)
			}
			name = "unified"
		}
		for _, pattern := range knobs {
			if strings.HasPrefix(pattern, "hugetlb") && !strings.Contains(l.b.id, "hugepages") {
				continue // they come and go with a bundle beside this one that limits them
			}
			files, _ := filepath.Glob(filepath.Join(dir, pattern))
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					continue // not all can be read
				}
				lines := strings.Split(strings.TrimSpace(string(text)), "\n")
				slices.Sort(lines)
				l.fields["knob "+name+" "+filepath.Base(file)] = strings.Join(lines, ", ")
			}
		}
	}
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// removeCgroups removes the parents of the cgroups that the variations name, and what a runtime has left below them.
func removeCgroups() error {
	var dirs []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // somebody else's, gone meanwhile
		}
		if base := filepath.Base(path); base == "parity" || base == "parity-relative" || strings.Contains(path, "/parity/") || strings.Contains(path, "/parity-relative/") {
			dirs = append(dirs, path)
		}
		return nil
	})
	slices.Reverse(dirs)
	for _, dir := range dirs {
		if removeErr := os.Remove(dir); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}
	return err
}
