package nerdctl

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/e2e/client"
)

// TestLogs: nerdctl's logger is a binary:// of the shim's; it gets all, and has written it soon after the container's end.
func TestLogs(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sh", "-c", "echo first; echo second >&2; seq 1 5000; exit 5")
	client.Equal(t, "exit code", must(t, "wait", name), "5")
	waitFor(t, name, "\n5000")
	r := nerdctl(t, "logs", name)
	client.Equal(t, "errors", r.Stderr, "second\n")
	if !strings.HasPrefix(r.Stdout, "first\n") || !strings.HasSuffix(r.Stdout, "\n5000\n") || strings.Count(r.Stdout, "\n") != 5001 {
		t.Errorf("logs has %d lines of output, from %.40q", strings.Count(r.Stdout, "\n"), r.Stdout)
	}
	client.Equal(t, "tail", must(t, "logs", "--tail", "2", name), "4999\n5000")
}

// TestLogsFollow sees what comes later, and ends with the container.
func TestLogsFollow(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sh", "-c", "echo one; until [ -e /go ]; do sleep 0.05; done; echo two; until [ -e /end ]; do sleep 0.05; done")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := []string{"logs", "--follow", name}
	client.Note(t, program.Name, 0, args)
	cmd := command(ctx, args...)
	var out client.Screen
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client.Eventually(t, "the first line is followed", func() bool { return out.String() == "one\n" })
	must(t, "exec", name, "touch", "/go")
	client.Eventually(t, "the second line is followed", func() bool { return out.String() == "one\ntwo\n" })
	must(t, "exec", name, "touch", "/end") // nerdctl does not wait for what its logger has not written by then
	if err := cmd.Wait(); err != nil {
		t.Errorf("logs --follow: %v: %s", err, out.String())
	}
}

func TestNoLogs(t *testing.T) {
	t.Parallel()
	name := detached(t, []string{"--log-driver", "none"}, "echo", "unheard")
	client.Equal(t, "exit code", must(t, "wait", name), "0")
	if r := nerdctl(t, "logs", name); strings.Contains(r.Stdout, "unheard") {
		t.Errorf("logs has %q", r.Stdout)
	}
}

// TestNoJournal: with the driver journald nerdctl's logger ends at once where no journal is. The container neither blocks nor fails for that.
func TestNoJournal(t *testing.T) {
	t.Parallel()
	if exists("/run/systemd/journal/socket") {
		t.Skip("there is a journal")
	}
	name := detached(t, []string{"--log-driver", "journald"}, "sh", "-c", "sleep 0.3; seq 1 50000; exit 3") // more than a pipe holds
	client.Equal(t, "exit code", must(t, "wait", name), "3")
	client.Equal(t, "output in the foreground", output(t, []string{"--log-driver", "journald"}, "echo", "seen"), "seen")
}
