// Package buildkit tests a runtime's command line under BuildKit, whose OCI worker executes every RUN with it.
//
// The runtime is gosudacon unless -runtime names another one.
package buildkit

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/alone"
	"github.com/gosuda/gosudacon/e2e/client"
	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

var runtimeFlag = flag.String("runtime", "gosudacon", "runtime to test: gosudacon, runc, or the path of another")

// cgroupParent is where the containers' cgroups are, so that the tests find those that are left.
const cgroupParent = "gosuda-buildkit"

// configuration is BuildKit's.
const configuration = `[worker.containerd]
enabled = false
[worker.oci]
enabled = true
networkMode = "host"
defaultCgroupParent = "/` + cgroupParent + `"
`

// shared is what all tests use.
var shared struct {
	dir     string // of everything that is made
	bin     string // of BuildKit's programs
	runtime string // path of the runtime
}

func TestMain(m *testing.M) {
	flag.Parse()
	if err := alone.Start(alone.Config{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code, err := withBuildKit(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// withBuildKit runs the tests around one daemon and fails when something of it is left.
func withBuildKit(m *testing.M) (code int, err error) {
	tree, err := containerdtest.FindTree()
	if err != nil {
		return 1, err
	}
	if shared.bin, err = tree.Peer("buildkit"); err != nil {
		return 1, err
	}
	if shared.runtime, err = tree.Runtime(*runtimeFlag); err != nil {
		return 1, err
	}
	if shared.dir, err = os.MkdirTemp("", "gosuda-bk-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(shared.dir)
	if err := errors.Join(containerdtest.WriteImage(file("image.tar")), os.WriteFile(file("config"), []byte(configuration), 0o600)); err != nil {
		return 1, err
	}
	stop, err := start()
	if err != nil {
		return 1, err
	}
	code = m.Run()
	if err := stop(); err != nil {
		return 1, fmt.Errorf("stop buildkitd: %w", err)
	}
	for _, left := range leftovers() {
		fmt.Fprintln(os.Stderr, "left behind:", left)
		code = 1
	}
	if code != 0 {
		log, _ := os.ReadFile(file("log"))
		lines := strings.SplitAfter(string(log), "\n")
		fmt.Fprintf(os.Stderr, "buildkitd's log ends with:\n%s", strings.Join(lines[max(0, len(lines)-30):], ""))
	}
	return code, nil
}

func file(name string) string { return filepath.Join(shared.dir, name) }

// start starts the daemon and returns when it answers.
func start() (stop func() error, err error) {
	log, err := os.Create(file("log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(shared.bin, "buildkitd"), "--config", file("config"), "--root", file("root"), "--addr", "unix://"+file("s"),
		"--oci-worker-binary", shared.runtime)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() error {
		late := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
			return err
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 { // its answer to a signal
			return err
		}
		return nil
	}
	for end := time.Now().Add(time.Minute); command(context.Background(), "debug", "workers").Run() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			text, _ := os.ReadFile(file("log"))
			return nil, errors.Join(fmt.Errorf("buildkitd does not answer within a minute:\n%s", text), stop())
		}
	}
	return stop, nil
}

// program is BuildKit's client.
var program = client.Client{Name: "buildctl", Command: command}

func command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, filepath.Join(shared.bin, "buildctl"), append([]string{"--addr", "unix://" + file("s")}, args...)...)
}

// leftovers lists what builds left. Processes are for package alone to find.
func leftovers() (left []string) {
	found, _ := filepath.Glob(file("root/runc-*/executor/*")) // bundles, and containers' state
	for _, path := range found {
		if name := filepath.Base(path); name != "resolv.conf" && !strings.HasPrefix(name, "hosts") && name != "runc-log.json" {
			left = append(left, path)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		left = append(left, err.Error())
	}
	for mount := range strings.Lines(string(mounts)) {
		if point := strings.Fields(mount)[4]; strings.HasPrefix(point, shared.dir+"/") {
			left = append(left, "mount "+point)
		}
	}
	return append(left, cgroups()...)
}

// cgroups lists those of containers, in every hierarchy, and removes them all. Parents stay for the next container.
func cgroups() (left []string) {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*/" + cgroupParent)
	for _, root := range append(roots, "/sys/fs/cgroup/"+cgroupParent) {
		var dirs []string
		_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		slices.Reverse(dirs) // children first
		for _, dir := range dirs {
			if dir != root && dir != filepath.Join(root, "buildkit") {
				left = append(left, "cgroup "+dir)
			}
			_ = os.Remove(dir)
		}
	}
	return left
}
