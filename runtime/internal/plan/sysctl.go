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
		if why := s.refusal(c.has); why != "" {
			return &Error{at, why}
		}
		if s.Path() == domainName {
			// By its system call, which the root of a user namespace may make while it may not write the file.
			c.add(at, Hostname{Name: s.Value, Domain: true})
			continue
		}
		c.add(at, s)
	}
	return nil
}

// domainName and hostName are the parameters that have system calls.
const (
	domainName = "kernel/domainname"
	hostName   = "kernel/hostname"
)

// IsDomainName tells whether the parameter is what setdomainname(2) sets.
func (s Sysctl) IsDomainName() bool { return s.Path() == domainName }

// Namespace is the type of the namespaces that have the parameter, 0 when the host alone has it.
func (s Sysctl) Namespace() Namespaces {
	need, _ := sysctlNamespace(s.Path())
	return need
}

// Check refuses a parameter that is not of one of the given namespaces: it would change the host. The error is an *Error.
func (s Sysctl) Check(own Namespaces) error {
	if why := s.refusal(func(n Namespaces) bool { return own&n != 0 }); why != "" {
		return &Error{"linux.sysctl." + s.Key, why}
	}
	return nil
}

// refusal says why the parameter may not be set by who has the namespaces; "" when it may.
func (s Sysctl) refusal(has func(Namespaces) bool) string {
	file := s.Path()
	need, ok := sysctlNamespace(file)
	switch {
	case !ok:
		return "is not a parameter of a namespace; it would change the host"
	case !has(need):
		return fmt.Sprintf("needs a %s namespace in linux.namespaces; it would change the host", need)
	case file == hostName:
		return "conflicts with hostname, which is the property for it"
	case slices.ContainsFunc(strings.Split(file, "/"), func(part string) bool { return part == "" || part == "." || part == ".." }):
		return "is no sysctl name"
	}
	return ""
}

// sysctlNamespace returns the type of the namespaces that have the parameter below /proc/sys.
func sysctlNamespace(file string) (need Namespaces, ok bool) {
	switch {
	case strings.HasPrefix(file, "net/"):
		return NewNet, true
	case strings.HasPrefix(file, "fs/mqueue/"), slices.Contains(ipcSysctls, strings.ReplaceAll(file, "/", ".")):
		return NewIPC, true
	case file == domainName, file == hostName:
		return NewUTS, true
	case strings.HasPrefix(file, "user/"):
		return NewUser, true
	}
	return 0, false
}

// changesNet tells whether the config changes what is in its network namespace.
func (c *compiler) changesNet() bool {
	for k := range c.spec.Linux.Sysctl {
		if (Sysctl{Key: k}).Namespace() == NewNet {
			return true
		}
	}
	return len(c.spec.Linux.NetDevices) > 0
}
