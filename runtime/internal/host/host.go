// Package host finds out what this kernel and this process can do, once.
package host

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/sys"
)

// Host are facts that do not change while the process lives, and descriptors that stay open as long.
type Host struct {
	Capabilities uint64 // the permitted set of this process
	LastCap      int
	KCore        bool     // there is /proc/kcore
	SeccompFlags uint32   // SECCOMP_FILTER_FLAG_* that the kernel knows
	Proc         *os.File // O_PATH on /proc, checked to be proc's root
	DevNull      *os.File // read-write

	// User: this process is an ordinary user's, not even root's of a user namespace.
	User bool
	// InUserNS: this process is in a user namespace that somebody has made, where root has no privileges on the host.
	InUserNS bool
	// Mounts: this process may copy the mounts of its mount namespace.
	Mounts bool
}

// Restricted tells whether what only root of the host may do is refused to this process.
func (h *Host) Restricted() bool { return h.User || h.InUserNS }

// Probe returns the facts; the first call finds them out.
var Probe = sync.OnceValues(probe)

// minimum is the oldest kernel that has every call of the launch plan: the last was mount_setattr with idmaps, and
// cgroup.kill, in 5.14.
var minimum = [2]int{5, 14}

func probe() (*Host, error) {
	if err := checkKernel(); err != nil {
		return nil, err
	}
	h := &Host{LastCap: lastCap()}
	var err error
	if h.Proc, err = openProc(); err != nil {
		return nil, err
	}
	if h.DevNull, err = sys.OpenFile("/dev/null", unix.O_RDWR); err != nil {
		return nil, err
	}
	if h.Capabilities, err = permitted(); err != nil {
		return nil, err
	}
	h.KCore = unix.Access("/proc/kcore", unix.F_OK) == nil
	h.SeccompFlags = seccompFlags()
	h.User, h.InUserNS, h.Mounts = os.Geteuid() != 0, inUserNS(), true
	if h.Restricted() {
		h.Mounts = mayCopyMounts()
		if err := checkProc(); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// PIDNS returns this process's pid namespace, a descriptor that stays open; the first call opens it.
var PIDNS = sync.OnceValues(func() (int, error) {
	return sys.Open("/proc/self/ns/pid", unix.O_RDONLY)
})

// AppArmor tells whether the kernel confines by profiles.
func AppArmor() bool {
	b, err := sys.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && len(b) > 0 && b[0] == 'Y'
}

// SELinux tells whether the kernel confines by labels.
func SELinux() bool {
	_, err := os.Stat("/sys/fs/selinux/enforce")
	return err == nil
}

// inUserNS tells whether this process is in another user namespace than the first, whose inode has a number of its own since
// Linux 3.8 (USER_NS_INIT_INO of linux/nsfs.h).
func inUserNS() bool {
	const first = 0xeffffffd
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/user", &st) == nil && st.Ino != first
}

// checkProc makes sure that /proc is that of this process's pid namespace: unshare(1) without --mount-proc leaves another, where
// our pids are those of strangers.
func checkProc() error {
	name, err := os.Readlink("/proc/self")
	if err != nil {
		return fmt.Errorf("/proc shows nothing of this process: %w", err)
	}
	if name != strconv.Itoa(os.Getpid()) {
		return errors.New("/proc is that of another pid namespace: mount a proc file system of this one (unshare --mount-proc)")
	}
	return nil
}

func mayCopyMounts() bool {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

func checkKernel() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	return supported(unix.ByteSliceToString(u.Release[:]))
}

// supported refuses a kernel release that is too old.
func supported(release string) error {
	var have [2]int
	for i, part := range strings.SplitN(release, ".", 3) {
		if i < 2 {
			if end := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
				part = part[:end]
			}
			have[i], _ = strconv.Atoi(part)
		}
	}
	if have[0] < minimum[0] || have[0] == minimum[0] && have[1] < minimum[1] {
		return fmt.Errorf("kernel %s: Linux %d.%d or later is needed, for mount_setattr(2) with id-mapped mounts and for cgroup.kill",
			release, minimum[0], minimum[1])
	}
	return nil
}

// openProc opens /proc and makes sure that it is proc itself, not something mounted to deceive us.
func openProc() (*os.File, error) {
	fd, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/proc", Err: err}
	}
	var fs unix.Statfs_t
	var st unix.Stat_t
	const rootIno = 1
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		unix.Close(fd)
		return nil, fmt.Errorf("/proc is not a proc file system")
	}
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != rootIno {
		unix.Close(fd)
		return nil, fmt.Errorf("/proc is not the root of a proc file system")
	}
	return os.NewFile(uintptr(fd), "/proc"), nil
}

// lastCap returns the highest capability that this kernel knows (PR_CAPBSET_READ, prctl(2): EINVAL beyond it).
func lastCap() int {
	n := unix.CAP_CHECKPOINT_RESTORE // Linux 5.9
	for {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n+1), 0, 0, 0); err != nil {
			return n
		}
		n++
	}
}

func permitted() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("capget: %w", err)
	}
	return uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32, nil
}

// seccompFlags asks for flags with a NULL program: a known flag comes as far as reading it (EFAULT). A kernel that is new enough
// for us and has filters has the first five flags; WAIT_KILLABLE_RECV (bit 5) came later, and is refused without NEW_LISTENER
// (bit 3).
func seccompFlags() uint32 {
	known := uint32(0)
	for _, f := range []struct{ ask, known uint32 }{{1, 0x1f}, {1<<5 | 1<<3, 1 << 5}} {
		if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(f.ask), 0); errno == unix.EFAULT {
			known |= f.known
		}
	}
	return known
}

// HasNamespace tells whether this kernel has the namespaces whose file in /proc/PID/ns has the name.
func HasNamespace(name string) bool {
	_, err := os.Lstat("/proc/self/ns/" + name)
	return err == nil
}

// Resctrl tells what this machine lacks for linux.intelRdt, "" when it lacks nothing.
func Resctrl() string {
	list, err := sys.ReadFile("/proc/filesystems")
	if err == nil && !slices.Contains(strings.Fields(string(list)), "resctrl") {
		return "this kernel or CPU has no resource control (/proc/filesystems has no resctrl)"
	}
	const dir = "/sys/fs/resctrl"
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.RDTGROUP_SUPER_MAGIC {
		return "no resctrl file system is mounted on " + dir
	}
	return ""
}
