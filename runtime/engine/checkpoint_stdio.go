package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/internal/criu"
	"github.com/gosuda/gosudacon/internal/trusted"
	"github.com/gosuda/gosudacon/runtime/internal/cgroup"
)

// descriptorsName is a file beside criu's images that says what the first process had as its standard streams: a list of
// three links of /proc/PID/fd, as runc has it, and for files that are outside of the container
//
//	file[MOUNT:INODE]:PATH
//
// What is outside, pipes too, is replaced when the process is restored.
const (
	descriptorsName  = "descriptors.json"
	descriptorsLimit = 64 << 10
)

// isPipe tells whether a link of /proc/PID/fd is of a pipe, "pipe:[INODE]".
func isPipe(link string) bool {
	inode, pipe := strings.CutPrefix(link, "pipe:[")
	inode, end := strings.CutSuffix(inode, "]")
	_, err := strconv.ParseUint(inode, 10, 64)
	return pipe && end && err == nil
}

// cutFile takes "file[MOUNT:INODE]:PATH" apart, into what criu knows the file by and its path.
func cutFile(link string) (key, path string, ok bool) {
	ids, path, ok := strings.Cut(link, "]:")
	rest, file := strings.CutPrefix(ids, "file[")
	mount, inode, both := strings.Cut(rest, ":")
	return ids + "]", path, ok && file && both && isHex(mount) && isHex(inode)
}

func isHex(s string) bool {
	_, err := strconv.ParseUint(s, 16, 64)
	return err == nil
}

// stdioLinks looks at the standard streams of a process, whose container has the processes pids.
func stdioLinks(pid int, cg *cgroup.Cgroup) ([]string, error) {
	pids, err := cg.Pids()
	if err != nil {
		return nil, err
	}
	mounts, err := mountIDs(pid)
	if err != nil {
		return nil, err
	}
	links := make([]string, 3)
	for fd := range links {
		name := fmt.Sprintf("/proc/%d/fd/%d", pid, fd)
		link, err := os.Readlink(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		switch {
		case !isPipe(link):
			links[fd] = externalFile(pid, fd, link, mounts)
		case !isInternal(link, pid, fd, pids):
			links[fd] = link
		}
	}
	return links, nil
}

// writeLinks writes descriptors.json.
func writeLinks(images string, links []string) error {
	data, err := json.Marshal(links)
	if err != nil {
		return err
	}
	return trusted.Replace(filepath.Join(images, descriptorsName), data)
}

// mountIDs are the mounts that a process sees.
func mountIDs(pid int) (map[string]bool, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		id, _, _ := strings.Cut(line, " ")
		ids[id] = true
	}
	return ids, nil
}

// externalFile returns the link of a regular file or of /dev/null with, if it is on a mount of somebody else, what criu knows it
// by. Terminals and other devices are criu's own matter.
func externalFile(pid, fd int, link string, mounts map[string]bool) string {
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", pid, fd), &st); err != nil {
		return link
	}
	null := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
	mount := fdInfo(pid, strconv.Itoa(fd), "mnt_id")
	id, err := strconv.ParseUint(mount, 10, 32)
	if err != nil || mounts[mount] || !null && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return link
	}
	if null {
		link = devNull // also from another mount namespace, as "/null"
	}
	return fmt.Sprintf("file[%x:%x]:%s", id, st.Ino, link)
}

// isInternal tells whether the other end of a pipe, descriptor fd of process pid, is in the container too.
func isInternal(link string, pid, fd int, pids []int) bool {
	own := accessMode(pid, strconv.Itoa(fd))
	for _, p := range pids {
		dir := fmt.Sprintf("/proc/%d/fd", p)
		entries, _ := os.ReadDir(dir) // it may have ended
		for _, e := range entries {
			if l, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && l == link && accessMode(p, e.Name()) != own {
				return true
			}
		}
	}
	return false
}

// accessMode returns O_RDONLY, O_WRONLY or O_RDWR of a descriptor, -1 of one that is closed.
func accessMode(pid int, fd string) int64 {
	flags, err := strconv.ParseInt(fdInfo(pid, fd, "flags"), 8, 64)
	if err != nil {
		return -1
	}
	return flags & unix.O_ACCMODE
}

// fdInfo returns a field of /proc/PID/fdinfo/FD.
func fdInfo(pid int, fd, field string) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd))
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// readLinks reads what writeLinks or runc wrote. The images may come from anywhere.
func readLinks(images string) ([]string, error) {
	name := filepath.Join(images, descriptorsName)
	data, err := trusted.ReadRegular(name, descriptorsLimit)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: these are no images of a checkpoint", err)
	}
	if err != nil {
		return nil, err
	}
	var links []string
	if err := json.Unmarshal(data, &links); err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	return links[:min(len(links), 3)], nil
}

// externalFiles names the files outside for criu's dump.
func externalFiles(links []string) []string {
	var list []string
	for _, link := range links {
		if key, _, ok := cutFile(link); ok {
			list = append(list, key)
		}
	}
	return list
}

// inheritStdio gives the processes criu's own standard streams in place of what was outside. For each of nulls one gets a file
// on /dev/null, which criu is to inherit from the number first on: it closes what it has taken.
func inheritStdio(links []string, first int) (list []criu.InheritFD, nulls int) {
	seen := map[string]bool{}
	add := func(key string, fd int) bool {
		if seen[key] {
			return false // the same file as an earlier one
		}
		seen[key] = true
		list = append(list, criu.InheritFD{Key: key, FD: fd})
		return true
	}
	for fd, link := range links {
		key, path, file := cutFile(link)
		switch {
		case file && path == devNull:
			if add(key, first+nulls) {
				nulls++
			}
		case file:
			add(key, fd)
		case isPipe(link):
			add(link, fd)
		}
	}
	return list, nulls
}
