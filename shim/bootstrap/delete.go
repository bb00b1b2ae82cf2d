package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/config"
	"github.com/gosuda/gosudacon/shim/internal/taskapi"
)

// containerd kills delete after 5 s, and then keeps the bundle for ever. cleanupTimeout is what the engine gets of it;
// deleteTimeout is when delete answers whatever happens.
const (
	cleanupTimeout = 4 * time.Second
	deleteTimeout  = 4500 * time.Millisecond
)

// statusKilled is the exit status of a container that nobody recorded one for: 128 and SIGKILL.
const statusKilled = 137

// Delete removes what is left of a container and writes a containerd.task.v2.DeleteResponse to stdout. It does not need the
// shim, and does not mind one that still serves other containers, nor a container that never was. What it could not do is
// reported on stderr, a line each; the answer is written all the same, because containerd would otherwise keep the bundle
// and never call again.
func Delete(f Flags, stdout, stderr io.Writer) error {
	bundle, err := bundleOf(f)
	if err != nil {
		return err
	}
	done := make(chan outcome, 1)
	go func() { done <- cleanUp(f, bundle) }()

	var o outcome
	timer := time.NewTimer(deleteTimeout)
	defer timer.Stop()
	select {
	case o = <-done:
	case <-timer.C: // something is stuck in the kernel, which no context ends
		o = outcome{exit: killedNow(0), problems: []error{fmt.Errorf("clean up %s: still at it after %v", f.ID, deleteTimeout)}}
	}
	for _, problem := range o.problems {
		fmt.Fprintln(stderr, problem)
	}
	if _, err := stdout.Write(encodeExit(o.exit)); err != nil {
		return fmt.Errorf("write reply: %w", err)
	}
	return nil
}

// bundleOf returns the path of the container's bundle. It stands beside the one that delete is called in or for: containerd
// calls it for a container of a sandbox in the sandbox's bundle.
func bundleOf(f Flags) (string, error) {
	near := f.Bundle
	if near == "" {
		dir, err := os.Getwd()
		if err != nil {
			return "", fmt.Errorf("find bundle: %w", err)
		}
		near = dir
	}
	if !filepath.IsAbs(near) {
		return "", fmt.Errorf("find bundle: -bundle %s is not absolute", near)
	}
	return filepath.Join(filepath.Dir(filepath.Clean(near)), f.ID), nil
}

// outcome is what cleanUp found and what it could not do.
type outcome struct {
	exit     engine.Exit
	problems []error
}

// cleanUp removes the container's processes, cgroups, mounts, records and, if it is dead, its shim's socket.
func cleanUp(f Flags, bundle string) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()

	var o outcome
	try := func(err error) {
		if err != nil {
			o.problems = append(o.problems, err)
		}
	}
	options, err := config.ReadBundle(bundle)
	try(err) // the default root is the best guess then

	o.exit, err = removeContainer(ctx, f, options, bundle)
	try(err)
	try(unmount(filepath.Join(bundle, "rootfs")))
	try(unmount(filepath.Join(bundle, config.PodShm)))
	try(removeSockets(f, bundle))
	return o
}

// removeContainer removes a container of ours, or of containerd-shim-runc-v2, and returns the exit that was recorded.
func removeContainer(ctx context.Context, f Flags, options config.Options, bundle string) (engine.Exit, error) {
	// First, because the option Root can make the two share a directory.
	runc, err := readRuncState(runcRoot(options, f.Namespace), f.ID)
	if runc != nil || err != nil {
		exit, exitErr := recordedExit(bundle)
		return exit, errors.Join(err, runc.remove(ctx), exitErr)
	}
	result, err := engine.Cleanup(ctx, options.StateRoot(f.Namespace), f.ID, bundle)
	if result.Pid == 0 { // already deleted, or it never got a process
		exit, exitErr := recordedExit(bundle)
		return exit, errors.Join(err, exitErr)
	}
	result.Exit.Pid = result.Pid
	return result.Exit, err
}

// killedNow is the exit of a process that has just been killed.
func killedNow(pid int) engine.Exit {
	return engine.Exit{Pid: pid, Status: statusKilled, At: time.Now()}
}

// unmount unmounts whatever is stacked on path, with everything below.
func unmount(path string) error {
	for {
		err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		if err == unix.EBUSY { // a mount below it, or a process in it
			err = unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		switch {
		case err == nil:
			continue
		case err == unix.EINVAL || err == unix.ENOENT: // not a mount, or no longer there
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}

// removeSockets removes the sockets of the container's shim, when that is dead: the recorded one, and the debug socket that
// goes with it.
func removeSockets(f Flags, bundle string) error {
	address, err := config.ReadAddress(bundle)
	if err != nil {
		return err
	}
	group, err := readGroup(bundle, f.ID)
	if err != nil {
		return err
	}
	path := pathOf(address)
	if path == "" { // nobody called start for this container, or another shim's, which records the directory alone
		path = socketPath(recordedSocketDir(bundle), f.Address, f.Namespace, group, false)
	}
	return errors.Join(removeDead(path), removeDead(socketPath(filepath.Dir(path), f.Address, f.Namespace, group, true)))
}

// encodeExit encodes what the delete verb answers.
func encodeExit(exit engine.Exit) []byte {
	return taskapi.DeleteResponse{Pid: uint32(exit.Pid), ExitStatus: uint32(exit.Status), ExitedAt: exit.At}.Encode()
}
