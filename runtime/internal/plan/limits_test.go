package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// TestTooMuch: what no kernel takes is refused by the property's name, before it costs anything.
func TestTooMuch(t *testing.T) {
	m := func(container, host, size uint32) specs.LinuxIDMapping {
		return specs.LinuxIDMapping{ContainerID: container, HostID: host, Size: size}
	}
	maps := func(uid ...specs.LinuxIDMapping) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			s.Linux.UIDMappings, s.Linux.GIDMappings = uid, []specs.LinuxIDMapping{m(0, 1000, 1)}
			s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "devpts" }) // its group 5 is not mapped
		}
	}
	many := make([]specs.LinuxIDMapping, 341)
	for i := range many {
		many[i] = m(uint32(i), uint32(i), 1)
	}
	const last = 1<<32 - 1
	for _, tc := range []struct {
		name   string
		change func(*specs.Spec)
		want   string
	}{
		{"mappings side by side", maps(m(0, 1000, 10), m(10, 1010, 10), m(20, 0, 1000)), ""},
		{"the whole range", maps(m(0, 0, last)), ""},
		{"the last id", maps(m(0, 1000, 1), m(last-1, 5, 1)), ""},
		{"no id", maps(m(last, 5, 1)), "linux.uidMappings[0]: containerID"},
		{"ids beyond the last", maps(m(0, last-5, 10)), "linux.uidMappings[0]: hostID"},
		{"size 0", maps(m(0, 1000, 0)), "linux.uidMappings[0].size"},
		{"container ids twice", maps(m(0, 1000, 10), m(20, 5000, 1), m(9, 3000, 5)), "linux.uidMappings[2]: maps ids of the container that linux.uidMappings[0]"},
		{"host ids twice", maps(m(0, 1000, 10), m(10, 1009, 1)), "linux.uidMappings[1]: maps to ids of the host that linux.uidMappings[0]"},
		{"a range in a range", maps(m(0, 1000, 100), m(1000, 1050, 1)), "linux.uidMappings[1]: maps to ids of the host"},
		{"341 mappings", maps(many...), "linux.uidMappings: 341"},
		{"340 mappings", maps(many[:340]...), ""},
		{"gids", func(s *specs.Spec) {
			maps(m(0, 0, 1))(s)
			s.Linux.GIDMappings = append(s.Linux.GIDMappings, m(1, 1000, 1))
		}, "linux.gidMappings[1]"},
		{"of a mount", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/m", Source: "/m", Options: []string{"bind"},
				UIDMappings: []specs.LinuxIDMapping{m(0, 0, 2), m(1, 5, 1)}, GIDMappings: []specs.LinuxIDMapping{m(0, 0, 1)}})
		}, "mounts[7].uidMappings[1]"},
		{"mounts", func(s *specs.Spec) {
			s.Mounts = make([]specs.Mount, 1_000_000)
		}, "mounts: 1000000 entries"},
		{"masks", func(s *specs.Spec) { s.Linux.MaskedPaths = make([]string, 10_001) }, "linux.maskedPaths: 10001 entries"},
		{"a long argument", func(s *specs.Spec) { s.Process.Args = append(s.Process.Args, strings.Repeat("x", 32*4096)) }, "process.args[1]: 131072 bytes"},
		{"a long variable", func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "A="+strings.Repeat("x", 100<<20)) }, "process.env[1]: "},
		{"groups", func(s *specs.Spec) { s.Process.User.AdditionalGids = make([]uint32, 65_537) }, "process.user.additionalGids: 65537"},
	} {
		spec := testkit.Spec("true")
		tc.change(spec)
		_, err := plan.Compile(spec, "/bundle", facts(true), plan.Options{ID: "x", RootPath: "/r"})
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)) {
			t.Errorf("%s: %.200v, want %q", tc.name, err, tc.want)
		}
	}
}
