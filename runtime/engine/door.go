package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch"
	"github.com/gosuda/gosudacon/runtime/internal/lifecycle"
	"github.com/gosuda/gosudacon/runtime/internal/store"
)

// An ordinary user's runtime cannot enter a container whose init waits at its start gate: it knocks there, and init gives it the
// namespaces. The knock goes through the gate before the byte that opens it, or is never heard.

// knock returns how to knock at the gate of a container that may wait at it; nil says that nobody need.
func (d *Detached) knock() func(byte) error {
	switch {
	case !d.engine.host.User:
		return nil
	case d.gate != nil:
		return d.gate.Knock
	}
	// Also a paused container may wait there.
	if waiting, err := d.dir.Waiting(); err == nil && !waiting {
		return nil
	}
	return d.dir.Knock
}

// knock is for the driver and for who starts the container: the gate is closed once it has been opened.
func (c *Container) knock() func(byte) error {
	if !c.engine.host.User || c.gate == nil || c.currentState() != lifecycle.Created {
		return nil
	}
	return c.gate.Knock
}

// open has an init that waits let the process in. The caller closes t.entry.
func (t *target) open(ctx context.Context) error {
	if t.knock == nil {
		return nil
	}
	entry, err := t.enter(ctx)
	gone := func(is error) bool { return errors.Is(err, is) }
	if slices.ContainsFunc([]error{store.ErrPassed, launch.ErrNoEntry, unix.EPIPE, unix.ESRCH}, gone) {
		return errorf(FailedPrecondition, err, "enter container %s, which had not been started: %v (it goes on or ends just now, or its"+
			" RLIMIT_NOFILE leaves no descriptor for that)", t.id, err)
	}
	if err != nil {
		return fmt.Errorf("enter container %s, which has not been started: %w", t.id, err)
	}
	t.entry = entry
	return nil
}

func (t *target) enter(ctx context.Context) (*launch.Entry, error) {
	door, err := t.dir.Door()
	if err != nil {
		return nil, err
	}
	defer door.Close()
	if err := t.knock(launch.Knock); err != nil {
		return nil, err
	}
	// It goes on waiting in its read of the gate: to stop it again could stop what has been started meanwhile.
	if err := unix.PidfdSendSignal(t.initFD, unix.SIGCONT, nil, 0); err != nil {
		return nil, fmt.Errorf("continue init: %w", err)
	}
	return launch.ReceiveEntry(ctx, door)
}

// root is a path that leads to init's root directory.
func (t *target) root() string {
	if t.entry != nil {
		return fmt.Sprintf("/proc/self/fd/%d", t.entry.Root)
	}
	return procRoot(t.initPid)
}
