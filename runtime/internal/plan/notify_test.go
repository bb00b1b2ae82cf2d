package plan_test

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestNotify: a filter with an agent is loaded while the caller is there to hand over the listener.
func TestNotify(t *testing.T) {
	notify := func(s *specs.Spec) {
		s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/run/agent", ListenerMetadata: "x",
			Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir"}, Action: specs.ActNotify}}}
	}
	goldenCase(t, "seccomp-notify", true, notify)
	goldenCase(t, "seccomp-notify-privileges", true, func(s *specs.Spec) {
		notify(s)
		s.Process.NoNewPrivileges = false
	})
	goldenCase(t, "seccomp-listener-ignored", true, func(s *specs.Spec) {
		notify(s)
		s.Linux.Seccomp.Syscalls[0].Action = specs.ActLog
	})
}
