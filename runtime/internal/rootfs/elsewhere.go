package rootfs

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Privately runs f with a mount namespace of its own, in which nothing that f mounts is seen by others, nor left behind: it
// goes with the last process that f has started in there. f must not start a goroutine that relies on that.
func Privately(f func() error) error {
	return elsewhere(f, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare the mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("make the mount namespace private: %w", err)
		}
		return nil
	})
}

// within runs f in the mount namespace of a process.
func within(pid int, f func() error) error {
	ns, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the mount namespace of process %d: %w", pid, err)
	}
	defer unix.Close(ns)
	return elsewhere(f, func() error {
		// Who shares a working directory with other threads may not move.
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Setns(ns, unix.CLONE_NEWNS)
		}
		if err != nil {
			return fmt.Errorf("enter the mount namespace of process %d: %w", pid, err)
		}
		return nil
	})
}

// elsewhere runs f on a thread of its own that enter has taken to another mount namespace.
func elsewhere(f, enter func() error) error {
	done := make(chan error)
	go func() {
		// Never unlocked: this thread's working directory is not the process's any more. It goes back all the same: the
		// process's first thread never ends, and would keep the namespace.
		runtime.LockOSThread()
		done <- thereAndBack(f, enter)
	}()
	return <-done
}

func thereAndBack(f, enter func() error) (err error) {
	own, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the own mount namespace: %w", err)
	}
	defer unix.Close(own)
	if err := enter(); err != nil {
		return err
	}
	defer func() {
		if back := unix.Setns(own, unix.CLONE_NEWNS); back != nil {
			err = errors.Join(err, fmt.Errorf("go back to the own mount namespace: %w", back))
		}
	}()
	return f()
}
