package launch

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// TestFirstPart: a child begins with a part of its program only where it needs no answer of its caller's until it asks for the rest.
func TestFirstPart(t *testing.T) {
	user := func(path string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: path})
			if path == "" {
				s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
				s.Linux.GIDMappings = s.Linux.UIDMappings
			}
		}
	}
	hostNetwork := func(s *specs.Spec) {
		for i, n := range s.Linux.Namespaces {
			if n.Type == specs.NetworkNamespace {
				s.Linux.Namespaces = append(s.Linux.Namespaces[:i], s.Linux.Namespaces[i+1:]...)
				return
			}
		}
	}
	for _, tc := range []struct {
		name   string
		change func(*specs.Spec)
		r      Resources
		next   plan.Action // the first step of the rest; nil: there is none
	}{
		{"usual", func(*specs.Spec) {}, Resources{}, plan.EnterNetwork{}},
		{"the caller's network", hostNetwork, Resources{}, plan.LeaveHost{}},
		{"a scope of systemd's", func(*specs.Spec) {}, Resources{EnterCgroup: func(int) error { return nil }}, nil},
		{"traced", func(*specs.Spec) {}, Resources{Trace: true}, nil},
		{"a user namespace", user(""), Resources{}, nil},
		{"a joined user namespace", user("/proc/10/ns/user"), Resources{}, nil},
	} {
		spec := testkit.Spec("true")
		tc.change(spec)
		facts := &plan.Facts{CgroupV2: true, Capabilities: 1<<41 - 1, LastCap: 40}
		p, err := plan.Compile(spec, "/bundle", facts, plan.Options{ID: "x", RootPath: "/bundle/rootfs"})
		if err != nil {
			t.Fatal(err)
		}
		switch n := firstPart(p, &tc.r); {
		case tc.next == nil && n != len(p.Steps), tc.next != nil && (n == len(p.Steps) || p.Steps[n].Do != tc.next):
			t.Errorf("%s: %d of %d steps of\n%s", tc.name, n, len(p.Steps), p)
		}
	}
}
