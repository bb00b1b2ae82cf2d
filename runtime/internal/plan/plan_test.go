package plan_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/seccomp"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const everyCapability = 1<<41 - 1

func facts(v2 bool) *plan.Facts {
	f := &plan.Facts{CgroupV2: v2, Capabilities: everyCapability, LastCap: 40, Keyring: "_ses.x.secret",
		CompileSeccomp: func(p *specs.LinuxSeccomp) (*seccomp.Filter, error) {
			return seccomp.Compile(p, seccomp.Options{Arch: seccomp.AMD64, SupportedFlags: 0x3f})
		}}
	if !v2 {
		f.CgroupV1 = []plan.Hierarchy{
			{Options: []string{"cpu", "cpuacct"}, Dir: "cpu,cpuacct", Path: "/sys/fs/cgroup/cpu,cpuacct/x"},
			{Options: []string{"memory"}, Dir: "memory", Path: "/sys/fs/cgroup/memory/x"},
			{Options: []string{"name=systemd"}, Dir: "systemd", Path: "/sys/fs/cgroup/systemd/x"},
		}
	}
	return f
}

func addNamespace(s *specs.Spec, t specs.LinuxNamespaceType, path string) {
	for i, n := range s.Linux.Namespaces {
		if n.Type == t {
			s.Linux.Namespaces[i].Path = path
			return
		}
	}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
}

func dropNamespace(s *specs.Spec, t specs.LinuxNamespaceType) {
	var out []specs.LinuxNamespace
	for _, n := range s.Linux.Namespaces {
		if n.Type != t {
			out = append(out, n)
		}
	}
	s.Linux.Namespaces = out
}

func userNamespace(s *specs.Spec) {
	addNamespace(s, specs.UserNamespace, "")
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	s.Linux.GIDMappings = s.Linux.UIDMappings
}

var smallSeccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64},
	Syscalls: []specs.LinuxSyscall{{Names: []string{"read", "write", "execve", "exit_group"}, Action: specs.ActAllow}}}

// cases are configs such as ctr, the CRI plugin and nerdctl make.
var cases = []struct {
	name   string
	v2     bool
	change func(*specs.Spec)
}{
	{"ctr", true, func(s *specs.Spec) { addNamespace(s, specs.CgroupNamespace, "") }},
	{"ctr-v1", false, func(*specs.Spec) {}},
	{"ctr-tty", true, func(s *specs.Spec) {
		s.Process.Terminal = true
		s.Process.ConsoleSize = &specs.Box{Width: 80, Height: 25}
	}},
	{"ctr-net-host", true, func(s *specs.Spec) {
		dropNamespace(s, specs.NetworkNamespace)
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: "/etc/hosts", Options: []string{"rbind", "ro"}})
	}},
	{"ctr-privileged", true, func(s *specs.Spec) {
		all := plan.CapabilityNames()
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
		s.Process.NoNewPrivileges = false
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
		s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/sda", Type: "b", Major: 8}, {Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}}
	}},
	{"ctr-read-only", true, func(s *specs.Spec) {
		s.Root.Readonly = true
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/data", Type: "tmpfs", Source: "tmpfs", Options: []string{"ro", "size=1m"}})
	}},
	{"ctr-seccomp", true, func(s *specs.Spec) { s.Linux.Seccomp = smallSeccomp }},
	{"ctr-seccomp-privileges", true, func(s *specs.Spec) {
		s.Linux.Seccomp = smallSeccomp
		s.Process.NoNewPrivileges = false
		s.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{10}}
	}},
	{"ctr-with-ns", true, func(s *specs.Spec) {
		addNamespace(s, specs.NetworkNamespace, "/run/netns/a")
		addNamespace(s, specs.PIDNamespace, "/proc/10/ns/pid")
	}},
	{"cri-v1", false, func(s *specs.Spec) {
		addNamespace(s, specs.IPCNamespace, "/proc/10/ns/ipc")
		addNamespace(s, specs.UTSNamespace, "/proc/10/ns/uts")
		addNamespace(s, specs.NetworkNamespace, "/proc/10/ns/net")
		score := 999
		s.Process.OOMScoreAdj = &score
		s.Mounts = append(s.Mounts,
			specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
			specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/run/shm/pod", Options: []string{"rbind", "ro", "rprivate"}})
		s.Linux.Seccomp = smallSeccomp
	}},
	{"cri-v2", true, func(s *specs.Spec) {
		addNamespace(s, specs.CgroupNamespace, "")
		s.Linux.RootfsPropagation = "rshared"
		s.Mounts = append(s.Mounts,
			specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
			specs.Mount{Destination: "/vol", Type: "bind", Source: "/var/vol", Options: []string{"rbind", "rshared", "rw"}},
			specs.Mount{Destination: "/rro", Type: "bind", Source: "/var/rro", Options: []string{"rbind", "rprivate", "rro"}})
		s.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
	}},
	{"cri-userns", true, func(s *specs.Spec) { userNamespace(s); addNamespace(s, specs.CgroupNamespace, "") }},
	{"cri-userns-joined", true, func(s *specs.Spec) {
		s.Process.Rlimits = nil
		addNamespace(s, specs.UserNamespace, "/proc/10/ns/user")
		addNamespace(s, specs.NetworkNamespace, "/proc/10/ns/net")
	}},
	{"nerdctl", true, func(s *specs.Spec) {
		s.Hostname = "0123456789ab"
		s.Hooks = &specs.Hooks{
			CreateRuntime: []specs.Hook{{Path: "/usr/bin/nerdctl", Args: []string{"nerdctl", "internal", "oci-hook", "createRuntime"}}},
			Poststop:      []specs.Hook{{Path: "/usr/bin/nerdctl", Args: []string{"nerdctl", "internal", "oci-hook", "postStop"}}},
		}
		s.Process.Rlimits = nil
	}},
	{"hooks", true, func(s *specs.Spec) {
		userNamespace(s)
		h := func(name string) []specs.Hook { return []specs.Hook{{Path: "/hooks/" + name}, {Path: "/hooks/again"}} }
		s.Hooks = &specs.Hooks{Prestart: h("prestart"), CreateRuntime: h("createRuntime"), CreateContainer: h("createContainer"), //nolint:staticcheck // prestart is in the spec
			StartContainer: h("startContainer"), Poststart: h("poststart"), Poststop: h("poststop")}
	}},
	{"no-process", true, func(s *specs.Spec) { s.Process = nil }},
	{"odd-capabilities", true, func(s *specs.Spec) {
		c := []string{"CAP_NET_RAW", "CAP_FUTURE"}
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: c, Permitted: c, Ambient: c}
	}},
}

