package engine_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// TestSeccompStrict: a profile that allows little more than the program's own calls does not hinder what prepares the process, also
// where the filter is loaded without no_new_privs, for root and for a user; and the capability that this takes does not stay.
func TestSeccompStrict(t *testing.T) {
	testkit.NoLeaks(t)
	for _, uid := range []uint32{0, 1000} {
		for _, noNewPrivs := range []bool{false, true} {
			spec := testkit.Spec("grep", "-E", "^(CapEff|CapPrm|CapAmb|CapInh|Seccomp):", "/proc/self/status")
			spec.Process.NoNewPrivileges = noNewPrivs
			spec.Process.User.UID = uid
			caps := []string{"CAP_KILL"}
			spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Inheritable: caps, Ambient: caps}
			spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Action: specs.ActAllow,
				Names: []string{"arch_prctl", "brk", "capset", "execve", "exit_group", "fstat", "getuid", "mmap", "mprotect", "munmap",
					"newfstatat", "open", "openat", "read", "set_tid_address", "uname", "write"}}}}
			out, exit := run(t, spec)
			const want = "CapInh:\t0000000000000020\nCapPrm:\t0000000000000020\nCapEff:\t0000000000000020\nCapAmb:\t0000000000000020\nSeccomp:\t2"
			if strings.TrimSpace(out) != want || exit.Status != 0 {
				t.Errorf("uid %d, noNewPrivileges %v: exit status %d, got\n%s\nwant\n%s", uid, noNewPrivs, exit.Status, out, want)
			}
		}
	}
}
