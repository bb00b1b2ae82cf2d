package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/parity/ask"
)

// host is what the bundles find on the host, the same for all.
type host struct {
	namespaces map[string]string // what the host's are called
	joined     map[string]string // labels for those of holders, by what they are called
	paths      map[string]string // /proc paths of namespaces to join, by the spec's types; "user-net" is owned by "user"
	shared     string            // a directory on a shared mount
	cgroups    ask.Cgroups

	holders []*exec.Cmd
}

// newHost looks at the host and makes namespaces to join.
//
// Preconditions: the caller's thread is the main one, which ends last: the holders end with the thread that started them.
func newHost(dir string) (h *host, err error) {
	h = &host{namespaces: map[string]string{}, joined: map[string]string{}, paths: map[string]string{}, shared: filepath.Join(dir, "shared")}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	entries, err := os.ReadDir("/proc/self/ns")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if h.namespaces[e.Name()], err = os.Readlink("/proc/self/ns/" + e.Name()); err != nil {
			return nil, err
		}
	}
	if h.cgroups, err = hostCgroups(); err != nil {
		return nil, err
	}
	if err := h.hold("joined", 0, unix.CLONE_NEWNET|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC|unix.CLONE_NEWNS|unix.CLONE_NEWCGROUP|unix.CLONE_NEWPID); err != nil {
		return nil, err
	}
	if err := h.hold("joined with its user", 1000, unix.CLONE_NEWUSER|unix.CLONE_NEWNET|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC); err != nil {
		return nil, err
	}
	return h, errors.Join(os.Mkdir(h.shared, 0o755), h.holdTime())
}

// specTypes are the spec's names for the files of /proc/PID/ns.
var specTypes = map[string]string{"net": "network", "uts": "uts", "ipc": "ipc", "mnt": "mount", "cgroup": "cgroup", "pid": "pid", "user": "user"}

// hold starts a process that has the namespaces.
func (h *host) hold(label string, firstID int, flags uintptr) error {
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if firstID > 0 {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100_000, Size: 65536}}
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = ids, ids
		cmd.SysProcAttr.Credential = &syscall.Credential{NoSetGroups: true}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("make namespaces to join: %w", err)
	}
	h.holders = append(h.holders, cmd)
	for file, kind := range specTypes {
		path := fmt.Sprintf("/proc/%d/ns/%s", cmd.Process.Pid, file)
		link, err := os.Readlink(path)
		if err != nil {
			return err
		}
		if link != h.namespaces[file] {
			h.joined[link] = label
			if firstID > 0 && file != "user" {
				kind = "user-" + kind
			}
			h.paths[kind] = path
		}
	}
	return nil
}

// holdTime makes a time namespace, which a process enters when it executes a program.
func (h *host) holdTime() error {
	cmd := exec.Command("unshare", "--time", "--monotonic", "1000", "sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	h.holders = append(h.holders, cmd)
	path := fmt.Sprintf("/proc/%d/ns/time", cmd.Process.Pid)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		link, err := os.Readlink(path)
		if err != nil {
			return nil // a kernel without them: the variations are refused
		}
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
		if link != h.namespaces["time"] && strings.TrimSpace(string(comm)) == "sleep" {
			h.joined[link], h.paths["time"] = "joined", path
			return nil
		}
	}
	return fmt.Errorf("make a time namespace: unshare has not executed sleep after %v", patience)
}

func (h *host) close() {
	for _, cmd := range h.holders {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
