package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// sealedName is what a copy of this program in memory is called.
const sealedName = "gosudacon-sealed"

// seal executes this program anew from a read-only mount of its own file that nothing but the running process leads to, unless the
// program's first instructions (entry_amd64.s) did.
//
// Until its execve a container's process is a copy of ours, and a container can make us execute /proc/self/exe through #!:
// it could keep a handle on the program's file and write to it when nobody executes it any more (CVE-2019-5736). Through this
// mount it never may. Who cannot clone mounts, a user without privileges, executes a sealed copy in memory instead if the file
// is one that they may write to; their containers' root is themselves.
func (c *call) seal() error {
	if sealedFrom != 0 {
		return nil
	}
	name, err := os.Readlink("/proc/self/exe")
	if err != nil || name == "/" || strings.HasPrefix(name, "/memfd:"+sealedName) {
		return nil // a file on a detached mount has no path
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/exe", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return sealCopy()
	}
	defer unix.Close(tree)
	readonly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &readonly); err != nil {
		return os.NewSyscallError("mount_setattr of the program's file", err)
	}
	err = syscall.Exec("/proc/self/fd/"+strconv.Itoa(tree), os.Args, os.Environ())
	return os.NewSyscallError("execute the program's file on a read-only mount", err)
}

// heapProfileRate is for the program's first instructions, which may not name what is package runtime's.
var heapProfileRate = &runtime.MemProfileRate

// sealedFrom is the descriptor of that mount, when the program's first instructions have left it open; 0 when they have not.
var sealedFrom int32

// releaseSeal closes what the program was executed from. The mount stays for as long as the program runs.
func releaseSeal() {
	if sealedFrom != 0 {
		unix.Close(int(sealedFrom))
		sealedFrom = 0
	}
}

// sealCopy executes a copy of the program's file that nobody can write to, if this user can write to the file.
func sealCopy() error {
	file, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil // it may be executed and not read, let alone written to
	}
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: "/proc/self/exe", Err: err}
	}
	// Its owner could permit it first. That it is busy, which it is now, it will not be for ever.
	if err := unix.Faccessat(unix.AT_FDCWD, "/proc/self/exe", unix.W_OK, unix.AT_EACCESS); err != nil && int(st.Uid) != os.Geteuid() {
		return nil
	}
	fd, err := memory()
	if err != nil {
		return fmt.Errorf("make a copy of the program that its containers cannot write to: %w", err)
	}
	sealed := os.NewFile(uintptr(fd), sealedName)
	defer sealed.Close()
	if _, err := io.Copy(sealed, file); err != nil {
		return fmt.Errorf("copy the program: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(sealed.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return os.NewSyscallError("seal the copy of the program", err)
	}
	err = syscall.Exec("/proc/self/fd/"+strconv.Itoa(int(sealed.Fd())), os.Args, os.Environ())
	return os.NewSyscallError("execute the sealed copy of the program", err)
}

// memory makes a file in memory that can be executed, which Linux 6.3 and later want to be told.
func memory() (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(sealedName, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(sealedName, flags)
	}
	return fd, err
}
