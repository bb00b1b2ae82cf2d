package launch

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/bundle"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/seccomp"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// FuzzLower: the program of every plan is one that the child can interpret, with all its jumps and data in place.
func FuzzLower(f *testing.F) {
	spec := testkit.Spec("sh", "-c", "true")
	spec.Process.Terminal = true
	spec.Hostname = "x"
	spec.Root.Readonly = true
	spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace}, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	spec.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	spec.Linux.GIDMappings = spec.Linux.UIDMappings
	spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow}}}
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/a", Type: "bind", Source: "/etc", Options: []string{"rbind", "rro", "rshared"}},
		specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro"}})
	for _, s := range []*specs.Spec{testkit.Spec("true"), spec} {
		text, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	facts := &plan.Facts{Capabilities: 1<<41 - 1, LastCap: 40, Keyring: "_ses.x", CgroupV2: true,
		CompileSeccomp: func(p *specs.LinuxSeccomp) (*seccomp.Filter, error) {
			return seccomp.Compile(p, seccomp.Options{Arch: seccomp.AMD64, SupportedFlags: 0x3f})
		}}
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := bundle.Parse(data)
		if err != nil {
			return
		}
		p, err := plan.Compile(spec, "/bundle", facts, plan.Options{ID: "x", RootPath: "/bundle/rootfs"})
		if err != nil {
			return
		}
		for _, trace := range []bool{false, true} {
			prep := &prepared{step: map[int]int{}, isDir: map[int]bool{}, empty: 100}
			for i := range p.Steps {
				prep.isDir[i] = i%2 == 0
			}
			l := lower(p, prep, &Resources{Trace: trace}, &pipes{report: 10, control: 11, late: 12})
			if err := l.finish().Validate(); err != nil {
				t.Fatalf("%v\n%s", err, p)
			}
			if l.err != nil {
				t.Fatalf("a string that Parse and Compile let through: %v", l.err)
			}
		}
	})
}
