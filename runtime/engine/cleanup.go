package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/cgroup"
	"github.com/gosuda/gosudacon/runtime/internal/rootfs"
	"github.com/gosuda/gosudacon/runtime/internal/store"
)

// CleanupResult is what Cleanup found.
type CleanupResult struct {
	Pid  int  // init's, 0 if none was recorded
	Exit Exit // the recorded exit, or status 137 and now
}

// Cleanup removes whatever is left of a container from the records under root: processes, cgroups, mounts, files. It
// works after any crash at any point, is idempotent, and a container that never existed is no error. Problems that it
// could not solve are in the error, with the result still valid.
func Cleanup(ctx context.Context, root, id, bundle string) (CleanupResult, error) {
	res := CleanupResult{Exit: Exit{Status: 128 + int(unix.SIGKILL), At: time.Now()}}
	dir, err := store.Find(root, id)
	if err != nil {
		return res, err
	}
	rec, err := dir.Read()
	if errors.Is(err, os.ErrNotExist) {
		// Nothing was recorded, so nothing was made but perhaps the directory, or the engine has removed it all.
		return res, dir.Remove()
	}
	if err != nil {
		return res, err // without the record there is no telling what else is left
	}
	res.Pid, res.Exit.Pid = rec.Pid, rec.Pid
	if rec.Exit != nil {
		res.Exit.Status, res.Exit.At = rec.Exit.Status, rec.Exit.At
	}
	err = removeRecorded(ctx, rec, cgroup.Probe)
	if rec.Rootfs == "" && bundle != "" {
		err = errors.Join(err, rootfs.Unmount(filepath.Join(bundle, "rootfs")))
	}
	if err != nil {
		return res, fmt.Errorf("clean up container %s: %w", id, err) // the record stays, for another try
	}
	if len(rec.Poststop) > 0 {
		err = poststop(ctx, rec, func(cmd *exec.Cmd) (func() error, error) { return cmd.Wait, cmd.Start() })
	}
	return res, errors.Join(err, dir.Remove()) // a hook's failure is only reported
}

// removeRecorded ends and removes what a record names.
func removeRecorded(ctx context.Context, rec *store.Record, host func() (*cgroup.Host, error)) error {
	errs := []error{killRecorded(ctx, rec.Pid, rec.StartTime)}
	if len(rec.CgroupPaths) > 0 || rec.SystemdUnit != "" {
		errs = append(errs, removeCgroup(ctx, rec, host))
	}
	if rec.Rootfs != "" {
		errs = append(errs, rootfs.Unmount(rec.Rootfs))
	}
	return errors.Join(errs...)
}

func removeCgroup(ctx context.Context, rec *store.Record, host func() (*cgroup.Host, error)) error {
	h, err := host()
	if err != nil {
		return err
	}
	if err := h.CheckPaths(rec.CgroupPaths); err != nil {
		return err
	}
	return cgroup.Load(h, rec.CgroupPaths, rec.SystemdUnit).Remove(ctx)
}

// killRecorded kills the process that a record names, if it still is that process, and waits for its end. It may be
// somebody else's child.
func killRecorded(ctx context.Context, pid int, start uint64) error {
	if pid == 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil // gone
	}
	defer unix.Close(fd)
	// The pidfd was opened first: if the start time is right now, it is the process's.
	if t, err := store.StartTime(pid); err != nil || t != start {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	wait := -1
	if deadline, ok := ctx.Deadline(); ok {
		wait = int(max(0, time.Until(deadline)).Milliseconds())
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, wait)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for the end of process %d: %w", pid, err)
		case n == 0:
			return fmt.Errorf("process %d does not end after SIGKILL: %w (if it is the first of its pid namespace: "+
				"somebody has not reaped the others)", pid, context.DeadlineExceeded)
		default:
			return nil
		}
	}
}

// procRoot is a process's view of its root, for the caller to walk.
func procRoot(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/root" }
