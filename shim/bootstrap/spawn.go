package bootstrap

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The file descriptors that the daemon inherits beside /dev/null.
const (
	ListenerFD      = 3
	DebugListenerFD = 4 // with -debug
)

// ExecutableEnv is set in the daemon's environment to the reason why it runs from the host's file and not from a read-only
// mount of it; see sealedExecutable.
const ExecutableEnv = "GOSUDA_UNSEALED"

// inherited names the variables that the daemon gets from containerd. A container's init is a copy of the daemon until its
// execve, so what is not needed, such as a proxy's password in containerd's unit file, does not get in.
var inherited = []string{
	"GODEBUG", "GOTRACEBACK", "GOCOVERDIR", // of the Go runtime
	"GRPC_ADDRESS",                                // of containerd's contract
	"PATH",                                        // where loggers and criu are found
	"DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", // of the user's systemd
	"TZ", "TMPDIR",
}

// maxProcs is how many threads of a shim run Go code at a time. One is enough, what costs time is done by the kernel and by
// the children, and each more has its own caches of the heap: with 4 the shim of one container had 2.8 MiB of private memory,
// with 2 2.4, with 1 2.1.
const maxProcs = "1"

// daemonEnvironment is the environment of the daemon. env is that of this process.
func daemonEnvironment(f Flags, r request, env []string) []string {
	var out []string
	for _, name := range inherited {
		for _, kv := range env {
			if strings.HasPrefix(kv, name) && strings.HasPrefix(kv[len(name):], "=") {
				out = append(out, kv)
			}
		}
	}
	return append(out,
		"NAMESPACE="+f.Namespace,
		"TTRPC_ADDRESS="+r.ttrpcAddress,
		"OTEL_SERVICE_NAME=containerd-shim-"+f.ID,
		"GOMAXPROCS="+maxProcs,
	)
}

// daemonArguments is the command line of the daemon. It is that of containerd's own shims: tools look for the id in it.
func daemonArguments(program string, f Flags, r request) []string {
	args := []string{program, "-namespace", f.Namespace, "-id", f.ID, "-address", r.address}
	if r.debug {
		args = append(args, "-debug")
	}
	return args
}

// spawn starts the daemon in the working directory, in a process group of its own, with listeners from ListenerFD on and
// /dev/null for the rest: containerd reads our output until nobody holds it.
func spawn(args, env []string, listeners []int) (pid int, err error) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open /dev/null: %w", err)
	}
	defer unix.Close(null)

	path := "/proc/self/exe"
	sealed, err := sealedExecutable()
	if err == nil {
		defer unix.Close(sealed)
		path = "/proc/self/fd/" + strconv.Itoa(sealed)
	} else {
		env = append(env, ExecutableEnv+"="+err.Error())
	}
	// What our own parent left open ends here.
	if err := unix.CloseRange(ListenerFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return 0, fmt.Errorf("close inherited files: %w", err)
	}
	attr := syscall.ProcAttr{Env: env, Sys: &syscall.SysProcAttr{Setpgid: true}}
	for _, fd := range append([]int{null, null, null}, listeners...) {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	// The daemon inherits that of this thread; ours is longer (cli/entry_amd64.s).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, usualTimerSlack, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("start daemon: set the timer slack: %w", err)
	}
	pid, err = syscall.ForkExec(path, args, &attr)
	if err != nil {
		return 0, fmt.Errorf("start daemon: %w", err)
	}
	return pid, nil
}

// usualTimerSlack is the kernel's default, in nanoseconds.
const usualTimerSlack = 50_000

// firstFreeFD is above every number that ForkExec moves files to in the child.
const firstFreeFD = 64

// sealedExecutable returns this program's file on a read-only mount that only the handle leads to.
//
// A container can make its init execute /proc/self/exe, or open /proc/PID/exe of our child before its execve, and keep the
// handle until the process is gone and the file may be written again. Through this mount it may never. Before changing this,
// run TestDaemonFileCannotBeOverwritten.
func sealedExecutable() (fd int, err error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/exe", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(tree)
	readonly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &readonly); err != nil {
		return -1, os.NewSyscallError("mount_setattr", err)
	}
	fd, err = unix.FcntlInt(uintptr(tree), unix.F_DUPFD_CLOEXEC, firstFreeFD)
	return fd, os.NewSyscallError("fcntl", err)
}

// kill ends a daemon that spawn started and reaps it.
func kill(pid int) {
	unix.Kill(pid, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}
