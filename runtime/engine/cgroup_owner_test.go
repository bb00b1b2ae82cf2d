package engine

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestCgroupOwner(t *testing.T) {
	cgroups := func(options ...string) []specs.Mount {
		return []specs.Mount{{Source: "proc", Destination: "/proc"}, {Source: "cgroup", Destination: "/sys/fs/cgroup/", Options: options}}
	}
	own, user := specs.LinuxNamespace{Type: specs.CgroupNamespace}, specs.LinuxNamespace{Type: specs.UserNamespace}
	maps := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 10}, {ContainerID: 1000, HostID: 5, Size: 1}}
	for _, test := range []struct {
		name       string
		mounts     []specs.Mount
		namespaces []specs.LinuxNamespace
		uid        uint32
		want       int
	}{
		{"root of a user namespace", cgroups("rw"), []specs.LinuxNamespace{own, user}, 0, 100000},
		{"a user of it", cgroups(), []specs.LinuxNamespace{user, own}, 9, 100009},
		{"a user of another range", cgroups(), []specs.LinuxNamespace{user, own}, 1000, 5},
		{"nobody", cgroups(), []specs.LinuxNamespace{user, own}, 10, 0},
		{"a user of the host", cgroups(), []specs.LinuxNamespace{own}, 1000, 1000},
		{"read-only", cgroups("nosuid", "ro"), []specs.LinuxNamespace{own, user}, 0, 0},
		{"no mount", nil, []specs.LinuxNamespace{own, user}, 0, 0},
		{"the host's cgroup namespace", cgroups(), []specs.LinuxNamespace{user}, 0, 0},
		{"another container's", cgroups(), []specs.LinuxNamespace{user, {Type: specs.CgroupNamespace, Path: "/x"}}, 0, 0},
	} {
		spec := &specs.Spec{Mounts: test.mounts, Process: &specs.Process{User: specs.User{UID: test.uid}},
			Linux: &specs.Linux{Namespaces: test.namespaces, UIDMappings: maps}}
		if got := cgroupOwner(spec); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
	if got := cgroupOwner(&specs.Spec{Mounts: cgroups()}); got != 0 {
		t.Errorf("without a process: %d", got)
	}
}
