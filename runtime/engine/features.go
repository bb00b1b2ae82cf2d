package engine

import (
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/gosuda/gosudacon/internal/criu"
	"github.com/gosuda/gosudacon/runtime/internal/cgroup"
	"github.com/gosuda/gosudacon/runtime/internal/host"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/seccomp"
)

// minVersion is the oldest version of the runtime-spec whose configs mean the same today.
const minVersion = "1.0.0"

// Features returns what the engine honours, in the form of runtime-spec's features.md. What is not honoured yet is absent or
// false: whoever asks decides by it what to put into a config. The caller owns the result.
func Features() *features.Features {
	return &features.Features{
		OCIVersionMin: minVersion,
		OCIVersionMax: specs.Version,
		Hooks:         hookNames(),
		MountOptions:  plan.MountOptions(),
		Linux: &features.Linux{
			Namespaces:   namespaceNames(),
			Capabilities: plan.CapabilityNames(),
			Cgroup: &features.Cgroup{
				V1:          new(true),
				V2:          new(true),
				Systemd:     new(true),
				SystemdUser: new(false),
				Rdma:        new(true),
			},
			Seccomp:         seccompFeatures(),
			Apparmor:        &features.Apparmor{Enabled: new(true)},
			Selinux:         &features.Selinux{Enabled: new(true)},
			IntelRdt:        &features.IntelRdt{Enabled: new(false)},
			MemoryPolicy:    &features.MemoryPolicy{Modes: plan.MemoryPolicyModes(), Flags: plan.MemoryPolicyFlags()},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: new(true)}},
			NetDevices:      &features.NetDevices{Enabled: new(true)},
		},
		PotentiallyUnsafeConfigAnnotations: []string{cgroup.PropertyPrefix, criuConfigAnnotation},
		Annotations:                        map[string]string{checkpointAnnotation: strconv.FormatBool(hasCriu())},
	}
}

// checkpointAnnotation is runc's name for that the engine can checkpoint containers: with the program that there is, or is not.
const checkpointAnnotation = "org.opencontainers.runc.checkpoint.enabled"

func hasCriu() bool {
	_, err := criu.Find("")
	return err == nil
}

func hookNames() []string {
	var names []string
	for _, p := range plan.HookPoints(nil) {
		names = append(names, p.Name)
	}
	return names
}

func namespaceNames() []string {
	var names []string
	for _, t := range []specs.LinuxNamespaceType{
		specs.CgroupNamespace, specs.IPCNamespace, specs.MountNamespace, specs.NetworkNamespace, specs.PIDNamespace,
		specs.TimeNamespace, specs.UserNamespace, specs.UTSNamespace,
	} {
		names = append(names, string(t))
	}
	return names
}

// seccompFeatures names none of the kernel's flags when the kernel is too old for the engine.
func seccompFeatures() *features.Seccomp {
	var supported uint32
	if h, err := host.Probe(); err == nil {
		supported = h.SeccompFlags
	}
	return &features.Seccomp{
		Enabled:        new(true),
		Actions:        seccomp.Actions(),
		Operators:      seccomp.Operators(),
		Archs:          seccomp.Archs(),
		KnownFlags:     seccomp.Flags(),
		SupportedFlags: seccomp.SupportedFlags(supported),
	}
}
