package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// variations are all of them; a name is part of paths.
func variations() []variation {
	var all []variation
	for _, group := range [][]variation{
		{vary("base", func(*bundle) {})},
		processes(), capabilities(), limits(), scheduling(), namespaces(), mountOptions(), mounts(), propagations(), filesystems(), devices(),
		sysctls(), filters(), resources(), hooks(),
	} {
		all = append(all, group...)
	}
	return all
}

// argument is a variation of process.args.
func argument(name string, args ...string) variation {
	return vary("args-"+name, func(b *bundle) { b.Process.Args = args })
}

// environment is a variation of process.env.
func environment(name string, env ...string) variation {
	return vary("env-"+name, func(b *bundle) { b.Process.Env = env })
}

// directory is a variation of process.cwd.
func directory(name, cwd string, more ...func(*bundle)) variation {
	return vary("cwd-"+name, func(b *bundle) {
		b.Process.Cwd = cwd
		for _, f := range more {
			f(b)
		}
	})
}

// as runs the process as a user.
func as(uid, gid uint32, groups ...uint32) func(*bundle) {
	return func(b *bundle) {
		b.Process.User.UID, b.Process.User.GID, b.Process.User.AdditionalGids = uid, gid, groups
	}
}

func processes() []variation {
	const path = "PATH=/usr/bin:/bin"
	return []variation{
		argument("search", "probe"),
		argument("more", "probe", "a b", "", "--x", "ü"),
		argument("relative", "./probe"),
		argument("missing", "/no/such/program"),
		argument("not-found", "no-such-program"),
		argument("not-executable", "/etc/passwd"),
		argument("directory", "/data"),
		argument("empty", ""),
		vary("args-none", func(b *bundle) { b.Process.Args = nil }),
		vary("args-script", func(b *bundle) {
			b.write("rootfs/script", "#!/probe\n")
			b.must(os.Chmod(filepath.Join(b.rootfs, "script"), 0o755))
			b.Process.Args = []string{"/script"}
		}),
		environment("none"),
		environment("twice", path, "A=1", "A=2"),
		environment("empty-value", path, "A="),
		environment("no-equals", path, "A"),
		environment("home", path, "HOME=/data"),
		environment("home-empty", path, "HOME="),
		environment("long", path, "A="+strings.Repeat("x", 100_000)),
		vary("env-home-of-user", as(1000, 1000)),
		vary("env-home-of-nobody", as(4242, 4242)),
		directory("tmp", "/tmp"),
		directory("missing", "/no/such/directory"),
		directory("relative", "data"),
		directory("file", "/etc/passwd"),
		directory("dots", "/data/deep/.."),
		directory("symlink", "/link", func(b *bundle) { b.must(os.Symlink("/data", filepath.Join(b.rootfs, "link"))) }),
		directory("symlink-out", "/link", func(b *bundle) { b.must(os.Symlink("../../../../data", filepath.Join(b.rootfs, "link"))) }),
		directory("of-user", "/own", as(1000, 1000), func(b *bundle) {
			dir := b.mkdir("rootfs/own")
			b.must(os.Chmod(dir, 0o700))
			b.must(os.Chown(dir, 1000, 1000))
		}),
		directory("of-root", "/own", as(1000, 1000), func(b *bundle) { b.must(os.Chmod(b.mkdir("rootfs/own"), 0o700)) }),
		directory("in-mount", "/run/below"),
		vary("user", as(1000, 1000)),
		vary("user-groups", as(1000, 1000, 10, 20, 5)),
		vary("user-groups-twice", as(1000, 1000, 10, 10, 1000)),
		vary("user-root-groups", as(0, 5, 7)),
		vary("user-large", as(4_000_000_000, 4_000_000_001)),
		vary("user-umask-0", func(b *bundle) { b.Process.User.Umask = ptr(uint32(0)) }),
		vary("user-umask-077", func(b *bundle) { b.Process.User.Umask = ptr(uint32(0o77)) }),
		vary("user-name", func(b *bundle) { b.Process.User.Username = "user" }),
		vary("terminal", func(b *bundle) { b.Process.Terminal = true }),
		vary("terminal-size", func(b *bundle) {
			b.Process.Terminal, b.Process.ConsoleSize = true, &specs.Box{Width: 100, Height: 40}
		}),
		vary("terminal-user", func(b *bundle) { b.Process.Terminal = true; as(1000, 1000)(b) }),
		vary("size-without-terminal", func(b *bundle) { b.Process.ConsoleSize = &specs.Box{Width: 100, Height: 40} }),
		vary("apparmor", func(b *bundle) { b.Process.ApparmorProfile = "no-such-profile" }),
		vary("selinux", func(b *bundle) { b.Process.SelinuxLabel = "system_u:system_r:svirt_lxc_net_t:s0:c124,c675" }),
		vary("mount-label", func(b *bundle) { b.Linux.MountLabel = "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811" }),
		vary("oom-0", func(b *bundle) { b.Process.OOMScoreAdj = ptr(0) }),
		vary("oom-500", func(b *bundle) { b.Process.OOMScoreAdj = ptr(500) }),
		vary("oom-lower", func(b *bundle) { b.Process.OOMScoreAdj = ptr(-500) }),
		vary("oom-too-large", func(b *bundle) { b.Process.OOMScoreAdj = ptr(5000) }),
		vary("annotations", func(b *bundle) { b.Annotations = map[string]string{"com.example.a": "1", "com.example.b": ""} }),
		vary("version-future", func(b *bundle) { b.Version = "2.0.0" }),
		vary("version-none", func(b *bundle) { b.Version = "" }),
		vary("process-none", func(b *bundle) { b.Process = nil }),
		vary("linux-none", func(b *bundle) { b.Linux = nil }),
	}
}

