// Package task tests a containerd runtime as its users meet it: through ctr and a real containerd.
//
// The runtime is gosuda's unless -runtime names another one; running the same tests on io.containerd.runc.v2 shows that a test asks for what
// containerd's users have, and where gosuda differs.
package task

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/e2e/client"
	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

const runcRuntime = "io.containerd.runc.v2"

var (
	runtimeFlag    = flag.String("runtime", "io.containerd.gosuda.v2", "containerd runtime to test")
	containerdFlag = flag.String("containerd", "containerd", "containerd to test with: containerd, containerd-1.6 or containerd-1.7")
	binFlag        = flag.String("bin", "", "directory of gosuda's shim (default: where make build leaves it)")
	runcFlag       = flag.String("runc", "runc", "what -runtime io.containerd.runc.v2 executes: runc, gosudacon, or the path of another")
	eventRuns      = flag.Int("events", 200, "containers whose events are put in order")
)

// suite is what all tests share.
type suite struct {
	tree    containerdtest.Tree
	dir     string // of the shared containerd
	scratch string // files of the tests and the image
	daemon  *containerdtest.Daemon
	rootfs  string // a root file system for configs of our own
}

var shared suite

func TestMain(m *testing.M) {
	containerdtest.Main()
	flag.Parse()
	os.Exit(withContainerd(m))
}

