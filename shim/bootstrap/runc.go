package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/internal/trusted"
	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/config"
)

// This file is for the containers of containerd-shim-runc-v2: when this program is installed in its place, delete is called
// for the containers that it made before.

// runcDefaultRoot is where containerd-shim-runc-v2 keeps runc's state without the option Root.
const runcDefaultRoot = "/run/containerd/runc"

func runcRoot(o config.Options, namespace string) string {
	if o.Root == "" {
		return filepath.Join(runcDefaultRoot, namespace)
	}
	return filepath.Join(o.Root, namespace)
}

// runcState is what delete needs of runc's state.json.
type runcState struct {
	dir       string
	Pid       int               `json:"init_process_pid"`
	StartTime uint64            `json:"init_process_start"` // clock ticks since boot
	Cgroups   map[string]string `json:"cgroup_paths"`       // by v1 controller; v2's is ""
}

// readRuncState returns nil when runc has no such container.
func readRuncState(root, id string) (*runcState, error) {
	dir := filepath.Join(root, id)
	text, err := trusted.ReadOwn(filepath.Join(dir, "state.json"), fileLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	s := &runcState{dir: dir}
	if err == nil {
		err = json.Unmarshal(text, s)
	}
	if err != nil {
		return nil, fmt.Errorf("read runc's state: %w", err)
	}
	if s.Pid == 0 && len(s.Cgroups) == 0 {
		return nil, nil // not runc's
	}
	return s, nil
}

// remove kills the container's processes and removes its cgroups and runc's state.
func (s *runcState) remove(ctx context.Context) error {
	if s == nil {
		return nil
	}
	for _, dir := range s.Cgroups { // before anybody is waited for: a frozen process does not die
		thaw(dir)
	}
	errs := []error{killInit(ctx, s.Pid, s.StartTime)}
	for _, dir := range s.Cgroups {
		errs = append(errs, killCgroup(ctx, dir))
	}
	for _, dir := range s.Cgroups {
		errs = append(errs, removeCgroup(dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove runc's container: %w", err)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove runc's state: %w", err)
	}
	return nil
}

// killInit kills the process if it is still the one that started then.
func killInit(ctx context.Context, pid int, start uint64) error {
	if pid <= 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil // gone
	}
	defer unix.Close(fd)
	// Read after the pidfd was opened: a start time that is right belongs to the pidfd's process.
	if now, err := startTime(pid); err != nil || now != start {
		return nil
	}
	unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	return waitEnd(ctx, fd)
}

// startTime returns field 22 of /proc/PID/stat.
func startTime(pid int) (uint64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The name, which can hold anything, ends at the last parenthesis; field 3 is next.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("parse /proc/%d/stat", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// waitEnd returns when the process of a pidfd has ended, or ctx has.
func waitEnd(ctx context.Context, pidfd int) error {
	for {
		deadline, _ := ctx.Deadline()
		timeout := max(0, int(time.Until(deadline).Milliseconds()))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, timeout)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("wait for killed process: %w", err)
		case n == 0:
			return errors.New("wait for killed process: it does not end")
		default:
			return nil
		}
	}
}

// thaw lets the processes in dir go on. One of the two files is there: on v1 in the freezer hierarchy, on v2 always.
func thaw(dir string) {
	os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
	os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("0"), 0)
}

// killCgroup kills every process in dir and below and waits for their ends, until none is left.
func killCgroup(ctx context.Context, dir string) error {
	for ctx.Err() == nil {
		pids := cgroupPids(dir)
		if len(pids) == 0 {
			return nil
		}
		if slices.Contains(pids, os.Getpid()) { // a container that had no cgroup of its own
			return fmt.Errorf("kill processes of %s: it is this process's cgroup too", dir)
		}
		var pidfds []int
		for _, pid := range pids {
			if fd, err := unix.PidfdOpen(pid, 0); err == nil {
				pidfds = append(pidfds, fd)
				unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			}
		}
		var err error
		for _, fd := range pidfds {
			err = errors.Join(err, waitEnd(ctx, fd))
			unix.Close(fd)
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("kill processes of %s: %w", dir, ctx.Err())
}

// cgroupPids lists the processes in dir and below.
func cgroupPids(dir string) []int {
	var pids []int
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // removed meanwhile, or a file
		}
		text, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for line := range strings.Lines(string(text)) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// removeCgroup removes the cgroup at dir with those below it.
func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := removeCgroup(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	return nil
}

// recordedExit returns the exit that a shim recorded in the bundle: exit.json, or else the pid of init.pid, killed now.
func recordedExit(bundle string) (engine.Exit, error) {
	text, err := trusted.ReadRegular(filepath.Join(bundle, "exit.json"), fileLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return killedNow(recordedPid(bundle)), nil
	}
	var exit struct {
		Timestamp time.Time `json:"timestamp"`
		Pid       int       `json:"pid"`
		Status    int       `json:"status"`
	}
	if err == nil {
		err = json.Unmarshal(text, &exit)
	}
	if err == nil && (exit.Pid <= 0 || exit.Status < 0 || exit.Timestamp.IsZero()) {
		err = errors.New("not an exit")
	}
	if err != nil {
		return killedNow(recordedPid(bundle)), fmt.Errorf("read exit.json: %w", err)
	}
	return engine.Exit{Pid: exit.Pid, Status: exit.Status, At: exit.Timestamp}, nil
}

// recordedPid returns the pid in the bundle's init.pid, 0 without one.
func recordedPid(bundle string) int {
	text, err := trusted.ReadRegular(filepath.Join(bundle, "init.pid"), fileLimit)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