func capabilities() []variation {
	sets := func(name string, c *specs.LinuxCapabilities, more ...func(*bundle)) variation {
		return vary("caps-"+name, func(b *bundle) {
			b.Process.Capabilities = c
			for _, f := range more {
				f(b)
			}
		})
	}
	all := func(names ...string) *specs.LinuxCapabilities {
		return &specs.LinuxCapabilities{Bounding: names, Effective: names, Permitted: names, Inheritable: names, Ambient: names}
	}
	some := []string{"CAP_NET_RAW", "CAP_KILL"}
	return []variation{
		sets("none", nil),
		sets("empty", &specs.LinuxCapabilities{}),
		sets("all-five", all(some...)),
		sets("all-five-user", all(some...), as(1000, 1000)),
		sets("user", &specs.LinuxCapabilities{Bounding: some, Effective: some, Permitted: some}, as(1000, 1000)),
		sets("inheritable", &specs.LinuxCapabilities{Bounding: some, Effective: some, Permitted: some, Inheritable: some[:1]}),
		sets("ambient-alone", &specs.LinuxCapabilities{Bounding: some, Effective: some, Permitted: some, Ambient: some}),
		sets("effective-alone", &specs.LinuxCapabilities{Bounding: some, Effective: some}),
		sets("bounding-alone", &specs.LinuxCapabilities{Bounding: some}),
		sets("without-bounding", &specs.LinuxCapabilities{Effective: some, Permitted: some}),
		sets("unknown", all("CAP_KILL", "CAP_NO_SUCH")),
		sets("beyond-the-host", all("CAP_KILL", "CAP_SYS_RESOURCE")),
		sets("lower-case", all("cap_kill")),
		vary("caps-new-privileges", func(b *bundle) { b.Process.NoNewPrivileges = false }),
	}
}

func limits() []variation {
	var all []variation
	limit := func(name, kind string, soft, hard uint64) {
		all = append(all, vary("limit-"+name, func(b *bundle) {
			b.Process.Rlimits = []specs.POSIXRlimit{{Type: kind, Soft: soft, Hard: hard}}
		}))
	}
	for name, n := range map[string]uint64{"CORE": 0, "CPU": 100, "DATA": 1 << 40, "FSIZE": 1 << 30, "LOCKS": 100, "MSGQUEUE": 4096, "NICE": 0,
		"NOFILE": 512, "NPROC": 2000, "RSS": 1 << 30, "RTPRIO": 0, "RTTIME": 1 << 40, "SIGPENDING": 100, "STACK": 1 << 23} {
		limit(strings.ToLower(name), "RLIMIT_"+name, n, n)
	}
	limit("soft", "RLIMIT_NOFILE", 100, 2000)
	limit("raise", "RLIMIT_NOFILE", 1000, 1<<20-1)
	limit("unknown", "RLIMIT_NO_SUCH", 1, 1)
	limit("soft-above-hard", "RLIMIT_NOFILE", 200, 100)
	return append(all,
		vary("limit-none", func(b *bundle) { b.Process.Rlimits = nil }),
		vary("limit-twice", func(b *bundle) { b.Process.Rlimits = append(b.Process.Rlimits, b.Process.Rlimits...) }),
		vary("limit-user", func(b *bundle) {
			as(1000, 1000)(b)
			b.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NPROC", Soft: 500, Hard: 1000}, {Type: "RLIMIT_NOFILE", Soft: 64, Hard: 64}}
		}))
}

