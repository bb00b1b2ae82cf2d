package podman

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gosuda/gosudacon/e2e/client"
)

// builder is buildah.
var builder = client.Client{Name: "buildah", Command: func(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "buildah", args...)
}}

// buildah runs buildah with args, which must succeed, and returns what it printed, without white space around it.
func buildah(t *testing.T, args ...string) string { t.Helper(); return builder.Must(t, args...) }

const dockerfile = `FROM localhost/gosuda-test:latest
RUN echo built >/made && id -u && grep -c . /proc/self/cgroup
USER alice
RUN id -un >/tmp/who
COPY f /f
ENV A=b
CMD ["cat", "/made", "/tmp/who", "/f"]
`

// contextDir is what images are built from.
func contextDir(t *testing.T, dockerfile string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"Dockerfile": dockerfile, "f": "copied\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestBuild: buildah and podman execute every RUN in a container of the runtime's.
func TestBuild(t *testing.T) {
	t.Parallel()
	for tool, build := range map[string]func(*testing.T, ...string) string{
		"buildah": func(t *testing.T, args ...string) string {
			return buildah(t, append([]string{"bud", "--runtime", runtimePath}, args...)...)
		},
		"podman": func(t *testing.T, args ...string) string { return must(t, append([]string{"build"}, args...)...) },
	} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			image := "localhost/built-by-" + tool
			out := build(t, "--isolation", "oci", "--network", "none", "--tag", image, contextDir(t, dockerfile))
			contains(t, "output", out, "\n0\n")
			client.Equal(t, "files of the image", must(t, "run", "--rm", "--network", "none", image), "built\nalice\ncopied")
			must(t, "rmi", image)
		})
	}
}

// TestBuildFails with the command's exit code and says which it was.
func TestBuildFails(t *testing.T) {
	t.Parallel()
	r := podman(t, "build", "--isolation", "oci", "--network", "none", contextDir(t, "FROM "+testImage+"\nRUN exit 19\n"))
	if r.Code == 0 || !strings.Contains(r.Stderr, "19") {
		t.Errorf("exit code %d, %q; want a failure with 19", r.Code, r.Stderr)
	}
}

// TestBuildahRun executes in a container that buildah works on.
func TestBuildahRun(t *testing.T) {
	t.Parallel()
	id := buildah(t, "from", "--pull-never", testImage)
	defer buildah(t, "rm", id)
	flags := []string{"run", "--runtime", runtimePath, "--isolation", "oci", "--network", "none"}
	client.Equal(t, "output", buildah(t, append(flags, "--user", "alice", "--env", "A=b", id, "sh", "-c", "echo $A $(id -un)")...), "b alice")
	term := builder.Terminal(t, append(flags, "--terminal", id, "sh", "-c", "tty; exit 6")...)
	term.Shows("/dev/pts/0\n")
	if term.ExitCode() == 0 {
		t.Error("buildah run has succeeded, although the command failed")
	}
}
