// Package docker tests a runtime under Docker: gosuda's shim, and gosudacon under containerd's own shim, as Docker calls runc.
//
// With -runtime runc the same tests show that they ask for what Docker's users have. They run in the root file system of Debian sid into
// which Docker was unpacked, with a daemon of their own.
package docker

import (
	"context"
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

const (
	shimRuntime = "io.containerd.gosuda.v2"
	runcRuntime = "runc"
)

var runtimeFlag = flag.String("runtime", shimRuntime, "runtime to test: "+shimRuntime+", gosudacon or "+runcRuntime)

const testImage = containerdtest.Image

var shared *daemon

func TestMain(m *testing.M) {
	flag.Parse()
	if err := enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(withDocker(m))
}

// enter starts the tests again in Debian's root.
func enter() error {
	tree, err := containerdtest.FindTree()
	if err != nil {
		return err
	}
	root, err := tree.Peer("docker-28")
	if err != nil {
		return err
	}
	cli, err := tree.Runtime("gosudacon")
	if err != nil {
		return err
	}
	err = alone.Start(alone.Config{
		Root:  root,
		Empty: []string{"/var/lib/docker", "/var/lib/containerd"}, // an overlay cannot be the upper layer of another
		Bind:  []string{string(tree)},
	})
	if err != nil {
		return err
	}
	shared = &daemon{bin: filepath.Dir(cli), log: filepath.Join(os.TempDir(), "docker.log")}
	return shared.configure(cli)
}

// withDocker runs the tests around one daemon and fails when something of it is left.
func withDocker(m *testing.M) int {
	if err := shared.start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := 1
	if err := load(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	left := ofContainers()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop Docker:", err)
		code = 1
	}
	for _, l := range append(left, ofMachine()...) {
		fmt.Fprintln(os.Stderr, "left behind:", l)
		code = 1
	}
	if code != 0 {
		shared.printLog()
	}
	return code
}

func load() error {
	image := filepath.Join(os.TempDir(), "image.tar")
	if err := containerdtest.WriteImage(image); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := command(ctx, "load", "--input", image).CombinedOutput(); err != nil {
		return fmt.Errorf("load %s: %w: %s", image, err, out)
	}
	return nil
}

// program is Docker's client.
var program = client.Client{Name: "docker", Command: command}

// command prepares docker with args; it ends with ctx.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=0") // BuildKit has tests of its own
	return cmd
}

// docker runs the client with args, at most for a minute, and tells how it ended.
func docker(t *testing.T, args ...string) client.Result { t.Helper(); return program.Run(t, args...) }

// must runs the client and fails the test unless it succeeds; it returns what it printed, without white space around it.
func must(t *testing.T, args ...string) string { t.Helper(); return program.Must(t, args...) }

// refused runs the client, which must fail and say want.
func refused(t *testing.T, want string, args ...string) {
	t.Helper()
	program.Refused(t, want, args...)
}

// options are the flags of docker run or create that choose the runtime, and no network unless they choose one.
func options(flags []string) []string {
	all := []string{"--runtime", *runtimeFlag}
	if text := strings.Join(flags, " "); !strings.Contains(text, "--network ") {
		all = append(all, "--network", "none")
	}
	return append(all, flags...)
}

// run runs a container in the foreground, with flags of docker run.
//
// On a busy machine Docker loses the output of a container that ends before Docker's own thread has opened the FIFO to read it, whatever the
// runtime is, and says so in its log; then run tries again.
func run(t *testing.T, flags []string, args ...string) client.Result {
	t.Helper()
	all := append(append(append([]string{"run", "--rm"}, options(flags)...), testImage), args...)
	for range 5 {
		lost := shared.lostOutputs()
		if r := docker(t, all...); r.Code != 0 || r.Stdout != "" || shared.lostOutputs() == lost {
			return r
		}
	}
	return docker(t, all...)
}

// output runs a container that must succeed and returns what it printed, without white space around it.
func output(t *testing.T, flags []string, args ...string) string {
	t.Helper()
	r := run(t, flags, args...)
	if r.Code != 0 {
		t.Fatalf("docker run %q %q: exit code %d\nstdout: %s\nstderr: %s", flags, args, r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

var containers atomic.Int64

// newName makes a name for a container and removes the container that has it at the end of the test.
func newName(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("container%d", containers.Add(1))
	t.Cleanup(func() { docker(t, "rm", "--force", "--volumes", name) }) // if it is there still; leftovers are looked for at the end
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