func scheduling() []variation {
	sched := func(name string, s specs.Scheduler) variation {
		return vary("scheduler-"+name, func(b *bundle) { b.Process.Scheduler = &s })
	}
	prio := func(name string, class specs.IOPriorityClass, n int) variation {
		return vary("ioprio-"+name, func(b *bundle) { b.Process.IOPriority = &specs.LinuxIOPriority{Class: class, Priority: n} })
	}
	memory := func(name string, mode specs.MemoryPolicyModeType, nodes string, flags ...specs.MemoryPolicyFlagType) variation {
		return vary("mempolicy-"+name, func(b *bundle) {
			b.Version = specs.Version
			b.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: mode, Nodes: nodes, Flags: flags}
		})
	}
	return []variation{
		sched("nice", specs.Scheduler{Policy: specs.SchedOther, Nice: 5}),
		sched("nice-user", specs.Scheduler{Policy: specs.SchedOther, Nice: 19}),
		sched("batch", specs.Scheduler{Policy: specs.SchedBatch, Nice: 3}),
		sched("idle", specs.Scheduler{Policy: specs.SchedIdle}),
		sched("fifo", specs.Scheduler{Policy: specs.SchedFIFO, Priority: 10}),
		sched("reset-on-fork", specs.Scheduler{Policy: specs.SchedOther, Nice: 2, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}),
		sched("unknown", specs.Scheduler{Policy: "SCHED_NO_SUCH"}),
		sched("bad-nice", specs.Scheduler{Policy: specs.SchedOther, Nice: 30}),
		prio("best-effort", specs.IOPRIO_CLASS_BE, 4),
		prio("idle", specs.IOPRIO_CLASS_IDLE, 0),
		prio("realtime", specs.IOPRIO_CLASS_RT, 2),
		prio("unknown", "IOPRIO_CLASS_NO_SUCH", 0),
		prio("out-of-range", specs.IOPRIO_CLASS_BE, 9),
		memory("interleave", specs.MpolInterleave, "0"),
		memory("bind", specs.MpolBind, "0"),
		memory("bind-static", specs.MpolBind, "0", specs.MpolFStaticNodes),
		memory("local", specs.MpolLocal, ""),
		memory("unknown", "MPOL_NO_SUCH", "0"),
		vary("personality-32", func(b *bundle) { b.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32} }),
		vary("personality", func(b *bundle) { b.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux} }),
		vary("personality-unknown", func(b *bundle) { b.Linux.Personality = &specs.LinuxPersonality{Domain: "PER_NO_SUCH"} }),
	}
}

