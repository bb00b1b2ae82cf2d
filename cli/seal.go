package cli

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// seal executes this program anew from a read-only mount of its own file that nothing but the running process leads to.
//
// Until its execve a container's process is a copy of ours, and a container can make us execute /proc/self/exe through #!:
// it could keep a handle on the program's file and write to it when nobody executes it any more (CVE-2019-5736). Through this
// mount it never may. Who cannot clone mounts, a user without privileges, cannot write to the file either.
func (c *call) seal() error {
	if name, err := os.Readlink("/proc/self/exe"); err != nil || name == "/" {
		return nil // a file on a detached mount has no path
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/exe", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil
	}
	defer unix.Close(tree)
	readonly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &readonly); err != nil {
		return os.NewSyscallError("mount_setattr of the program's file", err)
	}
	err = syscall.Exec("/proc/self/fd/"+strconv.Itoa(tree), os.Args, os.Environ())
	return os.NewSyscallError("execute the program's file on a read-only mount", err)
}
