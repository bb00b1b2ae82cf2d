// Package alone starts a test program again where it can neither meet nor outlive anything: in namespaces of its own, and, for programs that
// look for much where their distribution has it, in that distribution's root file system.
package alone

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/processes"
)

// aloneName is argv[0] of a program that runs alone; Start looks for it.
const aloneName = "e2e-alone"

// patience is how long what the program started may take to end after it.
const patience = 10 * time.Second

// Config is what the program finds when it is alone.
type Config struct {
	// Root is a directory with another system, which becomes "/"; what is written there is lost with the program. Without it "/" stays the
	// machine's.
	Root string
	// Empty are directories on each of which an empty tmpfs is mounted. They are made when they are missing.
	Empty []string
	// Bind are directories of the machine, absolute paths without symbolic links, that Root has at the same paths.
	Bind []string
	// Processes gives the program a PID namespace of its own, whose process 1 it is: the machine of what it starts, whose mounts are its own.
	Processes bool
}

// Start starts the program again in a network namespace and a mount namespace of its own, waits for it, and ends with its exit code. In the
// program that was started again it returns.
//
// The mount namespace is private; the network namespace has nothing but lo, which is up. The first program is the subreaper of the second:
// processes that it left fail the run, by their names, and are killed.
//
// Preconditions: root; nothing else was started.
func Start(c Config) error {
	if os.Args[0] == aloneName {
		return c.furnish()
	}
	code, err := c.again()
	if err != nil {
		return err
	}
	if left := remains(); len(left) > 0 {
		for _, process := range left {
			fmt.Fprintln(os.Stderr, "left behind: process", process)
		}
		processes.End(os.Getpid())
		code = max(code, 1)
	}
	os.Exit(code)
	return nil
}

// again runs the program again and returns its exit code. Meanwhile it reaps what others leave, as an init does.
func (c Config) again() (code int, err error) {
	runtime.LockOSThread() // the death of the thread is what kills the child
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("become a subreaper: %w", err)
	}
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT) // it reaches the child, whose end we see
	flags := uintptr(unix.CLONE_NEWNET | unix.CLONE_NEWNS)
	if c.Processes {
		flags |= unix.CLONE_NEWPID
	}
	child, err := os.StartProcess("/proc/self/exe", append([]string{aloneName}, os.Args[1:]...), &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return 0, fmt.Errorf("start in namespaces of its own: %w", err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR) || err == nil && pid != child.Pid:
		case err != nil:
			return 0, fmt.Errorf("wait for the program in namespaces of its own: %w", err)
		case status.Signaled():
			return 0, fmt.Errorf("the program in namespaces of its own: %v", status.Signal())
		default:
			return status.ExitStatus(), nil
		}
	}
}

// remains lists the processes that do not end by themselves.
func remains() (left []string) {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		for pid := 1; pid > 0; {
			pid, _ = unix.Wait4(-1, nil, unix.WNOHANG, nil)
		}
		if left = processes.Below(os.Getpid(), 0); len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
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
