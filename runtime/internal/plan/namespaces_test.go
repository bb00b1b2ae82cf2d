package plan_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

func timeOffsets(s *specs.Spec) {
	addNamespace(s, specs.TimeNamespace, "")
	s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 86400, Nanosecs: 5}, "boottime": {Secs: -10}}
}

func TestNamespacePlans(t *testing.T) {
	goldenCase(t, "time", true, func(s *specs.Spec) { addNamespace(s, specs.TimeNamespace, "") })
	goldenCase(t, "time-offsets", true, timeOffsets)
	goldenCase(t, "time-offsets-userns", true, func(s *specs.Spec) { timeOffsets(s); userNamespace(s) })
	goldenCase(t, "time-joined", true, func(s *specs.Spec) { addNamespace(s, specs.TimeNamespace, "/proc/10/ns/time") })
	goldenCase(t, "userns-joined-with-maps", true, func(s *specs.Spec) {
		timeOffsets(s)
		userNamespace(s)
		addNamespace(s, specs.UserNamespace, "/proc/10/ns/user")
	})
	goldenCase(t, "all-joined", true, func(s *specs.Spec) {
		s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
		for typ, file := range map[specs.LinuxNamespaceType]string{specs.UserNamespace: "user", specs.PIDNamespace: "pid", specs.NetworkNamespace: "net",
			specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.CgroupNamespace: "cgroup", specs.TimeNamespace: "time"} {
			addNamespace(s, typ, "/proc/10/ns/"+file)
		}
	})
}

// TestNetworkBeside: what takes the kernel longest is not the child's work, if it can be anybody's.
func TestNetworkBeside(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*specs.Spec)
		beside bool
	}{
		{"a new one", func(*specs.Spec) {}, true},
		{"with a cgroup namespace", func(s *specs.Spec) { addNamespace(s, specs.CgroupNamespace, "") }, true},
		{"the caller's", func(s *specs.Spec) { dropNamespace(s, specs.NetworkNamespace) }, false},
		{"another's", func(s *specs.Spec) { addNamespace(s, specs.NetworkNamespace, "/proc/10/ns/net") }, false},
		{"a user namespace's", userNamespace, false},
		{"a joined user namespace's", func(s *specs.Spec) { addNamespace(s, specs.UserNamespace, "/proc/10/ns/user") }, false},
	} {
		spec := testkit.Spec("true")
		tc.change(spec)
		if beside := plan.NetworkBeside(spec); beside != tc.beside {
			t.Errorf("%s: %t", tc.name, beside)
		}
		p, err := plan.Compile(spec, "/bundle", facts(true), plan.Options{ID: "x", RootPath: "/r"})
		if err != nil {
			t.Fatal(err)
		}
		made, entered, others := false, false, plan.Namespaces(0)
		for _, s := range p.Steps {
			switch a := s.Do.(type) {
			case plan.MakeNetwork:
				made = true
			case plan.EnterNetwork:
				entered = made
			case plan.Clone:
				others |= a.New
			case plan.Unshare:
				others |= a.New
			}
		}
		if made != tc.beside || entered != tc.beside || tc.beside && others&plan.NewNet != 0 {
			t.Errorf("%s: the plan is\n%s", tc.name, p)
		}
	}
}

