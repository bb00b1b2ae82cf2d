package nerdctl

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestLogs: nerdctl's logger is a binary:// of the shim's; it gets all, and has written it soon after the container's end.
func TestLogs(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sh", "-c", "echo first; echo second >&2; seq 1 5000; exit 5")
	equal(t, "exit code", must(t, "wait", name), "5")
	waitFor(t, name, "\n5000")
	r := nerdctl(t, "logs", name)
	equal(t, "errors", r.stderr, "second\n")
	if !strings.HasPrefix(r.stdout, "first\n") || !strings.HasSuffix(r.stdout, "\n5000\n") || strings.Count(r.stdout, "\n") != 5001 {
		t.Errorf("logs has %d lines of output, from %.40q", strings.Count(r.stdout, "\n"), r.stdout)
	}
	equal(t, "tail", must(t, "logs", "--tail", "2", name), "4999\n5000")
}

// TestLogsFollow sees what comes later, and ends with the container.
func TestLogsFollow(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sh", "-c", "echo one; until [ -e /go ]; do sleep 0.05; done; echo two")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := command(ctx, "logs", "--follow", name)
	var out screen
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first line is followed", func() bool { return out.String() == "one\n" })
	must(t, "exec", name, "touch", "/go")
	if err := cmd.Wait(); err != nil {
		t.Errorf("logs --follow: %v: %s", err, out.String())
	}
	equal(t, "output", out.String(), "one\ntwo\n")
}

func TestNoLogs(t *testing.T) {
	t.Parallel()
	name := detached(t, []string{"--log-driver", "none"}, "echo", "unheard")
	equal(t, "exit code", must(t, "wait", name), "0")
	if r := nerdctl(t, "logs", name); strings.Contains(r.stdout, "unheard") {
		t.Errorf("logs has %q", r.stdout)
	}
}
