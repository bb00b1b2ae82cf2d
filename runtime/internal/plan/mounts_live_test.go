package plan

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestCompileMounts: more mounts are those of config.json, in a process that enters nothing but the mount namespace, and the user
// namespace that it belongs to.
func TestCompileMounts(t *testing.T) {
	spec := &specs.Spec{Root: &specs.Root{Path: "rootfs"}, Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
		{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.UserNamespace}}}}
	list := []specs.Mount{
		{Destination: "/a", Type: "bind", Source: "data", Options: []string{"ro"}},
		{Destination: "/b", Type: "tmpfs", Source: "tmpfs", Options: []string{"ro"}},
	}
	steps := func(p *Plan, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, s := range p.Steps {
			b.WriteString(s.From + ": " + s.Do.String() + "\n")
		}
		return b.String()
	}
	const enter = "linux.namespaces: join the container's namespaces: user, mount; take its root directory\n" +
		"linux.namespaces: become uid 0 and gid 0 of the user namespace\n"
	for name, tc := range map[string]struct{ got, want string }{
		"add": {steps(CompileMounts(spec, "/bundle", list, &Facts{})),
			"mounts[0]: bind /bundle/data on /a +ro\nmounts[1]: mount tmpfs on /b with the mode of what it covers\nmounts[1].options: make the mount /b read-only\n"},
		"remove": {steps(CompileUnmounts(spec, list)), "mounts[1].destination: unmount /b\nmounts[0].destination: unmount /a\n"},
	} {
		_, rest, ok := strings.Cut(tc.got, enter)
		if !ok || !strings.HasPrefix(rest, tc.want) || !strings.HasSuffix(rest, ": end\n") {
			t.Errorf("%s:\n%swant after the namespaces\n%s", name, tc.got, tc.want)
		}
	}
	spec.Linux.Namespaces = spec.Linux.Namespaces[:1]
	if _, err := CompileMounts(spec, "/bundle", list, &Facts{}); err == nil || !strings.HasPrefix(err.Error(), "linux.namespaces: ") {
		t.Errorf("without a mount namespace: %v", err)
	}
}
