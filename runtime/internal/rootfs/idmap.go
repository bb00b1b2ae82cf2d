package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// UserNS makes a user namespace with the given maps; the caller closes it.
type UserNS func(uid, gid []plan.IDMap) (int, error)

// idmap is what the options uidmap and gidmap ask for: on the disk the files belong to the container's ids, in the mount to
// the host's. containerd's snapshotters send them for a container with a user namespace.
type idmap struct{ uid, gid []plan.IDMap }

// parseIDMap reads "CONTAINER:HOST:SIZE,...".
func parseIDMap(option, list string) ([]plan.IDMap, error) {
	var maps []plan.IDMap
	for entry := range strings.SplitSeq(list, ",") {
		var n [3]uint64
		parts := strings.Split(entry, ":")
		err := strconv.ErrSyntax
		if len(parts) == len(n) {
			for i := range n {
				if n[i], err = strconv.ParseUint(parts[i], 10, 32); err != nil {
					break
				}
			}
		}
		if err != nil {
			return nil, fmt.Errorf("option %s: %q is not container:host:size", option, entry)
		}
		maps = append(maps, plan.IDMap{Container: uint32(n[0]), Host: uint32(n[1]), Size: uint32(n[2])})
	}
	return maps, nil
}

// set maps the ids of the detached mounts at tree.
func (m *idmap) set(tree int, newNS UserNS, attr uint64) error {
	ns, err := newNS(m.uid, m.gid)
	if err != nil {
		return fmt.Errorf("make a user namespace for uidmap and gidmap: %w", err)
	}
	defer unix.Close(ns)
	change := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP | attr, Userns_fd: uint64(ns), Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &change); errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("mount_setattr idmap: this kernel cannot map the ids of this file system: %w", err)
	} else if err != nil {
		return fmt.Errorf("mount_setattr idmap: %w", err)
	}
	return nil
}

// over mounts a copy of what is mounted on target, with its ids mapped, on top of it.
func (m *idmap) over(target string, newNS UserNS) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return wrap("open_tree", err)
	}
	defer unix.Close(tree)
	if err := m.set(tree, newNS, 0); err != nil {
		return err
	}
	return wrap("move_mount", unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// overlay mounts an overlay whose lower layers are mapped; the upper one belongs to the host's ids already (Linux 5.19).
//
// The layers must be mounted somewhere, mapped, when the overlay is made, and nowhere afterwards: that is done in a mount
// namespace of a thread's own, of which the overlay alone comes out.
func (m *idmap) overlay(target, source string, p parsed, newNS UserNS) error {
	dir, data := relativeLayers(p.data)
	if dir == "" {
		return errors.New("an overlay with uidmap and gidmap needs lowerdir")
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: dir, Err: err}
	}
	defer unix.Close(tree)
	if err := m.set(tree, newNS, unix.MOUNT_ATTR_RDONLY); err != nil {
		return fmt.Errorf("layers below %s: %w", dir, err)
	}
	made := -1
	done := make(chan error)
	go func() {
		// The thread ends with this goroutine, which never unlocks it, and the namespace with the thread.
		runtime.LockOSThread()
		var err error
		made, err = overlayAside(tree, target, source, p, data)
		done <- err
	}()
	if err := <-done; err != nil {
		return err
	}
	defer unix.Close(made)
	return wrap("move_mount", unix.MoveMount(made, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// overlayAside returns an overlay over the layers in tree as a detached mount. It changes the calling thread for good.
func overlayAside(tree int, target, source string, p parsed, data string) (int, error) {
	lower, merged := filepath.Join(target, "lower"), filepath.Join(target, "merged")
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"unshare", func() error { return unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS) }},
		{"make mounts private", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"mount tmpfs", func() error { return unix.Mount("tmpfs", target, "tmpfs", 0, "mode=700") }},
		{"mkdir", func() error { return errors.Join(unix.Mkdir(lower, 0o700), unix.Mkdir(merged, 0o700)) }},
		{"move_mount the layers", func() error {
			return unix.MoveMount(tree, "", unix.AT_FDCWD, lower, unix.MOVE_MOUNT_F_EMPTY_PATH)
		}},
		{"chdir", func() error { return unix.Chdir(lower) }},
		{"mount", func() error {
			if len(data) >= os.Getpagesize()-1 {
				p.data = strings.Split(data, ",")
				return overlayByOne(merged, source, p)
			}
			return unix.Mount(source, merged, "overlay", p.flags, data)
		}},
	} {
		if err := step.do(); err != nil {
			return -1, wrap(step.name, err)
		}
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, merged, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	return fd, wrap("open_tree", err)
}
