package ociruntime

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// InMountNamespace calls f on a thread with a mount namespace of its own, which the processes that f starts share and which ends with
// them. Mounts made outside become visible in it, not the other way round. The thread ends with f.
func InMountNamespace(f func()) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			done <- fmt.Errorf("unshare the mount namespace: %w", err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
			done <- fmt.Errorf("make / a slave in the new mount namespace: %w", err)
			return
		}
		f()
		done <- nil
	}()
	return <-done
}
