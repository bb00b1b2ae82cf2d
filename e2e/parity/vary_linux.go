package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containerd/containerd/v2/contrib/seccomp"

	"github.com/gosuda/gosudacon/e2e/parity/ask"
)

func devices() []variation {
	device := func(name string, d ...specs.LinuxDevice) variation {
		return vary("device-"+name, func(b *bundle) { b.Linux.Devices = d })
	}
	null := specs.LinuxDevice{Path: "/dev/mine", Type: "c", Major: 1, Minor: 3}
	with := func(change func(*specs.LinuxDevice)) specs.LinuxDevice {
		d := null
		change(&d)
		return d
	}
	return []variation{
		device("character", null),
		device("unbuffered", with(func(d *specs.LinuxDevice) { d.Type = "u" })),
		device("block", with(func(d *specs.LinuxDevice) { d.Type, d.Major, d.Minor = "b", 7, 0 })),
		device("fifo", with(func(d *specs.LinuxDevice) { d.Type, d.Major, d.Minor = "p", 0, 0 })),
		device("mode", with(func(d *specs.LinuxDevice) { d.FileMode = ptr(os.FileMode(0o604)) })),
		device("owner", with(func(d *specs.LinuxDevice) { d.UID, d.GID = ptr(uint32(1000)), ptr(uint32(1001)) })),
		device("deep", with(func(d *specs.LinuxDevice) { d.Path = "/dev/a/b/c" })),
		device("elsewhere", with(func(d *specs.LinuxDevice) { d.Path = "/data/device" })),
		device("default", with(func(d *specs.LinuxDevice) { d.Path, d.FileMode = "/dev/null", ptr(os.FileMode(0o600)) })),
		device("twice", null, null),
		device("conflict", null, with(func(d *specs.LinuxDevice) { d.Minor = 5 })),
		device("unknown", with(func(d *specs.LinuxDevice) { d.Type = "x" })),
		device("relative", with(func(d *specs.LinuxDevice) { d.Path = "dev/mine" })),
		vary("device-existing-file", func(b *bundle) {
			b.write("rootfs/data/device", "")
			b.Linux.Devices = []specs.LinuxDevice{with(func(d *specs.LinuxDevice) { d.Path = "/data/device" })}
		}),
		vary("device-over-symlink", func(b *bundle) {
			b.must(os.Symlink("file", filepath.Join(b.rootfs, "data/device")))
			b.Linux.Devices = []specs.LinuxDevice{with(func(d *specs.LinuxDevice) { d.Path = "/data/device" })}
		}),
		vary("device-allowed", func(b *bundle) {
			b.Linux.Devices = []specs.LinuxDevice{with(func(d *specs.LinuxDevice) { d.Path, d.Minor = "/dev/kmsg", 11 })}
			b.Linux.Resources.Devices = append(b.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(11)), Access: "rw"})
			b.Ask.Write = append(b.Ask.Write, "/dev/kmsg", "/dev/null")
		}),
		vary("device-denied", func(b *bundle) {
			b.Linux.Devices = []specs.LinuxDevice{with(func(d *specs.LinuxDevice) { d.Path, d.Minor = "/dev/kmsg", 11 })}
			b.Ask.Write = append(b.Ask.Write, "/dev/kmsg", "/dev/null")
		}),
		vary("device-rules-none", func(b *bundle) {
			b.Linux.Resources.Devices = nil
			b.Linux.Devices = []specs.LinuxDevice{with(func(d *specs.LinuxDevice) { d.Path, d.Minor = "/dev/kmsg", 11 })}
			b.Ask.Write = append(b.Ask.Write, "/dev/kmsg", "/dev/null")
		}),
	}
}

// current is what a file of the host says: a variation that nobody may let pass changes nothing if somebody does.
func current(path string) string {
	text, _ := os.ReadFile(path)
	return strings.TrimSpace(string(text))
}

