package podman

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
	client.Equal(t, "errors", podman(t, "exec", name, "sh", "-c", "echo e >&2").Stderr, "e\n")
	client.Equal(t, "exit code", podman(t, "exec", name, "sh", "-c", "exit 9").Code, 9)
	client.Equal(t, "killed", podman(t, "exec", name, "sh", "-c", "kill -9 $$").Code, 137)
	for _, c := range []struct {
		flags, program, want string
		code                 int
	}{
		{"", "nosuch", `exec: "nosuch": executable file not found in $PATH`, 127},
		{"", "/etc/motd", `exec: "/etc/motd": permission denied`, 126},
		{"--workdir /nosuch", "pwd", "/nosuch", 127},
		{"--user nosuch", "id", "nosuch", 255},
	} {
		r := podman(t, append(append([]string{"exec"}, strings.Fields(c.flags)...), name, c.program)...)
		client.Equal(t, c.flags+" "+c.program, r.Code, c.code)
		contains(t, c.flags+" "+c.program, r.Stderr, c.want)
	}

	caps := []string{"sh", "-c", "grep -E 'Cap(Eff|Bnd)' /proc/self/status | cut -f2"}
	client.Equal(t, "capabilities", must(t, append([]string{"exec", name}, caps...)...), output(t, nil, caps...))
	every := strings.Fields(must(t, append([]string{"exec", "--privileged", name}, caps...)...))
	if len(every) != 2 || !strings.HasPrefix(every[0], "000001ff") || every[0] != every[1] {
		t.Errorf("privileged exec has capabilities %q", every)
	}

	must(t, "exec", "--detach", name, "touch", "/tmp/mark")
	client.Eventually(t, "the detached exec has run", func() bool { return must(t, "exec", name, "ls", "/tmp") == "mark" })
}

// TestExecEnds with its container.
func TestExecEnds(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sh", "-c", "until [ -e /go ]; do sleep 0.05; done")
	ended := make(chan client.Result, 1)
	go func() { ended <- podman(t, "exec", name, "sh", "-c", "touch /go; sleep 1000") }()
	if r := <-ended; r.Code == 0 {
		t.Error("the exec has succeeded, although the container ended before it")
	}
	client.Equal(t, "exit code of the container", must(t, "wait", name), "0")
}
