package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// enableControllers hands the controllers of the cgroup2 tree down to the cgroup: all of them on v2, on a hybrid host
// those that the settings need. One that cannot be had is noticed when its limit is written.
func (c *Cgroup) enableControllers(settings []setting) error {
	if c.unified == "" {
		return nil
	}
	want := c.host.UnifiedControllers
	if c.host.Mode == V1 {
		want = slices.DeleteFunc(slices.Clone(want), func(name string) bool {
			return !slices.ContainsFunc(settings, func(s setting) bool { return s.controller == name })
		})
	} else {
		threaded, err := c.joinThreaded()
		if err != nil {
			return err
		}
		if threaded {
			want = slices.DeleteFunc(slices.Clone(want), func(name string) bool { return !slices.Contains(threadable, name) })
		}
	}
	if len(want) == 0 {
		return nil
	}
	// While somebody else hands a controller down, the kernel lists it in cgroup.controllers before its files are there. A
	// write waits for them, also when it has nothing to change.
	if handDown(filepath.Dir(c.unified), want...) == nil {
		return nil
	}
	have, err := readFile(c.unified + "/cgroup.controllers")
	if err != nil {
		return err
	}
	if isSubset(want, strings.Fields(have)) {
		return nil
	}
	for _, path := range c.way() {
		enable(filepath.Dir(path), want)
	}
	return nil
}

// way returns the directories from the first below the root of the cgroup2 tree down to the cgroup.
func (c *Cgroup) way() []string {
	var paths []string
	path := c.host.Unified
	for name := range strings.SplitSeq(strings.Trim(strings.TrimPrefix(c.unified, path), "/"), "/") {
		path += "/" + name
		paths = append(paths, path)
	}
	return paths
}

// threadable are the controllers that work in threaded cgroups.
var threadable = []string{"cgroup", "cpu", "cpuset", "pids", "perf_event"}

// joinThreaded looks where in the cgroup2 tree the cgroup is. Below a threaded one, or one with processes and controllers
// for threads, there can only be threaded ones: then it makes the cgroup such a one too, if no setting needs more.
func (c *Cgroup) joinThreaded() (bool, error) {
	kind, err := readFile(c.unified + "/cgroup.type")
	if err != nil || !strings.HasSuffix(kind, "invalid") && kind != "threaded" {
		return false, err
	}
	for _, s := range c.settings {
		if !slices.Contains(threadable, s.controller) {
			return true, fmt.Errorf("linux.resources.%s: cgroup %s can only be threaded, because of what is above it, and the %s controller"+
				" does not work there", s.property, c.unified, s.controller)
		}
	}
	for _, path := range c.way() {
		kind, err := readFile(path + "/cgroup.type")
		if err == nil && strings.HasSuffix(kind, "invalid") {
			err = writeFile(path+"/cgroup.type", "threaded")
		}
		if err != nil {
			return true, err
		}
	}
	return true, nil
}

// enable enables controllers for the children of a directory, as many as possible.
func enable(path string, controllers []string) {
	if handDown(path, controllers...) == nil {
		return
	}
	for _, name := range controllers {
		_ = handDown(path, name)
	}
}

// handDown enables controllers for the children of a directory, all or none. When it returns, the children have their files.
func handDown(path string, controllers ...string) error {
	return writeFile(path+"/cgroup.subtree_control", "+"+strings.Join(controllers, " +"))
}

func isSubset(some, all []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// delegate gives the cgroup to its owner, with the files that the kernel names as safe to give away: the limits stay ours.
func (c *Cgroup) delegate() error {
	if c.owner == 0 || c.host.Mode != V2 || c.unified == "" {
		return nil
	}
	if err := os.Chown(c.unified, c.owner, -1); err != nil {
		if c.mayNotLimit(err) {
			return nil
		}
		return fmt.Errorf("give the cgroup to user %d: %w", c.owner, err)
	}
	for _, name := range delegated() {
		err := os.Chown(c.unified+"/"+name, c.owner, -1)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // of a controller that is not enabled, or not there
			return fmt.Errorf("give the cgroup to user %d: %w", c.owner, err)
		}
	}
	return nil
}

// delegated returns the names of the files that can be given away (cgroups(7)).
func delegated() []string {
	data, err := os.ReadFile("/sys/kernel/cgroup/delegate")
	if err != nil {
		return []string{"cgroup.procs", "cgroup.subtree_control", "cgroup.threads"}
	}
	return strings.Fields(string(data))
}