func sysctls() []variation {
	set := func(name, key, value string, more ...func(*bundle)) variation {
		return vary("sysctl-"+name, func(b *bundle) {
			b.Linux.Sysctl = map[string]string{key: value}
			b.Ask.Read = append(b.Ask.Read, "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmax", "/proc/sys/fs/mqueue/msg_max", "/proc/sys/kernel/domainname")
			for _, f := range more {
				f(b)
			}
		})
	}
	return []variation{
		set("net", "net.ipv4.ip_forward", "1"),
		set("net-slashes", "net/ipv4/ip_forward", "1"),
		set("ipc", "kernel.shmmax", "1000000"),
		set("mqueue", "fs.mqueue.msg_max", "20"),
		set("domainname", "kernel.domainname", "example.com"),
		set("hostname", "kernel.hostname", "other", func(b *bundle) { b.Hostname = "" }),
		set("of-host", "kernel.panic", current("/proc/sys/kernel/panic")),
		set("unknown", "net.no.such", "1"),
		set("bad-value", "net.ipv4.ip_forward", "yes"),
		set("net-of-host", "net.ipv4.ip_forward", current("/proc/sys/net/ipv4/ip_forward"), func(b *bundle) { b.share(specs.NetworkNamespace) }),
		set("ipc-of-host", "kernel.shmmax", current("/proc/sys/kernel/shmmax"), func(b *bundle) { b.share(specs.IPCNamespace) }),
		set("in-userns", "net.ipv4.ip_forward", "1", func(b *bundle) { b.users() }),
	}
}

