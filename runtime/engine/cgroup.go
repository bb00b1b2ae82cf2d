package engine

import (
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// cgroupOwner returns the user on the host that the container's cgroup is given to, 0 for nobody: the one that process.user
// is, if the container has a new cgroup namespace and sees its cgroups where it can write to them (config-linux.md,
// "Cgroup ownership").
func cgroupOwner(spec *specs.Spec) int {
	if spec.Process == nil || spec.Linux == nil || !writesCgroups(spec.Mounts) {
		return 0
	}
	newCgroup, user := false, false
	for _, n := range spec.Linux.Namespaces {
		switch n.Type {
		case specs.CgroupNamespace:
			newCgroup = n.Path == ""
		case specs.UserNamespace:
			user = true
		}
	}
	uid := spec.Process.User.UID
	switch {
	case !newCgroup:
		return 0
	case !user:
		return int(uid)
	}
	for _, m := range spec.Linux.UIDMappings {
		if uid >= m.ContainerID && uid-m.ContainerID < m.Size {
			return int(m.HostID + uid - m.ContainerID)
		}
	}
	return 0 // nobody on the host, or only the joined namespace knows
}

func writesCgroups(mounts []specs.Mount) bool {
	return slices.ContainsFunc(mounts, func(m specs.Mount) bool {
		return m.Source == "cgroup" && filepath.Clean(m.Destination) == "/sys/fs/cgroup" &&
			!slices.Contains(m.Options, "ro") && !slices.Contains(m.Options, "rro")
	})
}
