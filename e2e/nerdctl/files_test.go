package nerdctl

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/gosuda/gosudacon/e2e/client"
)

// TestCopy into a container and out of it, while it runs and after.
func TestCopy(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sleep", "1000")
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	if err := os.WriteFile(in, []byte("a file\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	out := func(source string) string {
		t.Helper()
		target := filepath.Join(dir, "out")
		must(t, "cp", name+":"+source, target)
		text, err := os.ReadFile(target)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	must(t, "cp", in, name+":/root/f")
	client.Equal(t, "the file inside", must(t, "exec", name, "sh", "-c", "cat /root/f; stat -c %a /root/f"), "a file\n640")
	client.Equal(t, "the file outside", out("/root/f"), "a file\n")
	must(t, "kill", name)
	must(t, "wait", name)
	client.Equal(t, "the file of a stopped container", out("/root/f"), "a file\n")
}

// TestCommit makes an image of what a running container has written, pausing it for the time.
func TestCommit(t *testing.T) {
	t.Parallel()
	name := detached(t, nil, "sh", "-c", "echo written >/new; echo up; sleep 1000")
	waitFor(t, name, "up")
	image := "localhost/" + name + ":latest"
	must(t, "commit", "--change", `CMD ["cat", "/new"]`, name, image)
	defer must(t, "rmi", image)
	client.Equal(t, "state", inspect(t, name, "{{.State.Status}}"), "running")
	all := append([]string{"run", "--rm"}, options(nil)...)
	client.Equal(t, "output of the new image", must(t, append(all, image)...), "written")
}