// filters are the variations of linux.seccomp.
func filters() []variation {
	// The probe itself makes none of those that the variations deny, nor does Go's runtime.
	syscalls := []ask.SystemCall{
		{Name: "sethostname", Nr: unix.SYS_SETHOSTNAME}, {Name: "getppid", Nr: unix.SYS_GETPPID}, {Name: "getuid", Nr: unix.SYS_GETUID},
		{Name: "getpgid", Nr: unix.SYS_GETPGID, Args: []uint64{0}}, {Name: "reboot", Nr: unix.SYS_REBOOT}, {Name: "unknown", Nr: 1000},
		{Name: "socket unix", Nr: unix.SYS_SOCKET, Args: []uint64{unix.AF_UNIX, unix.SOCK_STREAM}},
		{Name: "socket inet", Nr: unix.SYS_SOCKET, Args: []uint64{unix.AF_INET, unix.SOCK_STREAM}},
		{Name: "socket netlink", Nr: unix.SYS_SOCKET, Args: []uint64{unix.AF_NETLINK, unix.SOCK_RAW}},
		{Name: "socket vsock", Nr: unix.SYS_SOCKET, Args: []uint64{unix.AF_VSOCK, unix.SOCK_STREAM}},
		{Name: "socket large", Nr: unix.SYS_SOCKET, Args: []uint64{1<<32 + unix.AF_UNIX, unix.SOCK_STREAM}},
		{Name: "personality", Nr: unix.SYS_PERSONALITY, Args: []uint64{0xffffffff}},
		{Name: "personality 8", Nr: unix.SYS_PERSONALITY, Args: []uint64{8}},
		{Name: "mount", Nr: unix.SYS_MOUNT}, {Name: "clone newuser", Nr: unix.SYS_UNSHARE, Args: []uint64{unix.CLONE_NEWUSER}},
		{Name: "keyctl", Nr: unix.SYS_KEYCTL}, {Name: "futex_wait", Nr: 455}, {Name: "open_tree_attr", Nr: 467}, {Name: "file_getattr", Nr: 468},
	}
	profile := func(name string, s *specs.LinuxSeccomp, more ...func(*bundle)) variation {
		return vary("seccomp-"+name, func(b *bundle) {
			b.Linux.Seccomp = s
			b.Ask.Calls = syscalls
			for _, f := range more {
				f(b)
			}
		})
	}
	on := func(action specs.LinuxSeccompAction, errno *uint, names ...string) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: names, Action: action, ErrnoRet: errno}}}
	}
	args := func(name string, rules ...[]specs.LinuxSeccompArg) variation {
		s := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
		for _, r := range rules {
			s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: []string{"socket"}, Action: specs.ActErrno, ErrnoRet: ptr(uint(77)), Args: r})
		}
		return profile(name, s)
	}
	arg := func(op specs.LinuxSeccompOperator, value, two uint64) []specs.LinuxSeccompArg {
		return []specs.LinuxSeccompArg{{Index: 0, Value: value, ValueTwo: two, Op: op}}
	}
	flags := func(f ...specs.LinuxSeccompFlag) *specs.LinuxSeccomp {
		s := on(specs.ActErrno, nil, "getppid")
		s.Flags = f
		return s
	}
	arch := func(a ...specs.Arch) *specs.LinuxSeccomp {
		s := on(specs.ActErrno, nil, "getppid")
		s.Architectures = a
		return s
	}
	containerd := func() *specs.LinuxSeccomp { return seccomp.DefaultProfile(baseSpec()) }
	privileged := func(b *bundle) { b.Process.NoNewPrivileges = false }
	base := specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: ptr(uint(55)), Syscalls: containerd().Syscalls}
	defaultErrno := base
	return []variation{
		profile("errno", on(specs.ActErrno, nil, "getppid")),
		profile("errno-5", on(specs.ActErrno, ptr(uint(5)), "getppid")),
		profile("errno-0", on(specs.ActErrno, ptr(uint(0)), "getppid")),
		profile("errno-large", on(specs.ActErrno, ptr(uint(70000)), "getppid")),
		profile("kill", on(specs.ActKill, nil, "getppid")),
		profile("kill-thread", on(specs.ActKillThread, nil, "getppid")),
		profile("kill-process", on(specs.ActKillProcess, nil, "getppid")),
		profile("trap", on(specs.ActTrap, nil, "getppid")),
		profile("trace", on(specs.ActTrace, nil, "getppid")),
		profile("log", on(specs.ActLog, nil, "getppid")),
		profile("allow", on(specs.ActAllow, nil, "getppid")),
		profile("unknown-action", on("SCMP_ACT_NO_SUCH", nil, "getppid")),
		profile("unknown-name", on(specs.ActErrno, nil, "getppid", "no_such_call")),
		profile("several", on(specs.ActErrno, ptr(uint(5)), "getppid", "sethostname", "getuid")),
		profile("containerd", containerd()),
		profile("containerd-privileges", containerd(), privileged),
		profile("containerd-user", containerd(), as(1000, 1000)),
		profile("containerd-user-privileges", containerd(), as(1000, 1000), privileged),
		profile("default-errno", &defaultErrno),
		profile("flag-log", flags(specs.LinuxSeccompFlagLog)),
		profile("flag-spec-allow", flags(specs.LinuxSeccompFlagSpecAllow)),
		profile("flag-tsync", flags("SECCOMP_FILTER_FLAG_TSYNC")),
		profile("flag-unknown", flags("SECCOMP_FILTER_FLAG_NO_SUCH")),
		profile("flag-none", flags()),
		profile("arch-three", arch(specs.ArchX86_64, specs.ArchX86, specs.ArchX32)),
		profile("arch-foreign", arch(specs.ArchAARCH64)),
		profile("arch-unknown", arch("SCMP_ARCH_NO_SUCH")),
		args("eq", arg(specs.OpEqualTo, unix.AF_UNIX, 0)),
		args("ne", arg(specs.OpNotEqual, unix.AF_UNIX, 0)),
		args("lt", arg(specs.OpLessThan, unix.AF_INET, 0)),
		args("le", arg(specs.OpLessEqual, unix.AF_INET, 0)),
		args("ge", arg(specs.OpGreaterEqual, unix.AF_NETLINK, 0)),
		args("gt", arg(specs.OpGreaterThan, unix.AF_NETLINK, 0)),
		args("masked", arg(specs.OpMaskedEqual, 0xf, 1)),
		args("two-of-one", append(arg(specs.OpGreaterEqual, 2, 0), arg(specs.OpLessEqual, 20, 0)...)),
		args("two-of-two", append(arg(specs.OpEqualTo, unix.AF_UNIX, 0), specs.LinuxSeccompArg{Index: 1, Value: unix.SOCK_STREAM, Op: specs.OpEqualTo})),
		args("two-rules", arg(specs.OpEqualTo, unix.AF_UNIX, 0), arg(specs.OpEqualTo, unix.AF_VSOCK, 0)),
		args("bad-index", []specs.LinuxSeccompArg{{Index: 6, Value: 1, Op: specs.OpEqualTo}}),
		args("bad-operator", []specs.LinuxSeccompArg{{Index: 0, Value: 1, Op: "SCMP_CMP_NO_SUCH"}}),
		profile("notify-without-listener", on(specs.ActNotify, nil, "getppid")),
		profile("listener-missing", func() *specs.LinuxSeccomp {
			s := on(specs.ActNotify, nil, "getppid")
			s.ListenerPath = "/no/such/socket"
			return s
		}()),
	}
}