func namespaces() []variation {
	var all []variation
	for _, kind := range []specs.LinuxNamespaceType{specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.MountNamespace} {
		all = append(all, vary("host-"+string(kind), func(b *bundle) {
			b.share(kind)
			if kind == specs.UTSNamespace {
				b.Hostname = ""
			}
		}))
	}
	for _, kind := range []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.PIDNamespace,
		specs.CgroupNamespace, specs.TimeNamespace} {
		all = append(all, vary("join-"+string(kind), func(b *bundle) { b.namespace(kind, b.host.paths[string(kind)]) }))
	}
	join := func(b *bundle, prefix string, kinds ...specs.LinuxNamespaceType) {
		for _, kind := range kinds {
			b.namespace(kind, b.host.paths[prefix+string(kind)])
		}
	}
	mapped := func(name string, uid, gid []specs.LinuxIDMapping, more ...func(*bundle)) variation {
		return vary("userns-"+name, func(b *bundle) {
			b.users()
			b.Linux.UIDMappings, b.Linux.GIDMappings = uid, gid
			for _, f := range more {
				f(b)
			}
		})
	}
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100_000, Size: 65536}}
	return append(all,
		vary("new-cgroup", func(b *bundle) { b.namespace(specs.CgroupNamespace, "") }),
		vary("new-time", func(b *bundle) { b.namespace(specs.TimeNamespace, "") }),
		vary("time-offsets", func(b *bundle) {
			b.namespace(specs.TimeNamespace, "")
			b.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 1000, Nanosecs: 5}, "boottime": {Secs: 2000}}
		}),
		vary("time-offsets-without", func(b *bundle) { b.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 1}} }),
		vary("all-new", func(b *bundle) {
			b.users()
			b.namespace(specs.CgroupNamespace, "")
			b.namespace(specs.TimeNamespace, "")
		}),
		vary("join-pod", func(b *bundle) {
			join(b, "", specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace)
			b.Hostname = ""
		}),
		vary("join-pod-pid", func(b *bundle) {
			join(b, "", specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.PIDNamespace)
			b.Hostname = ""
		}),
		vary("join-user", func(b *bundle) {
			b.users()
			b.Linux.UIDMappings, b.Linux.GIDMappings = nil, nil
			join(b, "", specs.UserNamespace)
		}),
		vary("join-user-pod", func(b *bundle) {
			b.users()
			b.Linux.UIDMappings, b.Linux.GIDMappings = nil, nil
			join(b, "", specs.UserNamespace)
			join(b, "user-", specs.NetworkNamespace)
			for i, n := range b.Linux.Namespaces {
				if n.Type == specs.NetworkNamespace {
					b.Linux.Namespaces[i].Path = b.host.paths["user-network"]
				}
			}
		}),
		vary("namespace-twice", func(b *bundle) {
			b.Linux.Namespaces = append(b.Linux.Namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
		}),
		vary("namespace-wrong-type", func(b *bundle) { b.namespace(specs.NetworkNamespace, b.host.paths["uts"]) }),
		vary("namespace-missing", func(b *bundle) { b.namespace(specs.NetworkNamespace, "/no/such/namespace") }),
		vary("namespace-unknown", func(b *bundle) { b.namespace("nosuch", "") }),
		vary("hostname-without", func(b *bundle) {
			b.share(specs.UTSNamespace)
			b.Hostname = current("/proc/sys/kernel/hostname")
		}),
		vary("hostname-none", func(b *bundle) { b.Hostname = "" }),
		vary("domainname", func(b *bundle) { b.Domainname = "example.com" }),
		vary("domainname-without", func(b *bundle) {
			b.share(specs.UTSNamespace)
			b.Hostname, b.Domainname = "", current("/proc/sys/kernel/domainname")
		}),
		mapped("simple", ids, ids),
		mapped("user", ids, ids, as(1000, 1000, 10)),
		mapped("unmapped-user", ids, ids, as(70000, 0)),
		mapped("identity", []specs.LinuxIDMapping{{ContainerID: 0, HostID: 0, Size: 200_000}}, []specs.LinuxIDMapping{{ContainerID: 0, HostID: 0, Size: 200_000}}),
		mapped("two-ranges", []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100_000, Size: 1000}, {ContainerID: 1000, HostID: 200_000, Size: 1000}}, ids),
		mapped("overlap", append(ids, ids...), ids),
		mapped("empty", nil, nil),
		mapped("shared-net", ids, ids, func(b *bundle) { b.share(specs.NetworkNamespace) }),
		mapped("capabilities", ids, ids, func(b *bundle) {
			names := []string{"CAP_SYS_ADMIN", "CAP_SYS_RESOURCE", "CAP_NET_ADMIN"}
			b.Process.Capabilities = &specs.LinuxCapabilities{Bounding: names, Effective: names, Permitted: names}
		}),
		mapped("terminal", ids, ids, func(b *bundle) { b.Process.Terminal = true }),
		mapped("cgroup", ids, ids, func(b *bundle) {
			b.namespace(specs.CgroupNamespace, "")
			b.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev")
		}),
		mapped("devices", ids, ids, func(b *bundle) {
			b.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/fuse2", Type: "c", Major: 1, Minor: 3, FileMode: ptr(os.FileMode(0o644))}}
		}),
		vary("mappings-without", func(b *bundle) { b.Linux.UIDMappings, b.Linux.GIDMappings = ids, ids }),
		vary("hostname-long", func(b *bundle) { b.Hostname = strings.Repeat("h", 65) }),
	)
}
