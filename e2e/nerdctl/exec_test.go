package nerdctl

import (
	"strings"
	"testing"

	"github.com/gosuda/gosudacon/e2e/client"
)

func TestExec(t *testing.T) {
	t.Parallel()
	name := detached(t, []string{"--env", "FROM=image"}, "sleep", "1000")
	client.Equal(t, "output", must(t, "exec", name, "echo", "hello"), "hello")
	client.Equal(t, "flags", must(t, "exec", "--env", "A=b", "--workdir", "/tmp", "--user", "alice", name, "sh", "-c", "echo $FROM $A $(pwd) $(id -un)"), "image b /tmp alice")
	client.Equal(t, "input", program.RunIn(t, strings.NewReader("in\n"), "exec", "--interactive", name, "cat").Stdout, "in\n")
	refused(t, "exec failed with exit code 9", "exec", name, "sh", "-c", "exit 9")
	refused(t, `exec: "nosuch": executable file not found in $PATH`, "exec", name, "nosuch")
	refused(t, "/nosuch", "exec", "--workdir", "/nosuch", name, "pwd")
	refused(t, "no such file or directory", "exec", "--workdir", "/nosuch", name, "pwd")

	caps := []string{"sh", "-c", "grep -E 'Cap(Eff|Bnd)' /proc/self/status | cut -f2"}
	client.Equal(t, "capabilities", must(t, append([]string{"exec", name}, caps...)...), "00000000a80425fb\n00000000a80425fb")
	every := strings.Fields(must(t, append([]string{"exec", "--privileged", name}, caps...)...))
	if len(every) != 2 || !strings.HasPrefix(every[0], "000001ff") || every[0] != every[1] {
		t.Errorf("privileged exec has capabilities %q", every)
	}

	must(t, "exec", "--detach", name, "touch", "/tmp/mark")
	client.Eventually(t, "the detached exec has run", func() bool { return must(t, "exec", name, "ls", "/tmp") == "mark" })
}

// TestHealthcheck: nerdctl executes the check in the container and keeps the results.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	name := detached(t, []string{"--health-cmd", "test -e /ok", "--health-interval", "1h", "--health-retries", "1"}, "sleep", "1000")
	must(t, "container", "healthcheck", name)
	client.Equal(t, "health", inspect(t, name, "{{.State.Health.Status}} {{.State.Health.FailingStreak}}"), "unhealthy 1")
	must(t, "exec", name, "touch", "/ok")
	must(t, "container", "healthcheck", name)
	client.Equal(t, "health", inspect(t, name, "{{.State.Health.Status}} {{.State.Health.FailingStreak}}"), "healthy 0")
}