func resources() []variation {
	set := func(name string, change func(*specs.LinuxResources)) variation {
		return vary("cgroup-"+name, func(b *bundle) {
			b.Linux.CgroupsPath = "/parity/" + name
			change(b.Linux.Resources)
		})
	}
	memory := func(name string, m specs.LinuxMemory) variation {
		return set("memory-"+name, func(r *specs.LinuxResources) { r.Memory = &m })
	}
	cpu := func(name string, c specs.LinuxCPU) variation {
		return set("cpu-"+name, func(r *specs.LinuxResources) { r.CPU = &c })
	}
	block := func(name string, b specs.LinuxBlockIO) variation {
		return set("blkio-"+name, func(r *specs.LinuxResources) { r.BlockIO = &b })
	}
	path := func(name, path string) variation {
		return vary("cgroup-path-"+name, func(b *bundle) { b.Linux.CgroupsPath = path })
	}
	const mib = 1 << 20
	throttle := func() []specs.LinuxThrottleDevice {
		d := specs.LinuxThrottleDevice{Rate: mib}
		d.Major, d.Minor = blockDevice()
		return []specs.LinuxThrottleDevice{d}
	}
	weight := func() []specs.LinuxWeightDevice {
		d := specs.LinuxWeightDevice{Weight: ptr(uint16(200))}
		d.Major, d.Minor = blockDevice()
		return []specs.LinuxWeightDevice{d}
	}
	return []variation{
		path("none", ""), path("absolute", "/parity/absolute"), path("relative", "parity-relative/below"), path("deep", "/parity/a/b/c/d"),
		path("dots", "/parity/x/../dots"), path("systemd-form", "parity.slice:parity:x"),
		memory("limit", specs.LinuxMemory{Limit: ptr(int64(256 * mib))}),
		memory("reservation", specs.LinuxMemory{Limit: ptr(int64(256 * mib)), Reservation: ptr(int64(128 * mib))}),
		memory("swap", specs.LinuxMemory{Limit: ptr(int64(256 * mib)), Swap: ptr(int64(512 * mib))}),
		memory("swap-unlimited", specs.LinuxMemory{Limit: ptr(int64(256 * mib)), Swap: ptr(int64(-1))}),
		memory("swap-without-limit", specs.LinuxMemory{Swap: ptr(int64(512 * mib))}),
		memory("swap-below-limit", specs.LinuxMemory{Limit: ptr(int64(256 * mib)), Swap: ptr(int64(128 * mib))}),
		memory("unlimited", specs.LinuxMemory{Limit: ptr(int64(-1))}),
		memory("kernel", specs.LinuxMemory{Limit: ptr(int64(256 * mib)), Kernel: ptr(int64(64 * mib))}),
		memory("kernel-tcp", specs.LinuxMemory{Limit: ptr(int64(256 * mib)), KernelTCP: ptr(int64(64 * mib))}),
		memory("swappiness", specs.LinuxMemory{Limit: ptr(int64(256 * mib)), Swappiness: ptr(uint64(10))}),
		memory("swappiness-too-large", specs.LinuxMemory{Swappiness: ptr(uint64(1000))}),
		memory("oom-off", specs.LinuxMemory{Limit: ptr(int64(256 * mib)), DisableOOMKiller: ptr(true)}),
		memory("hierarchy", specs.LinuxMemory{Limit: ptr(int64(256 * mib)), UseHierarchy: ptr(true)}),
		memory("check", specs.LinuxMemory{Limit: ptr(int64(256 * mib)), CheckBeforeUpdate: ptr(true)}),
		cpu("shares", specs.LinuxCPU{Shares: ptr(uint64(512))}),
		cpu("shares-small", specs.LinuxCPU{Shares: ptr(uint64(1))}),
		cpu("shares-large", specs.LinuxCPU{Shares: ptr(uint64(1 << 20))}),
		cpu("quota", specs.LinuxCPU{Quota: ptr(int64(50_000)), Period: ptr(uint64(100_000))}),
		cpu("quota-alone", specs.LinuxCPU{Quota: ptr(int64(50_000))}),
		cpu("period-alone", specs.LinuxCPU{Period: ptr(uint64(50_000))}),
		cpu("quota-unlimited", specs.LinuxCPU{Quota: ptr(int64(-1)), Period: ptr(uint64(100_000))}),
		cpu("quota-too-small", specs.LinuxCPU{Quota: ptr(int64(10)), Period: ptr(uint64(100_000))}),
		cpu("burst", specs.LinuxCPU{Quota: ptr(int64(50_000)), Period: ptr(uint64(100_000)), Burst: ptr(uint64(20_000))}),
		cpu("realtime", specs.LinuxCPU{RealtimeRuntime: ptr(int64(1000)), RealtimePeriod: ptr(uint64(1_000_000))}),
		cpu("cpus", specs.LinuxCPU{Cpus: "0"}),
		cpu("mems", specs.LinuxCPU{Mems: "0"}),
		cpu("cpus-and-mems", specs.LinuxCPU{Cpus: "0-1", Mems: "0"}),
		cpu("cpus-missing", specs.LinuxCPU{Cpus: "1000"}),
		cpu("idle", specs.LinuxCPU{Idle: ptr(int64(1))}),
		set("pids", func(r *specs.LinuxResources) { r.Pids = &specs.LinuxPids{Limit: ptr(int64(50))} }),
		set("pids-unlimited", func(r *specs.LinuxResources) { r.Pids = &specs.LinuxPids{Limit: ptr(int64(-1))} }),
		set("pids-0", func(r *specs.LinuxResources) { r.Pids = &specs.LinuxPids{Limit: ptr(int64(0))} }),
		block("weight", specs.LinuxBlockIO{Weight: ptr(uint16(500))}),
		block("weight-device", specs.LinuxBlockIO{WeightDevice: weight()}),
		block("leaf-weight", specs.LinuxBlockIO{LeafWeight: ptr(uint16(500))}),
		block("throttle-read", specs.LinuxBlockIO{ThrottleReadBpsDevice: throttle()}),
		block("throttle-write", specs.LinuxBlockIO{ThrottleWriteBpsDevice: throttle()}),
		block("throttle-read-iops", specs.LinuxBlockIO{ThrottleReadIOPSDevice: throttle()}),
		block("throttle-write-iops", specs.LinuxBlockIO{ThrottleWriteIOPSDevice: throttle()}),
		set("hugepages", func(r *specs.LinuxResources) {
			r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 * mib}}
		}),
		set("hugepages-unknown", func(r *specs.LinuxResources) {
			r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "3MB", Limit: 4 * mib}}
		}),
		set("network", func(r *specs.LinuxResources) { r.Network = &specs.LinuxNetwork{ClassID: ptr(uint32(1 << 20))} }),
		set("rdma", func(r *specs.LinuxResources) {
			r.Rdma = map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: ptr(uint32(3))}}
		}),
		set("unified", func(r *specs.LinuxResources) { r.Unified = map[string]string{"cgroup.max.depth": "5"} }),
		set("unified-unknown", func(r *specs.LinuxResources) { r.Unified = map[string]string{"no.such": "5"} }),
		set("devices", func(r *specs.LinuxResources) {
			r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "b", Access: "r"},
				specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(10)), Minor: ptr(int64(229)), Access: "rwm"},
				specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(5)), Access: "r"})
		}),
		set("devices-all", func(r *specs.LinuxResources) {
			r.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		}),
		set("none", func(r *specs.LinuxResources) { *r = specs.LinuxResources{} }),
	}
}

