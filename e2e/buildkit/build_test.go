package buildkit

import (
	"archive/tar"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/e2e/client"
	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// base starts every Dockerfile: an image that comes from no registry.
const base = `FROM scratch AS base
ADD rootfs.tar /
`

// contextDir is a directory to build from, with a Dockerfile that starts with base.
func contextDir(t *testing.T, dockerfile string) string {
	t.Helper()
	dir := t.TempDir()
	rootfs := filepath.Join(t.TempDir(), "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := containerdtest.WriteRootfs(rootfs); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "rootfs.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := tar.NewWriter(out)
	if err := w.AddFS(os.DirFS(rootfs)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"Dockerfile": base + dockerfile, "f": "copied\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// arguments are those of buildctl that build from dir.
func arguments(dir string, more ...string) []string {
	return append([]string{"build", "--progress", "plain", "--no-cache", "--frontend", "dockerfile.v0", "--local", "context=" + dir, "--local", "dockerfile=" + dir}, more...)
}

// build builds the stage "out", which must succeed, and returns the directory with its files.
func build(t *testing.T, dockerfile string, more ...string) string {
	t.Helper()
	dest := t.TempDir()
	program.Must(t, arguments(contextDir(t, dockerfile), append(more, "--opt", "target=out", "--output", "type=local,dest="+dest)...)...)
	return dest
}

// read returns what a build left in a file.
func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestBuild executes commands as root and as another user, one after the other on the same files.
func TestBuild(t *testing.T) {
	t.Parallel()
	dir := build(t, `RUN mkdir /o && echo built >/o/made && chmod 777 /o
COPY f /o/f
USER alice
WORKDIR /home/alice
ENV A=b
RUN echo $A $(id -un) $(pwd) $(hostname) >/o/who && tr '\0' ' ' </proc/1/cmdline | cut -c1-7 >/o/init
RUN --network=none cat /proc/net/dev | grep -c : >/o/net
FROM scratch AS out
COPY --from=base /o /
`)
	client.Equal(t, "made", read(t, dir, "made"), "built\n")
	client.Equal(t, "copied", read(t, dir, "f"), "copied\n")
	client.Equal(t, "identity", read(t, dir, "who"), "b alice /home/alice buildkitsandbox\n")
	client.Equal(t, "init", read(t, dir, "init"), "/bin/sh\n")
	client.Equal(t, "interfaces", read(t, dir, "net"), "1\n")
}

// TestMounts: those that RUN asks for.
func TestMounts(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(secret, []byte("hidden"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := build(t, `RUN mkdir /o
RUN --mount=type=secret,id=s cat /run/secrets/s >/o/secret
RUN --mount=type=tmpfs,target=/t grep -c ' /t tmpfs ' /proc/mounts >/o/tmpfs
RUN --mount=type=cache,target=/c echo kept >/c/k
RUN --mount=type=cache,target=/c cat /c/k >/o/cache
RUN --mount=type=bind,target=/b cat /b/f >/o/bind && (touch /b/g 2>/dev/null || echo refused >>/o/bind)
RUN ls / | tr '\n' ' ' >/o/left
FROM scratch AS out
COPY --from=base /o /
`, "--secret", "id=s,src="+secret)
	client.Equal(t, "secret", read(t, dir, "secret"), "hidden")
	client.Equal(t, "tmpfs", read(t, dir, "tmpfs"), "1\n")
	client.Equal(t, "cache", read(t, dir, "cache"), "kept\n")
	client.Equal(t, "bind", read(t, dir, "bind"), "copied\nrefused\n")
	client.Equal(t, "files of / without mount points", read(t, dir, "left"), "bin dev etc home o proc root run sys tmp usr var ")
}

// TestConfinement: a RUN has Docker's capabilities and no way to the host.
func TestConfinement(t *testing.T) {
	t.Parallel()
	dir := build(t, `RUN mkdir /o && grep -E 'CapBnd|Seccomp:' /proc/self/status >/o/status && (mount -t tmpfs x /mnt 2>/dev/null || echo refused >/o/mount)
FROM scratch AS out
COPY --from=base /o /
`)
	client.Equal(t, "status", read(t, dir, "status"), "CapBnd:\t00000000a80425fb\nSeccomp:\t2\n")
	client.Equal(t, "mount", read(t, dir, "mount"), "refused\n")
}

// TestFailures: the build fails with the command's exit code, or with the reason why it could not be executed.
func TestFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, run, want string }{
		{"exit code", "RUN exit 19", "exit code: 19"},
		{"missing", `RUN ["/no/such"]`, "/no/such"},
		{"not executable", `RUN ["/etc/motd"]`, "permission denied"},
		{"killed", "RUN --security=sandbox sh -c 'kill -9 $$; sleep 1'; exit $?", "exit code: 137"},
	} {
		program.Refused(t, c.want, arguments(contextDir(t, c.run+"\n"))...)
	}
}

// TestCancel: a build that is given up ends its container.
func TestCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := command(ctx, arguments(contextDir(t, "RUN echo u''p && sleep 1005\n"))...)
	var out client.Screen
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client.Eventually(t, "the command runs", func() bool { return strings.Contains(out.String(), " up\n") && runs("sleep\x001005") })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if cmd.Wait() == nil {
		t.Error("the build has succeeded")
	}
	client.Eventually(t, "the command is gone", func() bool { return !runs("sleep\x001005") })
}

// runs tells whether a process has a command line that starts with text.
func runs(text string) bool {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		if got, _ := os.ReadFile(line); strings.HasPrefix(string(got), text) {
			return true
		}
	}
	return false
}
