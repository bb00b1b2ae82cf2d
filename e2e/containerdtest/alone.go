package containerdtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// aloneName is argv[0] of a program that runs alone; Alone looks for it.
const aloneName = "containerdtest-alone"

// Alone starts the program again in a network namespace and a mount namespace of its own, and ends with its exit code. In the program
// that was started again it returns. Bridges, packet filters and mounts of tests that run alone can neither meet nor outlive those of the
// machine.
//
// The new mount namespace is private and has an empty tmpfs on each of the directories, which are made when they are missing; the new
// network namespace has nothing but lo, which is up.
//
// Preconditions: root; Main has returned.
func Alone(directories ...string) error {
	if os.Args[0] == aloneName {
		return furnish(directories)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = aloneName
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		return fmt.Errorf("start in namespaces of its own: %w", err)
	}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return fmt.Errorf("the program in namespaces of its own: %v", cmd.ProcessState)
	}
	os.Exit(cmd.ProcessState.ExitCode())
	return nil
}

// furnish makes new namespaces fit to work in.
func furnish(directories []string) error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make / private in the new mount namespace: %w", err)
	}
	for _, dir := range directories {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
		}
	}
	return loopback()
}

// loopback takes lo up.
func loopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket: %w", err)
	}
	defer unix.Close(socket)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	err = unix.IoctlIfreq(socket, unix.SIOCGIFFLAGS, lo)
	lo.SetUint16(lo.Uint16() | unix.IFF_UP)
	if err := errors.Join(err, unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, lo)); err != nil {
		return fmt.Errorf("take lo up: %w", err)
	}
	return nil
}
