package cgroup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Pids returns the processes in the cgroup and in the child cgroups that the container made. The error is
// os.ErrNotExist when the cgroup is gone.
func (c *Cgroup) Pids() ([]int, error) {
	if err := c.ask(); err != nil {
		return nil, err
	}
	pids, err := pidsBelow(c.reference().path)
	if gone(err) {
		return nil, fmt.Errorf("cgroup %s: %w", c.reference().path, os.ErrNotExist)
	}
	return pids, err
}

// reference returns the directory that tells which processes are the container's: the cgroup2 one, where all of them are
// born on a hybrid host too, else one of a v1 controller that every container has.
func (c *Cgroup) reference() dir {
	if c.unified != "" {
		return dir{mount: c.host.Unified, path: c.unified}
	}
	return c.referenceV1()
}

func (c *Cgroup) referenceV1() dir {
	for _, controller := range []string{"devices", "pids", "memory", "freezer"} {
		for _, d := range c.dirs {
			if d.has(controller) {
				return d
			}
		}
	}
	if len(c.dirs) > 0 {
		return c.dirs[0]
	}
	return dir{}
}

// pidsBelow lists the processes of a directory and those below it.
func pidsBelow(path string) ([]int, error) {
	var pids []int
	file := "/cgroup.procs"
	threads := false
	err := walk(path, func(dir string) error {
		data, err := readFile(dir + file)
		if errors.Is(err, unix.EOPNOTSUPP) { // dir is threaded
			if dir != path {
				return nil // its processes are listed above
			}
			file, threads = "/cgroup.threads", true
			data, err = readFile(dir + file)
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(data) {
			pid, err := strconv.Atoi(strings.TrimSuffix(line, "\n"))
			if err != nil {
				return fmt.Errorf("parse %s: %w", dir+file, err)
			}
			if pid != 0 { // 0 is a process of a PID namespace that we cannot see into
				pids = append(pids, pid)
			}
		}
		return nil
	})
	if threads {
		pids = processesOf(pids)
	}
	return pids, err
}

// processesOf returns the processes that threads belong to, each once.
func processesOf(threads []int) []int {
	var pids []int
	for _, tid := range threads {
		data, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/status")
		if err != nil {
			continue // ended
		}
		_, rest, _ := strings.Cut(string(data), "\nTgid:\t")
		line, _, _ := strings.Cut(rest, "\n")
		if pid, err := strconv.Atoi(line); err == nil && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// walk calls fn for a directory and for all below it, from the top. Children that vanish meanwhile are no error.
func walk(path string, fn func(dir string) error) error {
	if err := fn(path); err != nil {
		return err
	}
	names, err := children(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := walk(path+"/"+name, fn); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

// children returns the names of the child cgroups of a directory. The number of links tells without reading it whether
// there are any.
func children(path string) ([]string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Nlink == 2 {
		return nil, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
