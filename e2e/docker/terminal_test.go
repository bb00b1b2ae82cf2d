package docker

import (
	"strings"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/e2e/client"
)

// interactive are the arguments of docker that run a container in a terminal.
func interactive(flags ...string) []string {
	return append(append([]string{"run", "--interactive", "--tty"}, options(flags)...), testImage)
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	term := program.Terminal(t, append(interactive("--name", newName(t)), "sh")...)
	term.HasSize("33 77")
	term.Types("tty; test -t 2 && echo $((40+2))\n")
	term.Shows("\n/dev/pts/0\n42\n")
	term.Resize(20, 40)
	term.HasSize("20 40")
	term.Types("sh -c 'echo rea''dy; exec sleep 1000'\n")
	term.Shows("\nready\n")
	term.Types("\x03")
	term.Shows("^C")
	term.Types("echo code $?\n")
	term.Shows("\ncode 130\n")
	term.Types("exit 3\n")
	client.Equal(t, "exit code", term.ExitCode(), 3)
}

func TestExecTerminal(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sleep", "1000")
	term := program.Terminal(t, "exec", "--interactive", "--tty", name, "sh")
	term.HasSize("33 77")
	term.Types("tty; exit 4\n")
	term.Shows("\n/dev/pts/0\n")
	client.Equal(t, "exit code", term.ExitCode(), 4)
}

// TestAttach leaves a container by the detach keys, comes back, and sees its end.
func TestAttach(t *testing.T) {
	t.Parallel()
	name := newName(t)
	term := program.Terminal(t, append(interactive("--name", name), "sh", "-c", "echo up; while read a; do echo got $a; done; exit 6")...)
	term.Shows("up\n")
	term.Types("one\n")
	term.Shows("got one\n")
	term.Types("\x10") // ctrl-p, ctrl-q: docker sees them only when each comes alone
	time.Sleep(200 * time.Millisecond)
	term.Types("\x11")
	term.ExitCode()
	client.Equal(t, "state", inspect(t, name, "{{.State.Status}}"), "running")

	term = program.Terminal(t, "attach", name)
	client.Eventually(t, "the terminal is attached", func() bool { term.Types("two\n"); return strings.Contains(term.String(), "got two\n") })
	term.Types("\x04")
	client.Equal(t, "exit code of attach", term.ExitCode(), 6)
	client.Equal(t, "exit code", must(t, "wait", name), "6")
}
