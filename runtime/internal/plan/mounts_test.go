package plan_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// only is a config whose mounts are these after proc and /dev, and nothing else that would make its plan long.
func only(mounts ...specs.Mount) *specs.Spec {
	spec := testkit.Spec("sleep", "10")
	spec.Mounts = append(spec.Mounts[:2:2], mounts...)
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil
	return spec
}

func bindMount(options ...string) specs.Mount {
	return specs.Mount{Destination: "/b", Type: "none", Source: "/host", Options: options}
}

func tmpfs(options ...string) specs.Mount {
	return specs.Mount{Destination: "/t", Type: "tmpfs", Source: "tmpfs", Options: options}
}

var ownMap = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 5000, Size: 10}, {ContainerID: 10, HostID: 0, Size: 1}}

func mapped(m specs.Mount) specs.Mount {
	m.UIDMappings, m.GIDMappings = ownMap, ownMap
	return m
}

// TestMountGolden compares the plans of mounts with those that were reviewed.
func TestMountGolden(t *testing.T) {
	for name, tc := range map[string]struct {
		v2     bool
		spec   *specs.Spec
		change func(*specs.Spec, *plan.Facts)
	}{
		"mount-options": {true, only(
			bindMount("rbind", "ro", "nosuid", "rnodev", "rnoatime", "rslave", "shared", "nosymfollow"),
			bindMount("bind", "ro", "rw", "sync", "defaults", "suid", "runbindable"),
			tmpfs("sync", "async", "dirsync", "mand", "lazytime", "silent", "iversion", "noatime", "nodiratime", "rro", "rnosuid", "size=1m", "mode=0700", "private"),
			tmpfs("nolazytime", "lazytime", "loud", "noiversion", "nomand", "norelatime"),
			tmpfs("remount", "size=2m", "ro", "sync"),
			bindMount("bind", "remount", "ro", "rnoexec", "rprivate"),
			tmpfs("tmpcopyup", "ro", "size=1m", "uid=7"),
			mapped(bindMount("rbind", "ridmap")), mapped(tmpfs("idmap", "tmpcopyup")), mapped(bindMount("bind")),
			specs.Mount{Destination: "relative/x", Type: "overlay", Source: "o", Options: []string{"lowerdir=/a:/b", "userxattr"}},
			specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind"}},
			specs.Mount{Destination: "/proc/uptime", Type: "bind", Source: "fs/uptime", Options: []string{"bind"}},
		), nil},
		"mount-userns": {true, only(
			bindMount("rbind", "idmap"), tmpfs("idmap"), tmpfs("tmpcopyup", "uid=7", "gid=8"),
			specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"ro"}},
			specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "memory_recursiveprot"}},
		), func(s *specs.Spec, _ *plan.Facts) { userNamespace(s); dropNamespace(s, specs.NetworkNamespace) }},
		"mount-userns-joined": {true, only(bindMount("rbind", "ridmap")),
			func(s *specs.Spec, _ *plan.Facts) { addNamespace(s, specs.UserNamespace, "/run/userns/x") }},
		"mount-cgroup-v1": {false, only(specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "rslave"}}),
			func(s *specs.Spec, _ *plan.Facts) { addNamespace(s, specs.CgroupNamespace, "") }},
		"mount-label": {true, only(tmpfs("size=1m"), bindMount("rbind"),
			specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue"}, specs.Mount{Destination: "/o", Type: "overlay", Source: "o", Options: []string{"lowerdir=/a"}},
			specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs"}),
			func(s *specs.Spec, f *plan.Facts) {
				s.Linux.MountLabel = "system_u:object_r:container_file_t:s0:c1,c2"
				f.SELinux = func() bool { return true }
			}},
		"root-shared":     {true, only(bindMount("rbind")), func(s *specs.Spec, _ *plan.Facts) { s.Linux.RootfsPropagation = "shared" }},
		"root-slave":      {true, only(bindMount("rbind")), func(s *specs.Spec, _ *plan.Facts) { s.Linux.RootfsPropagation = "slave" }},
		"root-unbindable": {true, only(bindMount("rbind")), func(s *specs.Spec, _ *plan.Facts) { s.Linux.RootfsPropagation = "runbindable" }},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts(tc.v2)
			if tc.change != nil {
				tc.change(tc.spec, f)
			}
			p, err := plan.Compile(tc.spec, "/bundle", f, plan.Options{ID: "x", RootPath: "/bundle/rootfs"})
			if err != nil {
				t.Fatal(err)
			}
			// What every plan has is in the other golden files.
			p.Steps = slices.DeleteFunc(p.Steps, func(s plan.Step) bool {
				return s.From != "root.path" && !strings.HasPrefix(s.From, "mounts[") || s.From == "mounts[0]" || s.From == "mounts[1]"
			})
			golden(t, name, p)
		})
	}
}