// withContainerd runs the tests around one containerd and fails when something of it is left.
func withContainerd(m *testing.M) int {
	var err error
	if shared.tree, err = containerdtest.FindTree(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if shared.scratch, err = os.MkdirTemp("", "gosuda-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(shared.scratch)
	shared.dir = filepath.Join(shared.scratch, "d")
	shared.rootfs = filepath.Join(shared.scratch, "rootfs")
	if err := errors.Join(os.Mkdir(shared.dir, 0o711), os.Mkdir(shared.rootfs, 0o755)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := containerdtest.WriteRootfs(shared.rootfs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := containerdtest.WriteImage(imageFile()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if shared.daemon, err = startDaemon(shared.dir, "", nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	left, err := shared.daemon.Close()
	if err != nil {
		fmt.Fprintln(os.Stderr, "stop containerd:", err)
		code = 1
	}
	for _, l := range left {
		fmt.Fprintln(os.Stderr, "left behind:", l)
		if *runtimeFlag != runcRuntime { // it leaves the sockets of groups
			code = 1
		}
	}
	if code != 0 {
		fmt.Fprintf(os.Stderr, "containerd's log ends with:\n%s", tail(shared.daemon.Log(), 30))
	}
	return code
}

func imageFile() string { return filepath.Join(shared.scratch, "image.tar") }

// startDaemon starts a containerd in dir with the image imported. suffix makes the namespace different from the shared one's.
func startDaemon(dir, suffix string, change func(*containerdtest.Config)) (*containerdtest.Daemon, error) {
	bin, err := shared.tree.Peer(*containerdFlag)
	if err != nil {
		return nil, err
	}
	c := containerdtest.Config{
		Bin:       bin,
		Path:      []string{cmp.Or(*binFlag, shared.tree.Bin()), bin},
		Dir:       dir,
		Namespace: fmt.Sprintf("gosuda-e2e-%d%s", os.Getpid(), suffix),
	}
	if runc, err := shared.tree.Peer("runc"); err == nil {
		c.Path = append(c.Path, runc)
	}
	if *runcFlag != "runc" {
		if c.RuncBinary, err = shared.tree.Runtime(*runcFlag); err != nil {
			return nil, err
		}
	}
	if *containerdFlag != "containerd" {
		c.ConfigVersion = 2
	}
	if change != nil {
		change(&c)
	}
	d, err := containerdtest.Start(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.Import(ctx, imageFile()); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// ownDaemon starts a containerd for one test, which restarts it or needs it set up differently.
func ownDaemon(t *testing.T, change func(*containerdtest.Config)) *containerdtest.Daemon {
	t.Helper()
	dir, err := os.MkdirTemp(shared.scratch, "")
	if err != nil {
		t.Fatal(err)
	}
	d, err := startDaemon(dir, filepath.Base(dir), change)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, err := d.Close()
		if err != nil {
			t.Errorf("stop containerd: %v", err)
		}
		for _, l := range left {
			t.Errorf("left behind: %s", l)
		}
		if t.Failed() {
			t.Logf("containerd's log ends with:\n%s", tail(d.Log(), 30))
		}
	})
	return d
}

// result is how a ctr command ended.
type result struct {
	stdout, stderr string
	code           int
}

// ctr runs ctr of d with args, at most for a minute, and tells how it ended.
func ctr(t *testing.T, d *containerdtest.Daemon, args ...string) result {
	t.Helper()
	return ctrIO(t, d, nil, nil, args...)
}

// ctrIO is ctr with something on its standard input, and with its standard output going to out unless that is nil.
func ctrIO(t *testing.T, d *containerdtest.Daemon, in io.Reader, out io.Writer, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := d.Ctr(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &stdout, &stderr
	if out != nil {
		cmd.Stdout = out
	}
	began := time.Now()
	err := cmd.Run()
	client.Note(t, "ctr", time.Since(began), args)
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatalf("ctr %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	if ctx.Err() != nil {
		t.Fatalf("ctr %s: not done in a minute\n%s%s", strings.Join(args, " "), &stdout, &stderr)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must runs ctr and fails the test unless it succeeds; it returns what it printed.
func must(t *testing.T, d *containerdtest.Daemon, args ...string) string {
	t.Helper()
	r := ctr(t, d, args...)
	if r.code != 0 {
		t.Fatalf("ctr %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

var containers atomic.Int64

// newID makes a container id that no other test has and checks, at the end of the test, that nothing of the container is left.
func newID(t *testing.T, d *containerdtest.Daemon) string {
	t.Helper()
	id := fmt.Sprintf("c%d", containers.Add(1))
	t.Cleanup(func() {
		for _, l := range d.OfContainer(id) {
			t.Errorf("left behind: %s", l)
		}
	})
	return id
}

// run runs a container of the shared containerd in the foreground, with flags of ctr run.
func run(t *testing.T, flags []string, args ...string) result {
	t.Helper()
	needsFlags(t, flags)
	d := shared.daemon
	all := append([]string{"run", "--rm", "--runtime", *runtimeFlag}, flags...)
	all = append(all, containerdtest.Image, newID(t, d))
	return ctr(t, d, append(all, args...)...)
}

// needsFlags skips the test when ctr, being older, does not have a flag of ctr run.
func needsFlags(t *testing.T, flags []string) {
	t.Helper()
	help := ctrRunHelp()
	for _, f := range flags {
		if name, ok := strings.CutPrefix(f, "--"); ok && !strings.Contains(help, "--"+name+" ") && !strings.Contains(help, "--"+name+",") {
			t.Skipf("ctr of %s has no flag %s", *containerdFlag, f)
		}
	}
}

// ctrRunHelp returns what ctr run says about its flags.
var ctrRunHelp = sync.OnceValue(func() string {
	out, _ := shared.daemon.Ctr(context.Background(), "run", "--help").CombinedOutput()
	return string(out) + " "
})

// output runs a container that must succeed and returns what it printed, without white space around it.
func output(t *testing.T, flags []string, args ...string) string {
	t.Helper()
	r := run(t, flags, args...)
	if r.code != 0 {
		t.Fatalf("ctr run %q %q: exit code %d\nstdout: %s\nstderr: %s", flags, args, r.code, r.stdout, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// detached starts a container in the background and ends and removes it when the test is over. It returns its id.
func detached(t *testing.T, d *containerdtest.Daemon, flags []string, args ...string) string {
	t.Helper()
	needsFlags(t, flags)
	id := newID(t, d)
	fifos := filepath.Join(d.Dir, "fifo")
	all := append([]string{"run", "--detach", "--fifo-dir", fifos, "--runtime", *runtimeFlag}, flags...)
	all = append(all, containerdtest.Image, id)
	must(t, d, append(all, args...)...)
	t.Cleanup(func() { remove(t, d, id) })
	return id
}

// remove ends and removes a container, as far as it is there.
func remove(t *testing.T, d *containerdtest.Daemon, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // t's context has ended in a cleanup
	defer cancel()
	_ = d.Ctr(ctx, "task", "delete", "--force", id).Run()
	if out, err := d.Ctr(ctx, "container", "delete", id).CombinedOutput(); err != nil && !strings.Contains(string(out), "not found") {
		t.Errorf("remove %s: %v: %s", id, err, out)
	}
}

// pidOf returns the process id of a container's init.
func pidOf(t *testing.T, d *containerdtest.Daemon, id string) string {
	t.Helper()
	for line := range strings.Lines(must(t, d, "task", "ls")) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == id {
			return f[1]
		}
	}
	t.Fatalf("task ls does not list %s", id)
	return ""
}

// statusOf returns a task's status as ctr task ls shows it, "" when there is no task.
func statusOf(t *testing.T, d *containerdtest.Daemon, id string) string {
	t.Helper()
	for line := range strings.Lines(must(t, d, "task", "ls")) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == id {
			return f[2]
		}
	}
	return ""
}

// inParallel calls f n times, at most width at once.
func inParallel(n, width int, f func(i int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, width)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	wg.Wait()
}

// hasMetrics tells whether the shim finds the cgroups of its tasks: runc's does not on a hybrid host.
func hasMetrics() bool {
	_, err := os.Stat("/sys/fs/cgroup/unified")
	return *runtimeFlag != runcRuntime || err != nil
}

// onRunc tells, on the runc shim, that the rest of the test asks for more than it does, and skips it.
func onRunc(t *testing.T, why string) {
	t.Helper()
	if *runtimeFlag == runcRuntime {
		t.Skipf("%s: %s", runcRuntime, why)
	}
}

func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "")
}

// contains fails the test unless text has all the parts.
func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s lacks %q:\n%s", what, p, text)
		}
	}
}

// equal fails the test unless got is want.
func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