// TestCgroupsLater: a child that may goes ahead while its cgroups are made, as far as to what wants it to be in there.
func TestCgroupsLater(t *testing.T) {
	hook := []specs.Hook{{Path: "/hook"}}
	view := func(change func(*specs.Spec)) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/cg", Type: "cgroup", Options: []string{"ro"}})
			change(s)
		}
	}
	mount := func(dest string) func(*specs.Spec) {
		return view(func(s *specs.Spec) { s.Mounts = append(s.Mounts, specs.Mount{Destination: dest, Type: "tmpfs"}) })
	}
	for _, tc := range []struct {
		name   string
		change func(*specs.Spec)
		before plan.Action // the step that comes next, behind what shows the cgroup; nil: the cgroup is entered at once
	}{
		{"no hurry", func(*specs.Spec) {}, plan.Limits{}},
		{"a view", view(func(*specs.Spec) {}), plan.SealMount{Dest: "/cg"}},
		{"two views", view(func(s *specs.Spec) { s.Mounts = append(s.Mounts, specs.Mount{Destination: "/cg2", Type: "cgroup"}) }), plan.MountFS{}},
		{"a mount beside a view", mount("/cgroup"), plan.SealMount{Dest: "/cg"}},
		{"a mount on a view", mount("/cg"), plan.MountFS{}},
		{"a mount in a view", mount("/cg/memory/here"), plan.MountFS{}},
		{"a mount over a view", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x/cg", Type: "cgroup"}, specs.Mount{Destination: "/x", Type: "tmpfs"})
		}, plan.MountFS{}},
		{"a device in a view", view(func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/cg/x", Type: "p"}} }), plan.Device{}},
		{"a masked path in a view", view(func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"/cg/memory"} }), plan.MaskPath{}},
		{"a read-only path in a view", view(func(s *specs.Spec) { s.Linux.ReadonlyPaths = []string{"/cg/memory"} }), plan.ReadOnlyPath{}},
		{"work in a view", view(func(s *specs.Spec) { s.Process.Cwd = "/cg/memory" }), plan.WorkDir{}},
		{"hooks with a view", view(func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateContainer: hook} }), plan.RunHooks{}},
		{"hooks", func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateRuntime: hook} }, plan.RunHooks{}},
		{"cgroup namespace", func(s *specs.Spec) { addNamespace(s, specs.CgroupNamespace, "") }, nil},
		{"joined cgroup namespace", func(s *specs.Spec) { addNamespace(s, specs.CgroupNamespace, "/proc/10/ns/cgroup") }, nil},
		{"user namespace", userNamespace, nil},
		{"joined user namespace", func(s *specs.Spec) { addNamespace(s, specs.UserNamespace, "/proc/10/ns/user") }, nil},
		{"the caller's mounts", func(s *specs.Spec) {
			dropNamespace(s, specs.MountNamespace)
			s.Mounts, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil, nil
		}, nil},
		{"a bind of the cgroup", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: "/sys/fs/cgroup/memory/x/"})
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec := testkit.Spec("true")
			tc.change(spec)
			f := facts(false)
			f.CgroupsLater = true
			p, err := plan.Compile(spec, "/bundle", f, plan.Options{ID: "x", RootPath: "/r"})
			if err != nil {
				t.Fatal(err)
			}
			var entries []int
			for i, s := range p.Steps {
				switch a := s.Do.(type) {
				case plan.EnterCgroup:
					entries = append(entries, i)
					if a.Later != (tc.before != nil) {
						t.Errorf("step %d: %+v", i+1, a)
					}
				case plan.Bind:
					if a.Later && (len(entries) == 0 || tc.before == nil) {
						t.Errorf("step %d: %s before the cgroup is there", i+1, a)
					}
				}
			}
			if len(entries) != 1 {
				t.Fatalf("entries %v", entries)
			}
			next := p.Steps[entries[0]+1:]
			for len(next) > 0 && isView(next[0].Do) {
				next = next[1:]
			}
			if tc.before != nil && reflect.TypeOf(next[0].Do) != reflect.TypeOf(tc.before) {
				t.Errorf("next comes %s", next[0].Do)
			}
			if seal, ok := tc.before.(plan.SealMount); ok && next[0].Do != plan.Action(seal) {
				t.Errorf("next comes %s", next[0].Do)
			}
		})
	}
}

func TestRefusedNamespaces(t *testing.T) {
	maps := func(uid ...specs.LinuxIDMapping) func(*specs.Spec) {
		return func(s *specs.Spec) {
			userNamespace(s)
			s.Linux.UIDMappings = uid
		}
	}
	offset := func(clock string, o specs.LinuxTimeOffset) func(*specs.Spec) {
		return func(s *specs.Spec) {
			addNamespace(s, specs.TimeNamespace, "")
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{clock: o}
		}
	}
	for _, tc := range []struct {
		path   string
		change func(*specs.Spec)
	}{
		{"linux.timeOffsets", func(s *specs.Spec) { timeOffsets(s); dropNamespace(s, specs.TimeNamespace) }},
		{"linux.timeOffsets", func(s *specs.Spec) { timeOffsets(s); addNamespace(s, specs.TimeNamespace, "/proc/10/ns/time") }},
		{"linux.timeOffsets.realtime", offset("realtime", specs.LinuxTimeOffset{})},
		{"linux.timeOffsets.monotonic.nanosecs", offset("monotonic", specs.LinuxTimeOffset{Nanosecs: 1e9})},
		{"linux.uidMappings", maps()},
		{"linux.gidMappings", func(s *specs.Spec) { userNamespace(s); s.Linux.GIDMappings = nil }},
		{"linux.uidMappings", func(s *specs.Spec) { userNamespace(s); dropNamespace(s, specs.UserNamespace) }},
		{"linux.uidMappings", maps(specs.LinuxIDMapping{ContainerID: 1, HostID: 1, Size: 1})},
		{"linux.uidMappings", maps(make([]specs.LinuxIDMapping, 341)...)},
		{"linux.uidMappings[0].size", maps(specs.LinuxIDMapping{})},
		{"linux.uidMappings[0]", maps(specs.LinuxIDMapping{Size: 1, HostID: 1<<32 - 1})},
		{"linux.uidMappings[1]", maps(specs.LinuxIDMapping{Size: 1}, specs.LinuxIDMapping{ContainerID: 1, HostID: 1, Size: 1<<32 - 1})},
		{"linux.uidMappings[1]", maps(specs.LinuxIDMapping{Size: 10}, specs.LinuxIDMapping{ContainerID: 9, HostID: 100, Size: 1})},
		{"linux.uidMappings[1]", maps(specs.LinuxIDMapping{Size: 10}, specs.LinuxIDMapping{ContainerID: 10, HostID: 9, Size: 2})},
		{"process.user.uid", func(s *specs.Spec) { userNamespace(s); s.Process.User.UID = 65536 }},
		{"process.user.gid", func(s *specs.Spec) { userNamespace(s); s.Process.User.GID = 65536 }},
		{"process.user.additionalGids[1]", func(s *specs.Spec) { userNamespace(s); s.Process.User.AdditionalGids = []uint32{1, 70000} }},
	} {
		refused(t, tc.path, tc.change)
	}
	spec := testkit.Spec("true")
	addNamespace(spec, specs.TimeNamespace, "")
	f := facts(true)
	f.HasNamespace = func(n plan.Namespaces) bool { return n != plan.NewTime }
	_, err := plan.Compile(spec, "/bundle", f, plan.Options{ID: "x", RootPath: "/r"})
	var e *plan.Error
	if !errors.As(err, &e) || e.Error() != "linux.namespaces[5]: this kernel has no time namespaces" {
		t.Errorf("a kernel without time namespaces: %v", err)
	}
}

