package podman

import (
	"strings"
	"testing"

	"github.com/gosuda/gosudacon/e2e/client"
)

// TestExitCodes: a container's exit code is podman's; else it tells who failed: podman (125), or the program, which could not be executed
// (126) or is not there (127).
func TestExitCodes(t *testing.T) {
	t.Parallel()
	client.Equal(t, "exit 42", run(t, nil, "sh", "-c", "exit 42").Code, 42)
	client.Equal(t, "killed", run(t, nil, "sh", "-c", "ulimit -t 1; while :; do :; done").Code, 137)
	for _, c := range []struct {
		name, program, want string
		code                int
	}{
		{"missing", "nosuch", `exec: "nosuch": executable file not found in $PATH`, 127},
		{"missing path", "/no/such", `exec: "/no/such": `, 127},
		{"not executable", "/etc/motd", `exec: "/etc/motd": permission denied`, 126},
		{"directory", "/etc", `exec: "/etc": `, 126},
	} {
		r := run(t, nil, c.program)
		client.Equal(t, c.name, r.Code, c.code)
		contains(t, c.name, r.Stderr, c.want)
	}
	client.Equal(t, "flag of podman", run(t, []string{"--nosuch"}, "true").Code, 125)
}

// contains fails the test unless text has want in it.
func contains(t *testing.T, what, text, want string) {
	t.Helper()
	if !strings.Contains(text, want) {
		t.Errorf("%s: %q has no %q", what, text, want)
	}
}