// TestGolden compares the printed plan of each config with the one that was reviewed.
func TestGolden(t *testing.T) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) { goldenCase(t, tc.name, tc.v2, tc.change) })
	}
}

// goldenCase compares the plans of create and exec with the reviewed ones.
func goldenCase(t *testing.T, name string, v2 bool, change func(*specs.Spec)) {
	t.Helper()
	spec := testkit.Spec("sleep", "10")
	change(spec)
	p, err := plan.Compile(spec, "/bundle", facts(v2), plan.Options{ID: "x", RootPath: "/bundle/rootfs"})
	if err != nil {
		t.Fatal(err)
	}
	p.SetHome(func() string { return "/root" })
	golden(t, name, p)
	if spec.Process == nil {
		return
	}
	e, err := plan.CompileExec(spec, spec.Process, facts(v2))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, name+"-exec", e)
}

// TestHookPlans: the plans of the processes that run hooks in the container's namespaces.
func TestHookPlans(t *testing.T) {
	spec := testkit.Spec("sleep", "10")
	userNamespace(spec)
	spec.Process.Env = append(spec.Process.Env, "A=b")
	spec.Process.Terminal = true
	h := &specs.Hook{Path: "/sbin/ldconfig", Args: []string{"ldconfig", "-v"}, Env: []string{"A=own"}}
	golden(t, "hook-createContainer", plan.CompileCreateContainerHook(spec, "/bundle/rootfs", h, facts(true)))
	p, err := plan.CompileStartContainerHook(spec, h, facts(true))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "hook-startContainer", p)
	own, _ := plan.Find[plan.Exec](p)
	if p, err = plan.CompileStartContainerHook(spec, &specs.Hook{Path: "/x"}, facts(true)); err != nil {
		t.Fatal(err)
	}
	p.SetHome(func() string { return "/root" })
	inherited, _ := plan.Find[plan.Exec](p)
	if got := fmt.Sprint(own.Env, own.NeedHome, inherited.Env, inherited.Args); got != fmt.Sprint([]string{"A=own"}, false, append(spec.Process.Env, "HOME=/root"), []string{"/x"}) {
		t.Errorf("environments %s", got)
	}
}

func golden(t *testing.T, name string, p *plan.Plan) {
	t.Helper()
	file := filepath.Join("testdata", name+".plan")
	got := p.String()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: the plan is\n%s\nnot\n%s", name, got, want)
	}
}

