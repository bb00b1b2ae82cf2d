package cgroup

import (
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/sys"
)

// JoinFDs is how a process that is about to be cloned gets into a cgroup. Close it after the clone.
type JoinFDs struct {
	// Unified is the cgroup2 directory, for clone3 with CLONE_INTO_CGROUP; -1 without one.
	Unified int
	// Tasks are the tasks files of the v1 hierarchies, open for writing. The new process, while it has one thread,
	// writes "0" to each: so only that thread moves, which takes no lock that waits for an RCU grace period, as
	// a write of its pid by another process to cgroup.procs does (Linux 5.5).
	Tasks []int
}

// Close closes the file descriptors.
func (j *JoinFDs) Close() {
	if j.Unified >= 0 {
		unix.Close(j.Unified)
	}
	for _, fd := range j.Tasks {
		unix.Close(fd)
	}
	*j = JoinFDs{Unified: -1}
}

// Join opens the way into the cgroup for one process. With [Cgroup.NeedsPid] it works after the first [Cgroup.AddPid].
//
// On v2, clone3 fails with EBUSY or EOPNOTSUPP when the container has made child cgroups and given them controllers:
// then use JoinOf with the pid of the container's init.
func (c *Cgroup) Join() (*JoinFDs, error) { return join(c.unified, c.freezerLast()) }

// JoinUnified is Join without v1, after Begin.
func (c *Cgroup) JoinUnified() (*JoinFDs, error) { return join(c.unified, nil) }

// JoinV1 is the rest of Join.
func (c *Cgroup) JoinV1() (*JoinFDs, error) { return join("", c.freezerLast()) }

// Hierarchies is how many of v1 the cgroup has; Create may do without those that have no controllers.
func (c *Cgroup) Hierarchies() int { return len(c.dirs) }

// JoinBelow is Join into cgroups that the container has made below its own: below gives their paths, relative to it, by v1
// controller, and by "" for all others and for the cgroup2 tree.
func (c *Cgroup) JoinBelow(below map[string]string) (*JoinFDs, error) {
	for controller, path := range below {
		if controller != "" && c.dir(controller) == "" {
			return nil, fmt.Errorf("cgroup %s:%s: there is no cgroup v1 of that controller", controller, path)
		}
		if _, err := cleanPath(path); err != nil && err != errIsRoot {
			return nil, fmt.Errorf("cgroup %q: %w", path, err)
		}
	}
	dirs := c.freezerLast()
	for i := range dirs {
		d := &dirs[i]
		sub := below[""]
		for _, controller := range d.controllers {
			if path, ok := below[controller]; ok {
				sub = path
			}
		}
		d.path = filepath.Join(d.path, sub)
	}
	unified := c.unified
	if unified != "" {
		sub := filepath.Join(unified, below[""])
		if c.host.Mode == V2 || exists(sub) { // a hybrid host's tree has no limits: few care for it
			unified = sub
		}
	}
	return join(unified, dirs)
}

func exists(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil
}

// JoinOf is Join into the cgroup2 directory that a process of the container is in, which is the cgroup or one below it.
func (c *Cgroup) JoinOf(pid int) (*JoinFDs, error) {
	path, err := c.host.dirOf(pid, c.host.Unified)
	if err != nil {
		return nil, err
	}
	if c.unified == "" || !within(path, c.unified) {
		return nil, fmt.Errorf("join the cgroup of process %d: %s is not below %s", pid, path, c.unified)
	}
	return join(path, c.freezerLast())
}

// join opens directories; of dirs the one with the freezer comes last.
func join(unified string, dirs []dir) (_ *JoinFDs, err error) {
	j := &JoinFDs{Unified: -1}
	defer func() {
		if err != nil {
			j.Close()
		}
	}()
	if unified != "" {
		if j.Unified, err = sys.Open(unified, unix.O_PATH|unix.O_DIRECTORY); err != nil {
			return nil, err
		}
	}
	for _, d := range dirs {
		fd, err := sys.Open(d.path+"/tasks", unix.O_WRONLY)
		if err != nil {
			return nil, err
		}
		j.Tasks = append(j.Tasks, fd)
	}
	return j, nil
}

// freezerLast returns the v1 directories so that a process which enters a frozen cgroup is in all others before it stops.
func (c *Cgroup) freezerLast() []dir {
	dirs := slices.Clone(c.dirs)
	slices.SortStableFunc(dirs, func(a, b dir) int {
		switch {
		case a.has("freezer") == b.has("freezer"):
			return 0
		case a.has("freezer"):
			return 1
		}
		return -1
	})
	return dirs
}

// NeedsPid reports that the cgroup comes into being with its first process, which has to wait, outside of it, until AddPid
// has returned.
func (c *Cgroup) NeedsPid() bool { return c.unit != "" && !c.started }

// AddPid moves a process into the cgroup from outside. It is the slow way, and the only one for the first process of a
// systemd scope.
func (c *Cgroup) AddPid(pid int) error {
	if c.NeedsPid() {
		return c.startUnit(pid)
	}
	return c.addPid(pid)
}

func (c *Cgroup) addPid(pid int) error {
	dirs := c.freezerLast()
	if c.unified != "" {
		dirs = append(dirs, dir{path: c.unified})
	}
	for _, d := range dirs {
		if err := writeFile(d.path+"/cgroup.procs", itoa(int64(pid))); err != nil {
			return fmt.Errorf("add process %d: %w", pid, err)
		}
	}
	return nil
}
