package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// peer is the column that gosuda is compared with.
const peer = "runc"

// suite is a package of tests whose flags choose the runtime.
type suite struct {
	pkg     string
	skip    string // tests that are themselves a comparison
	columns []column
}

type column struct {
	name  string
	flags []string // of the package's tests
}

// ofContainerd are the columns of tests that use a runtime of containerd's.
var ofContainerd = []column{{peer, []string{"-runtime", "io.containerd.runc.v2"}}, {"gosuda", nil}}

var suites = map[string]suite{
	"ctr":     {pkg: "./task", columns: ofContainerd},
	"nerdctl": {pkg: "./nerdctl", skip: "TestSameAsRunc", columns: ofContainerd},
	"restart": {pkg: "./restart", columns: ofContainerd},
	"docker": {pkg: "./docker", columns: []column{
		{peer, []string{"-runtime", "runc"}}, {"gosuda", nil}, {"gosudacon", []string{"-runtime", "gosudacon"}}}},
	"podman-4.3": {pkg: "./podman", columns: ofPodman("podman-4.3")},
	"podman-5.8": {pkg: "./podman", columns: ofPodman("podman-5.8")},
}

func ofPodman(root string) []column {
	return []column{{peer, []string{"-root", root, "-runtime", "runc"}}, {"gosudacon", []string{"-root", root}}}
}

// test runs the suite with the runtime of a column. Tests that fail are part of the outcome, not an error.
func (s suite) test(ctx context.Context, c column, parallel int, only string) (*outcome, error) {
	args := []string{"test", "-json", "-count=1", "-timeout=30m", fmt.Sprintf("-parallel=%d", parallel)}
	if s.skip != "" {
		args = append(args, "-skip="+s.skip)
	}
	if only != "" {
		args = append(args, "-run="+only)
	}
	cmd := exec.CommandContext(ctx, "go", append(append(args, s.pkg, "-args"), c.flags...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	o, err := read(out, c.name)
	if ended := cmd.Wait(); ended != nil && err == nil && o.count("fail") == 0 {
		err = fmt.Errorf("%w: %s", ended, o.rest.String())
	}
	return o, err
}
