package plan_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// TestLabels: with the security modules that they are for, labels are written for the execution, and for the keys that are
// made; without, they are refused (TestRefused).
func TestLabels(t *testing.T) {
	spec := testkit.Spec("true")
	spec.Process.ApparmorProfile, spec.Process.SelinuxLabel = "cri-default", "system_u:system_r:container_t:s0:c1,c2"
	f := facts(true)
	yes := func() bool { return true }
	f.AppArmor, f.SELinux = yes, yes
	p, err := plan.Compile(spec, "/bundle", f, plan.Options{ID: "x", RootPath: "/bundle/rootfs"})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "labels", p)
	bare := &specs.Process{Args: []string{"/bin/true"}, Cwd: "/"} // the container's are its, too
	if p, err = plan.CompileExec(spec, bare, f); err != nil {
		t.Fatal(err)
	}
	golden(t, "labels-exec", p)
}

// TestHome: a passwd file that is mounted is read late, and only for who needs it.
func TestHome(t *testing.T) {
	mount := func(destination string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: destination, Source: "/x", Type: "bind", Options: []string{"bind"}})
		}
	}
	goldenCase(t, "home-mounted", true, mount("/etc/passwd"))
	for name, tc := range map[string]struct {
		change func(*specs.Spec)
		late   bool
	}{
		"etc": {mount("/etc/"), true}, "relative": {mount("etc/../etc/passwd"), true}, "group": {mount("/etc/group"), false},
		"has HOME": {func(s *specs.Spec) { mount("/etc")(s); s.Process.Env = []string{"HOME=/x"} }, false},
	} {
		spec := testkit.Spec("true")
		tc.change(spec)
		p, err := plan.Compile(spec, "/bundle", facts(true), plan.Options{ID: "x", RootPath: "/bundle/rootfs"})
		if err != nil {
			t.Fatal(err)
		}
		p.SetHome(func() string { return "/root" })
		_, late := plan.Find[plan.ReadHome](p)
		e, _ := plan.Find[plan.Exec](p)
		if got := strings.Contains(strings.Join(e.Env, " "), "HOME="); late != tc.late || e.LateHome != tc.late || got == tc.late {
			t.Errorf("%s: late %t %t, environment %q", name, late, e.LateHome, e.Env)
		}
	}
}
