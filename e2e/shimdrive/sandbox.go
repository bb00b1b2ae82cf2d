package shimdrive

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"golang.org/x/sys/unix"
)

// Sandbox is the shim's sandbox service.
func (s *Shim) Sandbox() sandboxapi.TTRPCSandboxService {
	return sandboxapi.NewTTRPCSandboxClient(s.client)
}

// PinNetwork makes a network namespace as CRI does and returns its path, below dir; mapping, if it is not nil, is that of the user namespace
// which owns it. remove gives it up.
func PinNetwork(dir string, mapping []syscall.SysProcIDMap) (path string, remove func() error, err error) {
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	if mapping != nil {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = mapping, mapping
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("make a network namespace: %w", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // of a process that was killed
	}()
	path = filepath.Join(dir, "netns")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return "", nil, err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid), path, "", unix.MS_BIND, ""); err != nil {
		return "", nil, fmt.Errorf("pin the network namespace: %w", err)
	}
	return path, func() error { return unix.Unmount(path, unix.MNT_DETACH) }, nil
}
