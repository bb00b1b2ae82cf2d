package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ipcSysctls are those of an IPC namespace that runc takes, too.
var ipcSysctls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
	"kernel.shm_rmid_forced",
}

// sysctls plans the kernel parameters; only those of a namespace that is the container's own may be set.
func (c *compiler) sysctls() error {
	for _, k := range slices.Sorted(maps.Keys(c.spec.Linux.Sysctl)) {
		at := "linux.sysctl." + k
		s := Sysctl{Key: k, Value: c.spec.Linux.Sysctl[k]}
		file := s.Path()
		need, ok := sysctlNamespace(file)
		switch {
		case !ok:
			return &Error{at, "is not a parameter of a namespace; it would change the host"}
		case !c.has(need):
			return &Error{at, fmt.Sprintf("needs a %s namespace in linux.namespaces; it would change the host", need)}
		case file == "kernel/hostname":
			return &Error{at, "conflicts with hostname, which is the property for it"}
		case slices.ContainsFunc(strings.Split(file, "/"), func(part string) bool { return part == "" || part == "." || part == ".." }):
			return &Error{at, "is no sysctl name"}
		}
		if file == "kernel/domainname" {
			// By its system call, which the root of a user namespace may make while it may not write the file.
			c.add(at, Hostname{Name: s.Value, Domain: true})
			continue
		}
		c.add(at, s)
	}
	return nil
}

// sysctlNamespace returns the type of the namespaces that have the parameter below /proc/sys.
func sysctlNamespace(file string) (need Namespaces, ok bool) {
	switch {
	case strings.HasPrefix(file, "net/"):
		return NewNet, true
	case strings.HasPrefix(file, "fs/mqueue/"), slices.Contains(ipcSysctls, strings.ReplaceAll(file, "/", ".")):
		return NewIPC, true
	case file == "kernel/domainname", file == "kernel/hostname":
		return NewUTS, true
	case strings.HasPrefix(file, "user/"):
		return NewUser, true
	}
	return 0, false
}

// changesNet tells whether the config changes what is in its network namespace.
func (c *compiler) changesNet() bool {
	for k := range c.spec.Linux.Sysctl {
		if need, _ := sysctlNamespace(Sysctl{Key: k}.Path()); need == NewNet {
			return true
		}
	}
	return len(c.spec.Linux.NetDevices) > 0
}