// TestMappingLimits: what the kernel takes is not refused.
func TestMappingLimits(t *testing.T) {
	spec := testkit.Spec("true")
	userNamespace(spec)
	spec.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1<<32 - 1}}
	spec.Linux.GIDMappings = nil
	for i := range uint32(340) {
		spec.Linux.GIDMappings = append(spec.Linux.GIDMappings, specs.LinuxIDMapping{ContainerID: i, HostID: 1000 - i, Size: 1})
	}
	if _, err := plan.Compile(spec, "/bundle", facts(true), plan.Options{ID: "x", RootPath: "/r"}); err != nil {
		t.Error(err)
	}
}

// TestSysctls: those of the container's own namespaces and no other, as with runc.
func TestSysctls(t *testing.T) {
	for _, tc := range []struct {
		key  string
		drop specs.LinuxNamespaceType
		ok   bool
	}{
		{"net.core.somaxconn", "", true}, {"net/core/somaxconn", "", true}, {"net.core.somaxconn", specs.NetworkNamespace, false},
		{"kernel.shmmax", "", true}, {"kernel/sem", "", true}, {"kernel.shm_rmid_forced", specs.IPCNamespace, false},
		{"fs.mqueue.msg_max", "", true}, {"fs.mqueue.msg_max", specs.IPCNamespace, false},
		{"kernel.domainname", "", true}, {"kernel.domainname", specs.UTSNamespace, false},
		{"kernel.hostname", "", false}, {"kernel.hostname", specs.UTSNamespace, false},
		{"user.max_user_namespaces", "", true}, {"user.max_user_namespaces", specs.UserNamespace, false},
		{"kernel.msg_next_id", "", false}, {"kernel.core_pattern", "", false}, {"vm.swappiness", "", false}, {"net", "", false}, {"", "", false},
		{"net../x", "", false}, {"net..core", "", false}, {"net.core.", "", false}, {"net.ipv4.conf.eth0/1.forwarding", "", true},
	} {
		spec := testkit.Spec("true")
		userNamespace(spec)
		spec.Linux.Sysctl = map[string]string{tc.key: "1"}
		if tc.drop == specs.UserNamespace {
			spec.Linux.UIDMappings, spec.Linux.GIDMappings = nil, nil
		}
		dropNamespace(spec, tc.drop)
		_, err := plan.Compile(spec, "/bundle", facts(true), plan.Options{ID: "x", RootPath: "/r"})
		var e *plan.Error
		if (err == nil) != tc.ok || err != nil && (!errors.As(err, &e) || e.Path != "linux.sysctl."+tc.key) {
			t.Errorf("%s without %s: %v", tc.key, tc.drop, err)
		}
	}
}

// TestNewUserNamespaceBesideJoined: what is joined belongs to others, so that the user namespace is made last.
func TestNewUserNamespaceBesideJoined(t *testing.T) {
	goldenCase(t, "userns-net-joined", true, func(s *specs.Spec) {
		userNamespace(s)
		addNamespace(s, specs.CgroupNamespace, "")
		addNamespace(s, specs.NetworkNamespace, "/proc/10/ns/net")
	})
}

// isView tells whether a step shows a cgroup that its caller has made meanwhile.
func isView(a plan.Action) bool {
	switch a := a.(type) {
	case plan.Bind:
		return a.Later
	case plan.Symlink:
		return true
	}
	return false
}
