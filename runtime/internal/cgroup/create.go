package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Create makes the directories and writes the limits, while nothing is in the cgroup. Directories that exist are used, with
// what is set there, unless a process is in them or they are frozen. After an error nothing that it made is left.
//
// systemd makes no scope without a process: for a cgroup with [Cgroup.NeedsPid], Create does nothing and the first
// [Cgroup.AddPid] does all this.
func (c *Cgroup) Create() error {
	if c.NeedsPid() {
		return nil
	}
	return c.create()
}

// Begin makes the directory of the cgroup2 tree, for a process that is born there before Create makes those of v1. It reports false
// when there was one: then Create comes before the process. [Cgroup.Abandon] undoes it.
func (c *Cgroup) Begin() (isNew bool, err error) {
	err = c.makeUnified(&c.begun)
	return c.unified == "" || slices.Contains(c.begun, c.unified), err
}

// Directories are those of v1 that Create makes; who has made one of them meanwhile says so by Made.
func (c *Cgroup) Directories() []string {
	paths := make([]string, len(c.dirs))
	for i, d := range c.dirs {
		paths[i] = d.path
	}
	return paths
}

// Made says that directories were not there before they were made for this cgroup, as if Begin had done so.
func (c *Cgroup) Made(paths []string) { c.begun = append(c.begun, paths...) }

// Abandon removes what Begin has made, once nothing is in it any more.
func (c *Cgroup) Abandon() {
	for _, path := range slices.Backward(c.begun) {
		_ = rmdir(path) // gone, or another container's by now
	}
}

// makeUnified makes the directory in the cgroup2 tree, where there is one to have, and appends those it made.
func (c *Cgroup) makeUnified(made *[]string) error {
	if c.unified == "" {
		return nil
	}
	err := mkdirAll(c.host.Unified, c.unified, made)
	if err != nil && c.host.Mode == V1 && readOnly(err) {
		c.unified, err = "", nil
	}
	return err
}

func (c *Cgroup) create() (err error) {
	var made []string
	defer func() {
		if err != nil {
			for _, path := range slices.Backward(made) {
				_ = rmdir(path) // the first error is the one to tell
			}
		}
	}()
	// Where nothing is limited, do without what this process may not write to.
	dirs := make([]dir, 0, len(c.dirs))
	for _, d := range c.dirs {
		var err error
		if slices.Contains(c.begun, d.path) {
			made = append(made, d.path)
		} else {
			err = mkdirAll(d.mount, d.path, &made)
		}
		if err != nil && !(d.named() && readOnly(err)) {
			return err
		}
		if err == nil {
			dirs = append(dirs, d)
		}
	}
	c.dirs = dirs
	if err := c.makeUnified(&made); err != nil {
		return err
	}
	if c.unit == "" { // systemd puts the first process there itself
		if err := c.refuseUsed(slices.Concat(made, c.begun)); err != nil {
			return err
		}
	}
	return c.limit(made)
}

// limit writes what Config asked for.
func (c *Cgroup) limit(made []string) error {
	for _, d := range c.dirs {
		if d.has("cpuset") {
			if err := inheritCpuset(d.mount, d.path, slices.Contains(made, d.path)); err != nil {
				return err
			}
		}
	}
	if err := c.enableControllers(c.settings); err != nil {
		return err
	}
	if err := c.apply(c.settings); err != nil {
		return err
	}
	var err error
	if path := c.dir("devices"); path != "" {
		err = c.devices.createV1(path, slices.Contains(made, path))
	} else if c.unified != "" {
		err = c.devices.setV2(c.unified)
	}
	if err != nil && !c.mayNotLimit(err) {
		return fmt.Errorf("set linux.resources.devices: %w", err)
	}
	return c.delegate()
}

// mkdirAll makes a directory below a mount point, its parents first where they are missing, and appends those it made.
func mkdirAll(mount, path string, made *[]string) error {
	isNew, err := mkdir(path)
	if errors.Is(err, unix.ENOENT) && path != mount {
		if err := mkdirAll(mount, filepath.Dir(path), made); err != nil {
			return err
		}
		isNew, err = mkdir(path)
	}
	if isNew {
		*made = append(*made, path)
	}
	return err
}

func readOnly(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}

// refuseUsed fails when a directory that was there before is in use.
func (c *Cgroup) refuseUsed(made []string) error {
	old := slices.DeleteFunc(c.all(), func(path string) bool { return slices.Contains(made, path) })
	if len(old) == 0 {
		return nil
	}
	for _, path := range old {
		pids, err := pidsBelow(path)
		if err != nil {
			return err
		}
		if len(pids) > 0 {
			return fmt.Errorf("cgroup %s: not empty: %d processes", path, len(pids))
		}
	}
	frozen, err := c.Frozen()
	if err != nil {
		return err
	}
	if frozen {
		return fmt.Errorf("cgroup %s: frozen", c.all()[0])
	}
	return nil
}

// inheritCpuset gives a cgroup, which may be fresh, the CPUs and memory nodes of its parent: v1 has it start with none, and
// then nothing can enter.
func inheritCpuset(mount, path string, fresh bool) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		var err error
		if fresh {
			_, err = inherit(mount, path, file)
		} else {
			_, err = inherited(mount, path, file)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inherited returns the content of a file, after having filled it from above where it is empty.
func inherited(mount, path, file string) (string, error) {
	v, err := readFile(path + "/" + file)
	if err != nil || v != "" || path == mount {
		return v, err
	}
	return inherit(mount, path, file)
}

// inherit fills a file, which is empty, from above and returns its content.
func inherit(mount, path, file string) (string, error) {
	v, err := inherited(mount, filepath.Dir(path), file)
	if err != nil || v == "" {
		return v, err
	}
	return v, writeFile(path+"/"+file, v)
}