// TestMountRefused: what cannot be is an error that names the mount.
func TestMountRefused(t *testing.T) {
	long := strings.Repeat("x", 4096)
	for _, tc := range []struct {
		m    specs.Mount
		want string
	}{
		{specs.Mount{Destination: "/", Type: "tmpfs"}, "mounts[2].destination: a mount on / would cover"},
		{specs.Mount{Destination: "//..", Type: "tmpfs"}, "mounts[2].destination: a mount on / would cover"},
		{tmpfs("idmap"), "mounts[2]: an id-mapped mount needs mappings of its own"},
		{specs.Mount{Destination: "/b", Source: "/x", Options: []string{"bind"}, UIDMappings: ownMap}, "mounts[2]: an id-mapped mount needs uidMappings and gidMappings"},
		{mapped(bindMount("bind", "remount", "idmap")), "mounts[2].options: a mount that is there cannot be id-mapped"},
		{bindMount("bind", "remount", "size=1m"), `mounts[2].options: "size" means nothing to a bind mount`},
		{bindMount("bind", "tmpcopyup"), "mounts[2].options: tmpcopyup needs a new tmpfs"},
		{specs.Mount{Destination: "/x", Type: "ramfs", Options: []string{"tmpcopyup"}}, "mounts[2].options: tmpcopyup needs a new tmpfs"},
		{mapped(tmpfs("iversion")), "mounts[2].options: iversion means nothing"},
		{tmpfs(long), "mounts[2].options: 4096 bytes for the file system; mount(2) takes 4095"},
		{tmpfs("remount", long), "mounts[2].options: 4096 bytes for the file system; mount(2) takes 4095"},
		{specs.Mount{Destination: "/proc/sys", Type: "bind", Source: "/x", Options: []string{"bind"}}, "mounts[2]: a bind mount on /proc/sys would hide"},
		{specs.Mount{Destination: "/proc/x", Type: "tmpfs"}, "mounts[2]: a mount of tmpfs on /proc/x would hide"},
		{specs.Mount{Destination: "/proc", Type: "sysfs"}, "mounts[2]: only proc may be mounted on /proc"},
	} {
		_, err := plan.Compile(only(tc.m), "/bundle", facts(true), plan.Options{ID: "x", RootPath: "/r"})
		var e *plan.Error
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%+v: got %.200v, want %s", tc.m, err, tc.want)
		}
	}
	spec := only(tmpfs("tmpcopyup", "uid=70000"))
	userNamespace(spec)
	if _, err := plan.Compile(spec, "/bundle", facts(true), plan.Options{ID: "x", RootPath: "/r"}); err == nil ||
		err.Error() != "mounts[2].options: uid=70000 has no id on the host in linux.uidMappings" {
		t.Errorf("unmapped uid: %v", err)
	}
}

// TestMountOptions: every option of the spec is honoured; the list is that of config.md.
func TestMountOptions(t *testing.T) {
	want := strings.Fields(`async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime noexec
		noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec
		rnoatime rnodiratime rnodev rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave
		rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap`)
	slices.Sort(want)
	if got := plan.MountOptions(); !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// alone is a config that asks for nothing that takes a mount namespace, and has none, or joins one.
func alone(path string) *specs.Spec {
	spec := only()
	spec.Mounts = nil
	if dropNamespace(spec, specs.MountNamespace); path != "" {
		addNamespace(spec, specs.MountNamespace, path)
	}
	return spec
}

// TestSharedMountsGolden: a container in somebody else's mount namespace, and one that moves its root.
func TestSharedMountsGolden(t *testing.T) {
	hooks := &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/hook"}}}
	spec := alone("")
	spec.Hooks = hooks
	for name, c := range map[string]struct {
		spec *specs.Spec
		o    plan.Options
	}{"chroot": {spec, plan.Options{}}, "chroot-joined": {alone("/run/mnt"), plan.Options{}}, "no-pivot": {only(), plan.Options{NoPivot: true}}} {
		c.o.ID, c.o.RootPath = "x", "/bundle/rootfs"
		p, err := plan.Compile(c.spec, "/bundle", facts(true), c.o)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, p)
		e, err := plan.CompileExec(c.spec, c.spec.Process, facts(true))
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+"-exec", e)
	}
}

// TestSharedMountsRefused: what cannot be done in somebody else's mount namespace.
func TestSharedMountsRefused(t *testing.T) {
	for want, change := range map[string]func(*specs.Spec, *plan.Options){
		"root.readonly":                      func(s *specs.Spec, _ *plan.Options) { s.Root.Readonly = true },
		"mounts":                             func(s *specs.Spec, _ *plan.Options) { s.Mounts = []specs.Mount{tmpfs()} },
		"linux.maskedPaths":                  func(s *specs.Spec, _ *plan.Options) { s.Linux.MaskedPaths = []string{"/x"} },
		"linux.readonlyPaths":                func(s *specs.Spec, _ *plan.Options) { s.Linux.ReadonlyPaths = []string{"/x"} },
		"linux.rootfsPropagation":            func(s *specs.Spec, _ *plan.Options) { s.Linux.RootfsPropagation = "slave" },
		"process.terminal":                   func(s *specs.Spec, _ *plan.Options) { s.Process.Terminal = true },
		"linux.namespaces: a user namespace": func(s *specs.Spec, _ *plan.Options) { userNamespace(s) },
		"the option not to pivot":            func(_ *specs.Spec, o *plan.Options) { o.NoPivot = true },
	} {
		for _, path := range []string{"", "/run/mnt"} {
			spec, o := alone(path), plan.Options{ID: "x", RootPath: "/r"}
			change(spec, &o)
			if _, err := plan.Compile(spec, "/bundle", facts(true), o); err == nil || err.Error() != want+": needs a new mount namespace in linux.namespaces" {
				t.Errorf("%s: %v", want, err)
			}
		}
	}
	spec := only()
	spec.Linux.RootfsPropagation = "rprivate"
	if _, err := plan.Compile(spec, "/bundle", facts(true), plan.Options{ID: "x", RootPath: "/r", NoPivot: true}); err == nil ||
		!strings.HasPrefix(err.Error(), "linux.rootfsPropagation: rprivate is not safe without pivot_root") {
		t.Errorf("%v", err)
	}
}
