// Package podman tests a runtime's command line under podman, whose conmon starts every container and exec, and under buildah.
//
// The runtime is gosudacon unless -runtime names another one: with runc the same tests show that they ask for what podman's users have. They
// run in the root file system of a Debian release, -root, in which podman was unpacked.
package podman

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/e2e/alone"
	"github.com/gosuda/gosudacon/e2e/client"
	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

var (
	runtimeFlag = flag.String("runtime", "gosudacon", "runtime to test: gosudacon, runc, or the path of another")
	rootFlag    = flag.String("root", "podman-4.3", "podman to test with: podman-4.3 or podman-5.8")
)

const testImage = containerdtest.Image

// configuration is podman's, on a machine without systemd, for a runtime's name and path. The machine's limits may be lower than those that
// podman asks for otherwise.
const configuration = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = %[1]q
runtime_supports_json = [%[1]q]
runtime_supports_nocgroup = ["gosudacon"]
runtime_supports_nocgroupv2 = ["gosudacon"]
[engine.runtimes]
%[1]s = [%[2]q]
`

// runtimePath is the program under test.
var runtimePath string

func TestMain(m *testing.M) {
	if os.Args[0] == readyName {
		ready()
	}
	flag.Parse()
	if err := enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	for _, left := range leftovers() {
		fmt.Fprintln(os.Stderr, "left behind:", left)
		code = 1
	}
	os.Exit(code)
}

// enter starts the tests again in Debian's root, and makes it ready for podman.
func enter() error {
	tree, err := containerdtest.FindTree()
	if err != nil {
		return err
	}
	root, err := tree.Peer(*rootFlag)
	if err != nil {
		return err
	}
	if runtimePath, err = tree.Runtime(*runtimeFlag); err != nil {
		return err
	}
	err = alone.Start(alone.Config{
		Root:  root,
		Empty: []string{"/var/lib/containers"}, // an overlay cannot be the upper layer of another
		Bind:  []string{string(tree), filepath.Dir(runtimePath)},
	})
	if err != nil {
		return err
	}
	for path, text := range map[string]string{
		"/etc/containers/containers.conf": fmt.Sprintf(configuration, filepath.Base(runtimePath), runtimePath),
		"/etc/passwd":                     "root:x:0:0:root:/root:/bin/sh\ncontainers:x:999:999::/:/bin/false\n", // an owner of ids for --userns auto
		"/etc/subuid":                     "containers:100000:1000000\n",
		"/etc/subgid":                     "containers:100000:1000000\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	image := filepath.Join(os.TempDir(), "image.tar")
	if err := errors.Join(os.RemoveAll("/etc/cni"), containerdtest.WriteImage(image)); err != nil { // else 4.3 looks for plugins of CNI
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := command(ctx, "load", "--input", image).CombinedOutput(); err != nil {
		return fmt.Errorf("load %s: %w: %s", image, err, out)
	}
	return nil
}

// program is podman, which is configured to use the runtime under test.
var program = client.Client{Name: "podman", Command: command}

// command prepares podman with args; it ends with ctx.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "podman", args...)
	cmd.Dir = os.TempDir() // an old conmon writes a file "oom" where it was started
	cmd.Env = append(os.Environ(), "PODMAN_IGNORE_CGROUPSV1_WARNING=1")
	return cmd
}

// podman runs podman with args, at most for a minute, and tells how it ended.
func podman(t *testing.T, args ...string) client.Result { t.Helper(); return program.Run(t, args...) }

// must runs podman and fails the test unless it succeeds; it returns what it printed, without white space around it.
func must(t *testing.T, args ...string) string { t.Helper(); return program.Must(t, args...) }

// refused runs podman, which must fail and say want.
func refused(t *testing.T, want string, args ...string) {
	t.Helper()
	program.Refused(t, want, args...)
}

// options are flags of podman run or create, and no network unless they choose one.
func options(flags []string) []string {
	all := strings.Join(flags, " ")
	if strings.Contains(all, "--network ") || strings.Contains(all, "--pod ") {
		return flags
	}
	return append([]string{"--network", "none"}, flags...)
}

// run runs a container in the foreground, with flags of podman run.
func run(t *testing.T, flags []string, args ...string) client.Result {
	t.Helper()
	all := append([]string{"run", "--rm"}, options(flags)...)
	return podman(t, append(append(all, testImage), args...)...)
}

// output runs a container that must succeed and returns what it printed, without white space around it.
func output(t *testing.T, flags []string, args ...string) string {
	t.Helper()
	r := run(t, flags, args...)
	if r.Code != 0 {
		t.Fatalf("podman run %q %q: exit code %d\nstdout: %s\nstderr: %s", flags, args, r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

var containers atomic.Int64

// newName makes a name for a container and removes the container that has it at the end of the test.
func newName(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("c%d", containers.Add(1))
	t.Cleanup(func() {
		if r := podman(t, "rm", "--force", "--ignore", "--time", "0", "--volumes", name); r.Code != 0 {
			t.Errorf("remove %s: exit code %d: %s", name, r.Code, r.Stderr)
		}
	})
	return name
}

// detached starts a container in the background, which is removed when the test is over. It returns its name.
func detached(t *testing.T, flags []string, args ...string) string {
	t.Helper()
	name := newName(t)
	all := append([]string{"run", "--detach", "--name", name}, options(flags)...)
	must(t, append(append(all, testImage), args...)...)
	return name
}

// inspect evaluates a template on a container.
func inspect(t *testing.T, name, template string) string {
	t.Helper()
	return must(t, "inspect", "--format", template, name)
}

// waitFor waits until a container's log has a line.
func waitFor(t *testing.T, name, line string) {
	t.Helper()
	client.Eventually(t, "log of "+name+" has "+line, func() bool { return strings.Contains(must(t, "logs", name), line) })
}
