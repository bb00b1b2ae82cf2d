package engine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// TestAttackExecPrivileges: an exec has what its process asks for and nothing else: no inheritable capabilities
// (CVE-2022-24769, CVE-2022-29162), no_new_privs and the container's seccomp filter; as a user, nothing.
func TestAttackExecPrivileges(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	spec := testkit.Spec("sleep", "1000")
	spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow,
		Syscalls: []specs.LinuxSyscall{{Names: []string{"sethostname"}, Action: specs.ActErrno}}}
	c := started(t, e, spec)
	const script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status"
	want := strings.Join([]string{"CapInh:\t0000000000000000", "CapPrm:\t00000000a80425fb", "CapEff:\t00000000a80425fb",
		"CapBnd:\t00000000a80425fb", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"}, "\n")
	if got, _ := startExec(t, c, "root", "sh", "-c", script); got != want {
		t.Errorf("as root: got\n%s\nwant\n%s", got, want)
	}
	user := *spec.Process
	user.Args = []string{"sh", "-c", script}
	user.User = specs.User{UID: 1000, GID: 1000}
	got, _ := execProcess(t, c, "user", &user)
	for _, line := range []string{"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000"} {
		if !strings.Contains(got, line) {
			t.Errorf("as a user: no %q in\n%s", line, got)
		}
	}
	none := user
	none.User, none.Capabilities = specs.User{}, nil
	if got, _ := execProcess(t, c, "none", &none); got != want { // the container's own, as runc has it
		t.Errorf("without capabilities in the request: got\n%s\nwant\n%s", got, want)
	}
}

// TestAttackDevices: a container with CAP_MKNOD makes a node of a device of the host, here /dev/kmsg, and opens it: in its init's
// cgroup and from an exec.
func TestAttackDevices(t *testing.T) {
	testkit.NoLeaks(t)
	dev := int(unix.Mkdev(1, 11))
	host := filepath.Join(t.TempDir(), "kmsg")
	if err := unix.Mknod(host, unix.S_IFCHR|0o600, dev); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(host)
	if err != nil {
		t.Fatalf("the host itself cannot open it: %v", err)
	}
	f.Close()
	e, _ := newEngine(t)
	spec := attackSpec(t)
	c := started(t, e, spec)
	if got := attack(t, c, spec, "node", "/kmsg", itoa(dev)); got != "mknod ok\nopen operation not permitted" {
		t.Errorf("an exec: %s", got)
	}
	init := attackSpec(t)
	init.Process.Args = []string{attackPath, "node", "/kmsg", itoa(dev)}
	if got, _ := run(t, init); strings.TrimSpace(got) != "mknod ok\nopen operation not permitted" {
		t.Errorf("an init: %s", got)
	}
}