// blockDevice is the machine's first disk or loop device.
func blockDevice() (major, minor int64) {
	for _, name := range []string{"/dev/vda", "/dev/sda", "/dev/ubda", "/dev/nvme0n1", "/dev/loop0"} {
		var st unix.Stat_t
		if unix.Stat(name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
			return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
		}
	}
	return 7, 0
}

// hooks are the variations of the six points.
func hooks() []variation {
	points := map[string]func(*specs.Hooks) *[]specs.Hook{
		"prestart":        func(h *specs.Hooks) *[]specs.Hook { return &h.Prestart }, //nolint:staticcheck // deprecated, but the spec has it
		"createRuntime":   func(h *specs.Hooks) *[]specs.Hook { return &h.CreateRuntime },
		"createContainer": func(h *specs.Hooks) *[]specs.Hook { return &h.CreateContainer },
		"startContainer":  func(h *specs.Hooks) *[]specs.Hook { return &h.StartContainer },
		"poststart":       func(h *specs.Hooks) *[]specs.Hook { return &h.Poststart },
		"poststop":        func(h *specs.Hooks) *[]specs.Hook { return &h.Poststop },
	}
	// add appends a hook: the probe, which writes to a file. It is found where the point's hooks are found.
	add := func(b *bundle, point, name string, how ...string) *specs.Hook {
		if b.Hooks == nil {
			b.Hooks = &specs.Hooks{}
		}
		path, file := filepath.Join(b.rootfs, ask.Probe), filepath.Join(b.dir, "hooks")
		if point == "startContainer" {
			path, file = ask.Probe, ask.Log
		}
		list := points[point](b.Hooks)
		*list = append(*list, specs.Hook{Path: path, Args: append([]string{"probe", ask.Hook, name, file}, how...)})
		return &(*list)[len(*list)-1]
	}
	var all []variation
	for point := range points {
		all = append(all,
			vary("hook-"+point, func(b *bundle) { add(b, point, "one"); add(b, point, "two") }),
			vary("hook-"+point+"-env", func(b *bundle) { add(b, point, "one").Env = []string{"A=1", "B="} }),
			vary("hook-"+point+"-fails", func(b *bundle) { add(b, point, "one", "fail"); add(b, point, "two") }),
			vary("hook-"+point+"-timeout", func(b *bundle) { add(b, point, "one", "sleep").Timeout = ptr(2) }),
			vary("hook-"+point+"-missing", func(b *bundle) { add(b, point, "one").Path = "/no/such/hook" }))
	}
	return append(all,
		vary("hook-all", func(b *bundle) {
			for _, point := range []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"} {
				add(b, point, point)
			}
			b.Annotations = map[string]string{"com.example.a": "1"}
		}),
		vary("hook-relative", func(b *bundle) { add(b, "createRuntime", "one").Path = "probe" }),
		vary("hook-args-none", func(b *bundle) { add(b, "poststop", "one").Args = nil }),
		vary("hook-timeout-0", func(b *bundle) { add(b, "createRuntime", "one").Timeout = ptr(0) }),
		vary("hook-userns", func(b *bundle) {
			b.users()
			for _, point := range []string{"prestart", "createRuntime", "poststop"} {
				add(b, point, point)
			}
		}),
	)
}
