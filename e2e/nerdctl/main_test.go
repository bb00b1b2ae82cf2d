// Package nerdctl tests a containerd runtime under nerdctl, which uses more of it than ctr does: OCI hooks, a logger of its own, the
// namespaces of other containers, terminals that come and go.
//
// The runtime is gosuda's unless -runtime names another one; on io.containerd.runc.v2 the same tests show that they ask for what nerdctl's
// users have. Networks are those of a network namespace that the tests make for themselves.
package nerdctl

import (
	"cmp"
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

const runcRuntime = "io.containerd.runc.v2"

var (
	runtimeFlag = flag.String("runtime", "io.containerd.gosuda.v2", "containerd runtime to test")
	binFlag     = flag.String("bin", "", "directory of gosuda's shim (default: where make build leaves it)")
)

const testImage = containerdtest.Image

// monitorInterval is how often containerd looks for containers to restart.
const monitorInterval = 200 * time.Millisecond

// shared is what all tests use.
var shared struct {
	dir     string                // of everything that is made
	program string                // nerdctl
	plugins string                // directory of CNI's
	config  containerdtest.Config // of every containerd
	daemon  *containerdtest.Daemon
	noCriu  string // what criu misses in this kernel
}

func TestMain(m *testing.M) {
	containerdtest.Main()
	flag.Parse()
	// The plugins of CNI and nerdctl have directories that no flag changes; and with --ipc host nerdctl binds the host's /dev/mqueue, mounted or not.
	if err := alone.Start(alone.Config{Empty: []string{"/var/lib/cni", "/run/nerdctl", "/dev/mqueue"}}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(withContainerd(m))
}

// withContainerd runs the tests around one containerd and fails when something of it is left.
func withContainerd(m *testing.M) int {
	if err := setUp(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(shared.dir)
	code := m.Run()
	left := leftovers()
	more, err := shared.daemon.Close()
	if err != nil {
		fmt.Fprintln(os.Stderr, "stop containerd:", err)
		code = 1
	}
	for _, l := range append(left, more...) {
		fmt.Fprintln(os.Stderr, "left behind:", l)
		if *runtimeFlag != runcRuntime { // it leaves sockets
			code = 1
		}
	}
	if code != 0 {
		log := strings.SplitAfter(shared.daemon.Log(), "\n")
		fmt.Fprintf(os.Stderr, "containerd's log ends with:\n%s", strings.Join(log[max(0, len(log)-30):], ""))
	}
	return code
}

func setUp() error {
	tree, err := containerdtest.FindTree()
	if err != nil {
		return err
	}
	containerd, err := tree.Peer("containerd")
	if err != nil {
		return err
	}
	program, err := tree.Peer("nerdctl")
	if err != nil {
		return err
	}
	if shared.plugins, err = tree.Peer("cni"); err != nil {
		return err
	}
	shared.program = filepath.Join(program, "nerdctl")
	if shared.dir, err = os.MkdirTemp("", "gosuda-nerd-"); err != nil {
		return err
	}
	err = errors.Join(os.Chmod(shared.dir, 0o711), os.Mkdir(file("tmp"), 0o700), containerdtest.WriteImage(file("image.tar")))
	if err != nil {
		return err
	}
	runc, err := tree.Peer("runc")
	if err != nil {
		return err
	}
	criu, missing, err := tree.Criu()
	if err != nil {
		return err
	}
	shared.noCriu = missing
	shared.config = containerdtest.Config{Bin: containerd, Path: []string{cmp.Or(*binFlag, tree.Bin()), containerd, runc, criu}}
	shared.daemon, err = startDaemon("d", monitorInterval)
	return err
}

// startDaemon starts a containerd in a directory of the shared one, and gives it the image.
func startDaemon(name string, monitor time.Duration) (*containerdtest.Daemon, error) {
	c := shared.config
	c.Dir = file(name)
	c.Namespace = fmt.Sprintf("gosuda-nerd-%d-%s", os.Getpid(), name)
	c.Env = []string{"XDG_RUNTIME_DIR=" + c.Dir} // where containerd leaves copies of checkpoints
	c.Extra = fmt.Sprintf("[plugins.\"io.containerd.monitor.container.v1.restart\"]\ninterval = %q\n", monitor)
	if err := os.Mkdir(c.Dir, 0o711); err != nil {
		return nil, err
	}
	d, err := containerdtest.Start(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := commandOf(d)(ctx, "load", "--input", file("image.tar")).CombinedOutput(); err != nil {
		_, closed := d.Close()
		return nil, errors.Join(fmt.Errorf("load the image: %w: %s", err, out), closed)
	}
	return d, nil
}

func file(name string) string { return filepath.Join(shared.dir, name) }

// program is nerdctl.
var program = client.Client{Name: "nerdctl", Command: command}

// command prepares nerdctl with args; it ends with ctx.
func command(ctx context.Context, args ...string) *exec.Cmd {
	return commandOf(shared.daemon)(ctx, args...)
}

// commandOf is command for a containerd.
func commandOf(d *containerdtest.Daemon) func(context.Context, ...string) *exec.Cmd {
	return func(ctx context.Context, args ...string) *exec.Cmd {
		args = append([]string{
			"--address", d.Address(), "--namespace", d.Namespace, "--data-root", file("data"),
			"--cni-path", shared.plugins, "--cni-netconfpath", file("netconf"),
		}, args...)
		cmd := exec.CommandContext(ctx, shared.program, args...)
		cmd.Env = []string{"PATH=" + d.Bin + ":" + os.Getenv("PATH"), "HOME=" + file("home"), "TMPDIR=" + file("tmp")}
		return cmd
	}
}

// nerdctl runs nerdctl with args, at most for a minute, and tells how it ended.
func nerdctl(t *testing.T, args ...string) client.Result { t.Helper(); return program.Run(t, args...) }

// must runs nerdctl and fails the test unless it succeeds; it returns what it printed, without white space around it.
func must(t *testing.T, args ...string) string { t.Helper(); return program.Must(t, args...) }

// refused runs nerdctl, which must fail and say want.
func refused(t *testing.T, want string, args ...string) {
	t.Helper()
	program.Refused(t, want, args...)
}

// options are the flags of nerdctl run that choose the runtime and, unless flags has one, no network.
func options(flags []string) []string {
	all := []string{"--runtime", *runtimeFlag}
	if !strings.Contains(strings.Join(flags, " "), "--net ") && !strings.Contains(strings.Join(flags, " "), "--publish ") {
		all = append(all, "--net", "none")
	}
	return append(all, flags...)
}

// run runs a container in the foreground, with flags of nerdctl run.
func run(t *testing.T, flags []string, args ...string) client.Result {
	t.Helper()
	all := append([]string{"run", "--rm"}, options(flags)...)
	return nerdctl(t, append(append(all, testImage), args...)...)
}

// output runs a container that must succeed and returns what it printed, without white space around it.
func output(t *testing.T, flags []string, args ...string) string {
	t.Helper()
	r := run(t, flags, args...)
	if r.Code != 0 {
		t.Fatalf("nerdctl run %q %q: exit code %d\nstdout: %s\nstderr: %s", flags, args, r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

var containers atomic.Int64

// newName makes a name for a container and removes the container that has it at the end of the test.
func newName(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("c%d-%d", os.Getpid(), containers.Add(1))
	t.Cleanup(func() {
		if r := nerdctl(t, "rm", "--force", "--volumes", name); r.Code != 0 {
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

// onRunc skips the rest of the test on the runc shim, with what it does instead.
func onRunc(t *testing.T, why string) {
	t.Helper()
	if *runtimeFlag == runcRuntime {
		t.Skipf("%s: %s", runcRuntime, why)
	}
}
