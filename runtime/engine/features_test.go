package engine

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// minimalSpec has what Compile insists on, and no process.
func minimalSpec() *specs.Spec {
	return &specs.Spec{Version: specs.Version, Root: &specs.Root{Path: "rootfs"}, Linux: &specs.Linux{
		Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}},
	}}
}

// refused reports whether the compiler refuses the spec for the named property or one below it.
func refused(t *testing.T, spec *specs.Spec, property string) bool {
	t.Helper()
	_, err := plan.Compile(spec, "/bundle", &plan.Facts{CgroupV2: true, LastCap: 40}, plan.Options{ID: "x", RootPath: "/bundle/rootfs"})
	var e *plan.Error
	return errors.As(err, &e) && strings.HasPrefix(e.Path, property)
}

// TestFeaturesKnowCriu: checkpoints are advertised where criu is, and that its options can come from a config.
func TestFeaturesKnowCriu(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if got := Features().Annotations[checkpointAnnotation]; got != "false" {
		t.Errorf("without criu: %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "criu"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	f := Features()
	if got := f.Annotations[checkpointAnnotation]; got != "true" {
		t.Errorf("with criu: %q", got)
	}
	if !slices.Contains(f.PotentiallyUnsafeConfigAnnotations, criuConfigAnnotation) {
		t.Errorf("annotations that are unsafe: %q", f.PotentiallyUnsafeConfigAnnotations)
	}
}

// TestFeaturesTellTheTruth compares what is advertised with what the compiler takes.
func TestFeaturesTellTheTruth(t *testing.T) {
	f := Features()
	if !slices.Contains(f.PotentiallyUnsafeConfigAnnotations, "org.systemd.property.") {
		t.Error("annotations that name properties of systemd's unit are not advertised as unsafe")
	}
	hook := []specs.Hook{{Path: "/bin/true"}}
	for name, hooks := range map[string]*specs.Hooks{
		"prestart": {Prestart: hook}, "createRuntime": {CreateRuntime: hook}, "createContainer": {CreateContainer: hook}, //nolint:staticcheck // prestart is in the spec
		"startContainer": {StartContainer: hook}, "poststart": {Poststart: hook}, "poststop": {Poststop: hook},
	} {
		spec := minimalSpec()
		spec.Hooks = hooks
		if advertised, honoured := slices.Contains(f.Hooks, name), !refused(t, spec, "hooks."); advertised != honoured {
			t.Errorf("hook %s: advertised %t, honoured %t", name, advertised, honoured)
		}
	}
	for _, name := range []string{"pid", "network", "ipc", "uts", "user", "cgroup", "time"} {
		spec := minimalSpec()
		if name != "mount" { // which every container has
			spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.LinuxNamespaceType(name)})
		}
		if advertised, honoured := slices.Contains(f.Linux.Namespaces, name), !refused(t, spec, "linux.namespaces"); advertised != honoured {
			t.Errorf("namespace %s: advertised %t, honoured %t", name, advertised, honoured)
		}
	}
	for name, is := range map[string]struct {
		advertised bool
		set        func(*specs.Linux)
	}{
		"linux.netDevices": {*f.Linux.NetDevices.Enabled, func(l *specs.Linux) {
			l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
			l.NetDevices = map[string]specs.LinuxNetDevice{"eth0": {}}
		}},
		"linux.intelRdt": {*f.Linux.IntelRdt.Enabled, func(l *specs.Linux) { l.IntelRdt = &specs.LinuxIntelRdt{} }},
	} {
		spec := minimalSpec()
		is.set(spec.Linux)
		if honoured := !refused(t, spec, name); is.advertised != honoured {
			t.Errorf("%s: advertised %t, honoured %t", name, is.advertised, honoured)
		}
	}
}

// TestFeaturesServeTheCRIPlugin checks what containerd's CRI plugin looks for before it offers recursive read-only mounts
// and user namespaces.
func TestFeaturesServeTheCRIPlugin(t *testing.T) {
	f := Features()
	if !slices.Contains(f.MountOptions, "rro") {
		t.Error("rro is not advertised")
	}
	if !slices.Contains(f.Linux.Namespaces, "user") || !*f.Linux.MountExtensions.IDMap.Enabled {
		t.Error("user namespaces are not advertised")
	}
	if !slices.IsSorted(f.MountOptions) || len(slices.Compact(slices.Clone(f.MountOptions))) != len(f.MountOptions) {
		t.Errorf("mount options are not sorted, or double: %q", f.MountOptions)
	}
	a, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(Features())
	if string(a) != string(b) {
		t.Error("two answers differ")
	}
}

// TestMemoryPolicyFeatures compares the advertised modes and flags with what the compiler takes.
func TestMemoryPolicyFeatures(t *testing.T) {
	f := Features().Linux.MemoryPolicy
	flags := make([]specs.MemoryPolicyFlagType, len(f.Flags))
	for i, name := range f.Flags {
		flags[i] = specs.MemoryPolicyFlagType(name)
	}
	for _, mode := range append(f.Modes, "MPOL_NONE") {
		spec := minimalSpec()
		spec.Process = &specs.Process{Args: []string{"/x"}, Cwd: "/"}
		spec.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MemoryPolicyModeType(mode), Nodes: "0", Flags: flags}
		if mode == "MPOL_DEFAULT" || mode == "MPOL_LOCAL" {
			spec.Linux.MemoryPolicy.Nodes = ""
		}
		if got := refused(t, spec, "linux.memoryPolicy"); got != (mode == "MPOL_NONE") {
			t.Errorf("%s: refused %t", mode, got)
		}
	}
	if len(f.Modes) != 7 || len(f.Flags) != 3 {
		t.Errorf("modes %q and flags %q are not all of the runtime-spec's", f.Modes, f.Flags)
	}
}
