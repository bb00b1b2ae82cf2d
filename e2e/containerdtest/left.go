package containerdtest

import (
	"bufio"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// socketDir is where containerd lets shims make their sockets, also a private containerd.
const socketDir = "/run/containerd/s"

// snapshot is what stood on the machine before a Daemon started.
type snapshot struct {
	sockets []string
	mounts  []string
	cgroups []string
}

func takeSnapshot(dir, namespace string) snapshot {
	return snapshot{sockets: names(socketDir), mounts: mountsBelow(dir), cgroups: cgroupsOf(namespace)}
}

// newer lists what d and its containers left, and removes what can be removed.
func (s snapshot) newer(d *Daemon) (left []string) {
	for _, m := range mountsBelow(d.Dir) {
		if !slices.Contains(s.mounts, m) {
			left = append(left, "mount "+m)
			_ = unix.Unmount(m, unix.MNT_DETACH)
		}
	}
	for _, name := range names(socketDir) {
		path := filepath.Join(socketDir, name)
		if !slices.Contains(s.sockets, name) && dead(path) {
			left = append(left, "socket "+path)
			_ = os.Remove(path)
		}
	}
	for _, dir := range cgroupsOf(d.Namespace) {
		if !slices.Contains(s.cgroups, dir) && d.knows(dir) {
			left = append(left, "cgroup "+dir)
			_ = unix.Rmdir(dir)
		}
	}
	left = append(left, d.scopes()...)
	for _, parent := range cgroupParents(d.Namespace) {
		_ = unix.Rmdir(parent) // when it is empty; who needs it makes it again
	}
	for _, pattern := range []string{
		filepath.Join("/run/containerd/*", d.Namespace, "*"),                        // engines' state, by namespace
		filepath.Join(d.State(), "io.containerd.runtime.v2.task", d.Namespace, "*"), // bundles
	} {
		found, _ := filepath.Glob(pattern)
		for _, path := range found {
			left = append(left, "directory "+path)
			_ = os.RemoveAll(path)
		}
	}
	// The engines' directories of the namespace stay for its next container, of which there is none.
	if parents, err := filepath.Glob(filepath.Join("/run/containerd/*", d.Namespace)); err == nil {
		for _, parent := range parents {
			_ = os.Remove(parent)
		}
	}
	return left
}

// knows tells whether the cgroup is a container's of d. Every CRI plugin has the same namespace, but writes down the ids that it gives.
func (d *Daemon) knows(cgroup string) bool {
	_, below, _ := strings.Cut(cgroup, "/"+d.Namespace+"/")
	id, _, _ := strings.Cut(below, "/")
	return !d.CRI || strings.Contains(d.Log(), id)
}

// scopes lists what systemd made for the CRI plugin's containers and has not removed, which it does some time after their last process.
func (d *Daemon) scopes() (left []string) {
	for end := time.Now().Add(5 * time.Second); d.CRI; time.Sleep(50 * time.Millisecond) {
		left = nil
		for _, pattern := range []string{"/sys/fs/cgroup/*.slice/*.scope", "/sys/fs/cgroup/*/*.slice/*.scope"} {
			found, _ := filepath.Glob(pattern)
			for _, path := range found {
				id, isContainer := strings.CutPrefix(strings.TrimSuffix(filepath.Base(path), ".scope"), "cri-containerd-")
				if isContainer && strings.Contains(d.Log(), id) {
					left = append(left, "scope "+path)
				}
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
	return nil
}

// OfContainer lists what is left on the machine of one container of d, which was deleted: its bundle, its engine's state, cgroups
// and mounts.
func (d *Daemon) OfContainer(id string) (left []string) {
	for _, pattern := range []string{
		filepath.Join("/run/containerd/*", d.Namespace, id),
		filepath.Join(d.State(), "io.containerd.runtime.v2.task", d.Namespace, id),
		filepath.Join("/sys/fs/cgroup/*", d.Namespace, id),
		filepath.Join("/sys/fs/cgroup", d.Namespace, id),
	} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	for _, m := range mountsBelow(filepath.Join(d.State(), "io.containerd.runtime.v2.task", d.Namespace, id)) {
		left = append(left, "mount "+m)
	}
	return left
}

// cgroupParents lists the cgroup named after the namespace in every hierarchy. Runtimes make them and keep them, because others may use them.
func cgroupParents(namespace string) []string {
	parents, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", namespace))
	if p := filepath.Join("/sys/fs/cgroup", namespace); exists(p) {
		parents = append(parents, p)
	}
	return parents
}

// cgroupsOf lists the cgroups below the namespace's, in every hierarchy, children first.
func cgroupsOf(namespace string) (list []string) {
	for _, parent := range cgroupParents(namespace) {
		_ = filepath.WalkDir(parent, func(path string, e os.DirEntry, err error) error {
			if err == nil && e.IsDir() && path != parent {
				list = append(list, path)
			}
			return nil
		})
	}
	slices.Reverse(list)
	return list
}

// dead tells whether nobody listens on the socket; a living one belongs to somebody else.
func dead(path string) bool {
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return false
	}
	return errors.Is(err, unix.ECONNREFUSED)
}

func names(dir string) (list []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// mountsBelow lists the mount points below dir, children first.
func mountsBelow(dir string) (list []string) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			list = append(list, fields[4])
		}
	}
	slices.Reverse(list)
	return list
}
