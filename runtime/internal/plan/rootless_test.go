package plan_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// userFacts are those of the ordinary user 1000, rootFacts those of root of a user namespace.
func userFacts() *plan.Facts {
	f := rootFacts()
	f.NoMounts, f.User = true, &plan.User{UID: 1000, GID: 100}
	return f
}

func rootFacts() *plan.Facts {
	f := facts(true)
	f.Restricted = true
	return f
}

// ownIDs is the user namespace of gosudacon spec --rootless, for that user.
func ownIDs(s *specs.Spec) {
	addNamespace(s, specs.UserNamespace, "")
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}}
	s.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100, Size: 1}}
	for i := range s.Mounts {
		s.Mounts[i].Options = slices.DeleteFunc(slices.Clone(s.Mounts[i].Options), func(o string) bool { return o == "gid=5" })
	}
}

// TestRootlessPlans: the plans of callers without privileges on the host, of create, exec and hooks.
func TestRootlessPlans(t *testing.T) {
	for _, tc := range []struct {
		name   string
		facts  func() *plan.Facts
		change func(*specs.Spec)
	}{
		{"rootless-user", userFacts, func(s *specs.Spec) { ownIDs(s); dropNamespace(s, specs.NetworkNamespace) }},
		{"rootless-user-subids", userFacts, func(s *specs.Spec) {
			ownIDs(s)
			s.Linux.UIDMappings = append(s.Linux.UIDMappings, specs.LinuxIDMapping{ContainerID: 1, HostID: 100000, Size: 65536})
			s.Linux.GIDMappings = append(s.Linux.GIDMappings, specs.LinuxIDMapping{ContainerID: 1, HostID: 100000, Size: 65536})
			s.Process.User.AdditionalGids = []uint32{5}
			s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/true"}}}
		}},
		{"rootless-user-clocks", userFacts, func(s *specs.Spec) { ownIDs(s); timeOffsets(s) }},
		{"rootless-user-joined", userFacts, func(s *specs.Spec) {
			addNamespace(s, specs.UserNamespace, "/ns/user")
			addNamespace(s, specs.PIDNamespace, "/ns/pid")
			addNamespace(s, specs.NetworkNamespace, "/ns/net")
		}},
		{"rootless-root", rootFacts, func(s *specs.Spec) { addNamespace(s, specs.PIDNamespace, "/ns/pid") }},
		{"rootless-root-userns", rootFacts, ownIDs},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec := testkit.Spec("sleep", "10")
			tc.change(spec)
			p, err := plan.Compile(spec, "/bundle", tc.facts(), plan.Options{ID: "x", RootPath: "/bundle/rootfs"})
			if err != nil {
				t.Fatal(err)
			}
			p.SetHome(func() string { return "/root" })
			golden(t, tc.name, p)
			e, err := plan.CompileExec(spec, spec.Process, tc.facts())
			if err != nil {
				t.Fatal(err)
			}
			golden(t, tc.name+"-exec", e)
			golden(t, tc.name+"-hook", plan.CompileCreateContainerHook(spec, "/bundle/rootfs", &specs.Hook{Path: "/bin/true"}, tc.facts()))
			h, err := plan.CompileStartContainerHook(spec, &specs.Hook{Path: "/bin/true"}, tc.facts())
			if err != nil {
				t.Fatal(err)
			}
			golden(t, tc.name+"-start-hook", h)
		})
	}
}

// TestRootlessRefused: what an ordinary user cannot have is refused by the property's name, before anything is made.
func TestRootlessRefused(t *testing.T) {
	for _, tc := range []struct {
		want   string
		change func(*specs.Spec)
	}{
		{"", func(*specs.Spec) {}},
		{"linux.namespaces: the runtime runs as the ordinary user 1000", func(s *specs.Spec) {
			dropNamespace(s, specs.UserNamespace)
			s.Linux.UIDMappings, s.Linux.GIDMappings = nil, nil
		}},
		{"linux.timeOffsets: ", func(s *specs.Spec) {
			timeOffsets(s)
			dropNamespace(s, specs.UserNamespace)
			addNamespace(s, specs.UserNamespace, "/ns/user")
		}},
		{"linux.netDevices: ", func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth0": {}} }},
		{"process.user.additionalGids: ", func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{0} }},
		{"process.user.uid: 5 ", func(s *specs.Spec) { s.Process.User.UID = 5 }},
		{"mounts[0].options: uid=1 ", func(s *specs.Spec) { s.Mounts[0].Options = append(s.Mounts[0].Options, "uid=1") }},
		{"mounts[2].options: gid=5 ", func(s *specs.Spec) { s.Mounts[2].Options = append(s.Mounts[2].Options, "gid=5") }},
		{"mounts[6].options: tmpcopyup ", func(s *specs.Spec) { s.Mounts[6].Options = append(s.Mounts[6].Options, "tmpcopyup") }},
		{"mounts[7]: an id-mapped mount ", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/m", Source: "/m", Options: []string{"bind", "idmap"}})
		}},
	} {
		spec := testkit.Spec("true")
		ownIDs(spec)
		tc.change(spec)
		_, err := plan.Compile(spec, "/bundle", userFacts(), plan.Options{ID: "x", RootPath: "/r"})
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)) {
			t.Errorf("%v, want %q", err, tc.want)
		}
	}
	// Whoever has subordinate groups may have supplementary ones.
	spec := testkit.Spec("true")
	ownIDs(spec)
	spec.Linux.GIDMappings = append(spec.Linux.GIDMappings, specs.LinuxIDMapping{ContainerID: 1, HostID: 100000, Size: 10})
	spec.Process.User.AdditionalGids = []uint32{5}
	if _, err := plan.Compile(spec, "/bundle", userFacts(), plan.Options{ID: "x", RootPath: "/r"}); err != nil {
		t.Error(err)
	}
}

// TestRootlessNeverVisible: in no plan of an ordinary user does a process become dumpable in a user namespace that others are in
// already: root of a container, who shares it, could take over what still is a copy of the runtime (CVE-2016-9962).
func TestRootlessNeverVisible(t *testing.T) {
	files, err := filepath.Glob("testdata/rootless-user*.plan")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		if strings.Contains(text, " reset signals") && strings.Contains(text, "become undumpable, reset") {
			t.Errorf("%s: undumpable too early, its caller cannot write its maps", name)
		}
		for _, enters := range []string{"join the container's namespaces", "join the user namespace"} {
			hide, enter := strings.Index(text, "become undumpable"), strings.Index(text, enters)
			if enter >= 0 && (hide < 0 || hide > enter) {
				t.Errorf("%s: %s while dumpable", name, enters)
			}
		}
	}
}
