package launch

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// hint says what the kernel's refusal of a step mostly means, which errnos leave open; "" when there is nothing to add.
func hint(a plan.Action, err error) string {
	is := func(e unix.Errno) bool { return errors.Is(err, e) }
	switch a := a.(type) {
	case plan.Clone, plan.Unshare, plan.MakeNetwork:
		return namespaceHint(is)
	case plan.Root:
		if is(unix.EACCES) {
			return "root of the container's user namespace may not enter a directory above it"
		}
	case plan.Bind, plan.MountFS, plan.Remount:
		return mountHint(a, is)
	case plan.ScoreAdj:
		if is(unix.EACCES) || is(unix.EPERM) {
			return "a value below the runtime's own needs CAP_SYS_RESOURCE"
		}
	case plan.Limits:
		if is(unix.EPERM) {
			return "a hard limit above the runtime's own needs CAP_SYS_RESOURCE, and RLIMIT_NOFILE is bounded by sysctl fs.nr_open"
		}
	case plan.Affinity:
		if is(unix.EINVAL) {
			return "the cgroup has none of these CPUs, or the machine has not"
		}
	case plan.Scheduler:
		return schedulerHint(a, is)
	case plan.IOPriority:
		if is(unix.EPERM) {
			return "the real-time class needs CAP_SYS_ADMIN or CAP_SYS_NICE"
		}
	case plan.Personality:
		if is(unix.EINVAL) {
			return "this kernel or CPU runs no 32-bit programs"
		}
	case plan.Sysctl:
		switch {
		case is(unix.ENOENT):
			return "the kernel has no such parameter"
		case is(unix.EACCES) || is(unix.EPERM):
			return "the kernel does not let this user namespace's root change it"
		}
	case plan.SetOffsets:
		if is(unix.ERANGE) {
			return "a clock would be before 0 or too far ahead"
		}
	case plan.BecomeRoot:
		if is(unix.EINVAL) {
			return "the user namespace does not map the id"
		}
	case plan.Credentials:
		switch {
		case is(unix.EINVAL):
			return "the user namespace does not map the id"
		case is(unix.EPERM) && len(a.Groups) > 0:
			return "the user namespace may forbid setgroups"
		}
	case plan.MapIDs:
		if is(unix.EPERM) {
			return "the runtime may map only its own ids, or those of the user namespace that it is root of"
		}
	case plan.JoinContainer:
		if is(unix.EPERM) {
			return "the container belongs to another user, or to a user namespace beyond the caller's rights"
		}
	case plan.Join:
		if is(unix.EPERM) || is(unix.EINVAL) || is(unix.EUSERS) {
			return "the namespace belongs to a user namespace beyond the caller's rights, or it is the caller's own"
		}
	case plan.MemoryPolicy:
		switch {
		case is(unix.ENOSYS):
			return "the kernel has no NUMA support (CONFIG_NUMA)"
		case is(unix.EINVAL):
			return "none of the nodes is there or allowed by the cgroup, the flags exclude each other, or the kernel is too old for the mode"
		}
	}
	return ""
}

func namespaceHint(is func(unix.Errno) bool) string {
	switch {
	case is(unix.EACCES):
		return "the caller may not move a process from its cgroup to the container's: the one above both was not delegated to it"
	case is(unix.EPERM), is(unix.ENOSPC), is(unix.EUSERS):
		return "users may not make these namespaces, or not so many (sysctls user.max_*_namespaces, kernel.unprivileged_userns_clone)"
	}
	return ""
}

func schedulerHint(s plan.Scheduler, is func(unix.Errno) bool) string {
	realtime := s.Name == "SCHED_FIFO" || s.Name == "SCHED_RR"
	switch {
	case is(unix.EOPNOTSUPP):
		return "the kernel has no utilization clamping (CONFIG_UCLAMP_TASK)"
	case is(unix.EBUSY):
		return "the CPUs have not that much deadline bandwidth left"
	case is(unix.EPERM) && realtime:
		return "CAP_SYS_NICE is missing, or the cgroup has no real-time bandwidth: cgroup v1 has linux.resources.cpu.realtimeRuntime for that, v2 nothing"
	case is(unix.EPERM) && s.Name == "SCHED_DEADLINE":
		return "CAP_SYS_NICE is missing, or the cgroup does not span all CPUs, or has no real-time bandwidth"
	case is(unix.EPERM):
		return "CAP_SYS_NICE is missing"
	case is(unix.EINVAL) && s.Name == "SCHED_ISO":
		return "the kernel does not implement this policy"
	}
	return ""
}

func mountHint(a plan.Action, is func(unix.Errno) bool) string {
	fs, isFS := a.(plan.MountFS)
	_, isRemount := a.(plan.Remount)
	bind, isBind := a.(plan.Bind)
	switch {
	case isBind && is(unix.EINVAL) && !bind.Recursive:
		return "in a user namespace, what is mounted below the source may not be left out: use rbind"
	case is(unix.ENOTDIR):
		return "one of source and destination is a directory, the other a file"
	case is(unix.EROFS):
		return "the mount point is not there, and what is to have it is read-only"
	case is(unix.ELOOP):
		return "the destination is a symbolic link, or leads through a loop of them"
	case isFS && is(unix.ENODEV):
		return "this kernel has no file system " + fs.Type
	case isFS && is(unix.EINVAL) && slices.ContainsFunc(fs.Params, func(p plan.FSParam) bool { return p.Key == "uid" || p.Key == "gid" }):
		return "an option that " + fs.Type + " does not take, or an id that the user namespace does not have"
	case isFS && is(unix.EINVAL):
		return "an option that " + fs.Type + " does not take"
	case isFS && is(unix.EPERM) && fs.Type == "proc":
		return "in a user namespace it takes a new pid namespace"
	case isFS && is(unix.EPERM) && fs.Type == "mqueue":
		return "in a user namespace it takes a new ipc namespace"
	case isRemount && is(unix.EINVAL):
		return "the destination is no mount point, or an option is wrong"
	}
	return ""
}
