package rootfs

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Attributes are what a mount of a process is to have.
type Attributes struct {
	Path      string // absolute, as the process sees it, without links
	Set       uint64 // MOUNT_ATTR_*
	Recursive bool   // the mounts below it, too
}

// Tighten sets attributes of the mounts that a process sees. What is no mount there is left alone.
//
// Preconditions: nobody changes these mounts meanwhile.
func Tighten(pid int, list []Attributes) error {
	if len(list) == 0 {
		return nil
	}
	return within(pid, func() error {
		root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: "/", Err: err}
		}
		defer unix.Close(root)
		for _, a := range list {
			if err := a.set(root); err != nil {
				return &os.PathError{Op: "set the attributes of mount", Path: a.Path, Err: err}
			}
		}
		return nil
	})
}

func (a Attributes) set(root int) error {
	fd, err := unix.Openat2(root, strings.TrimPrefix(a.Path, "/"), &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	flags := uint(unix.AT_EMPTY_PATH)
	if a.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	err = unix.MountSetattr(fd, "", flags, &unix.MountAttr{Attr_set: a.Set})
	if errors.Is(err, unix.EINVAL) && !isMountRoot(fd) {
		return nil
	}
	return err
}

// isMountRoot tells whether something is mounted where fd is open (Linux 5.8).
func isMountRoot(fd int) bool {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, 0, &st)
	return err != nil || st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
