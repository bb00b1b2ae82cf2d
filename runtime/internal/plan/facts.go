package plan

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/seccomp"
)

// Facts are what Compile must know about the host and the container's files.
type Facts struct {
	CgroupV2 bool
	NoCgroup bool // the container has no cgroup of its own
	// CgroupsLater: the caller would make the cgroups while the child works, where the plan lets it (EnterCgroup.Later).
	CgroupsLater bool
	// CgroupV1 lists the host's v1 hierarchies, named as mount options and as directories of a cgroup mount.
	CgroupV1 []Hierarchy
	// Capabilities is the caller's permitted set: what the spec asks beyond it is left out with a warning, as the spec says.
	Capabilities uint64
	LastCap      int
	// Home is the home directory of process.user in the container's /etc/passwd, "/" when it has none.
	Home string
	// Keyring is the name of the container's session keyring; "" leaves its processes the caller's. Who knows it can join: it
	// must not be guessed.
	Keyring string
	// HasNamespace tells whether the kernel has namespaces of a type; nil stands for a kernel that has all. Asked only for a
	// config that needs it.
	HasNamespace func(Namespaces) bool
	// AppArmor and SELinux tell whether the kernel has them; nil stands for one that has not. Asked only for a config that wants them.
	AppArmor, SELinux func() bool
	// Resctrl tells what this machine lacks for linux.intelRdt, "" when it lacks nothing. Asked only for a config that has it.
	Resctrl func() string
	KCore   bool // there is /proc/kcore
	// Restricted: the caller has no privileges on the host, though it may have all of them in a user namespace. NoMounts: it may
	// not even copy mounts. User: it is an ordinary user, who has none anywhere; nil for any root.
	Restricted, NoMounts bool
	User                 *User
	// CompileSeccomp compiles a profile; the caller may cache.
	CompileSeccomp func(*specs.LinuxSeccomp) (*seccomp.Filter, error)
}

func (f *Facts) hasAppArmor() bool { return f.AppArmor != nil && f.AppArmor() }
func (f *Facts) hasSELinux() bool  { return f.SELinux != nil && f.SELinux() }

// Hierarchy is one cgroup v1 mount.
type Hierarchy struct {
	Options []string // controllers, or "name=systemd" (and "none")
	Dir     string   // name below /sys/fs/cgroup
	Path    string   // the container's cgroup directory in it, absolute on the host; used without a cgroup namespace
}

// Options are what the caller of create decides beside config.json.
type Options struct {
	ID       string
	RootPath string // absolute path of the root file system
	// NoPivot: move the root file system over the host's instead of pivot_root(2), which refuses a root on a ramdisk.
	NoPivot bool
}

// Error is a config.json that cannot be honoured; Path names the property.
type Error struct {
	Path string
	Msg  string
}

func (e *Error) Error() string { return e.Path + ": " + e.Msg }