// TestRefused: what is wrong or not supported yet is an error that names the property.
func TestRefused(t *testing.T) {
	for path, change := range map[string]func(*specs.Spec){
		"ociVersion":                     func(s *specs.Spec) { s.Version = "2.0.0" },
		"root.path":                      func(s *specs.Spec) { s.Root = nil },
		"process.args":                   func(s *specs.Spec) { s.Process.Args = nil },
		"process.args[1]":                func(s *specs.Spec) { s.Process.Args = []string{"a", "b\x00"} },
		"process.cwd":                    func(s *specs.Spec) { s.Process.Cwd = "tmp" },
		"process.env[0]":                 func(s *specs.Spec) { s.Process.Env = []string{"X"} },
		"process.rlimits[0].type":        func(s *specs.Spec) { s.Process.Rlimits[0].Type = "RLIMIT_X" },
		"process.rlimits[0]":             func(s *specs.Spec) { s.Process.Rlimits[0].Soft = 2048 },
		"process.rlimits[1]":             func(s *specs.Spec) { s.Process.Rlimits = append(s.Process.Rlimits, s.Process.Rlimits[0]) },
		"process.user.uid":               func(s *specs.Spec) { s.Process.User.UID = 1<<32 - 1 },
		"process.user.additionalGids[1]": func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{5, 1<<32 - 1} },
		"process.user.username":          func(s *specs.Spec) { s.Process.User.Username = "me" },
		"process.oomScoreAdj":            func(s *specs.Spec) { n := 2000; s.Process.OOMScoreAdj = &n },
		"process.apparmorProfile":        func(s *specs.Spec) { s.Process.ApparmorProfile = "x" },
		"process.selinuxLabel":           func(s *specs.Spec) { s.Process.SelinuxLabel = "x" },
		"mounts[0].destination":          func(s *specs.Spec) { s.Mounts[0].Destination = "" },
		"mounts[0]":                      func(s *specs.Spec) { s.Mounts[0].Type = "tmpfs" },
		"mounts[1].type":                 func(s *specs.Spec) { s.Mounts[1].Type = "" },
		"mounts[1].source":               func(s *specs.Spec) { s.Mounts[1] = specs.Mount{Destination: "/x", Type: "bind"} },
		"linux.namespaces[5].type":       func(s *specs.Spec) { addNamespace(s, "x", "") },
		"linux.namespaces[4].path":       func(s *specs.Spec) { addNamespace(s, specs.NetworkNamespace, "x") },
		"mounts":                         func(s *specs.Spec) { dropNamespace(s, specs.MountNamespace) },
		"hostname":                       func(s *specs.Spec) { s.Hostname = "x"; dropNamespace(s, specs.UTSNamespace) },
		"domainname":                     func(s *specs.Spec) { s.Domainname = "x"; dropNamespace(s, specs.UTSNamespace) },
		"linux.sysctl.kernel.pid_max":    func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.pid_max": "1"} },
		"linux.sysctl.net.core.x": func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.core.x": "1"}
			dropNamespace(s, specs.NetworkNamespace)
		},
		"linux.rootfsPropagation":       func(s *specs.Spec) { s.Linux.RootfsPropagation = "x" },
		"linux.devices[0].type":         func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "y"}} },
		"linux.devices[0].path":         func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "x", Type: "c"}} },
		"linux.maskedPaths[0]":          func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"x"} },
		"linux.readonlyPaths[0]":        func(s *specs.Spec) { s.Linux.ReadonlyPaths = []string{"x"} },
		"linux.intelRdt":                func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} },
		"linux.mountLabel":              func(s *specs.Spec) { s.Linux.MountLabel = "x" },
		"hooks.createContainer[0].path": func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "x"}}} },
		"hooks.startContainer[0].timeout": func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/x", Timeout: new(int)}}}
		},
		"hooks.poststop[0]": func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/x", Args: []string{"\x00"}}}}
		},
		"process.consoleSize": func(s *specs.Spec) { s.Process.Terminal = true; s.Process.ConsoleSize = &specs.Box{Width: 1 << 20} },
	} {
		refused(t, path, change)
	}
}

// refused checks that a config is an error that names the property.
func refused(t *testing.T, path string, change func(*specs.Spec)) {
	t.Helper()
	spec := testkit.Spec("true")
	change(spec)
	_, err := plan.Compile(spec, "/bundle", facts(true), plan.Options{ID: "x", RootPath: "/r"})
	var e *plan.Error
	if !errors.As(err, &e) || e.Path != path {
		t.Errorf("%s: got %v", path, err)
	}
}

// TestSysctlPath: the separators of a key are dots or slashes, whichever comes first.
func TestSysctlPath(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.ip_forward":             "net/ipv4/ip_forward",
		"net.ipv4.conf.eth0/1.forwarding": "net/ipv4/conf/eth0.1/forwarding",
		"net/ipv4/conf/eth0.1/forwarding": "net/ipv4/conf/eth0.1/forwarding",
	} {
		if got := (plan.Sysctl{Key: key}).Path(); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
}

// TestEnvironment: the last of a name counts.
func TestEnvironment(t *testing.T) {
	spec := testkit.Spec("true")
	spec.Process.Env = []string{"A=1", "PATH=/x", "A=2", "HOME=", "PATH=/a:b:/a:/c"}
	p, err := plan.Compile(spec, "/bundle", facts(true), plan.Options{ID: "x", RootPath: "/r"})
	if err != nil {
		t.Fatal(err)
	}
	p.SetHome(func() string { return "/home/x" })
	e, _ := plan.Find[plan.Exec](p)
	if got := strings.Join(e.Env, " "); got != "A=2 PATH=/a:b:/a:/c HOME=/home/x" {
		t.Errorf("environment %s", got)
	}
	if got := strings.Join(e.Candidates, " "); got != "/a/true /c/true" {
		t.Errorf("candidates %s", got)
	}
}
