package task

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// The ways in which people put the shim into a containerd.

const shimName = "containerd-shim-gosuda-v2"

// ownShim returns the path of gosuda's shim, and skips where another runtime is tested.
func ownShim(t *testing.T) string {
	t.Helper()
	onRunc(t, "it is not gosuda")
	return filepath.Join(cmp.Or(*binFlag, shared.tree.Bin()), shimName)
}

func TestRuntimeByPath(t *testing.T) {
	path := ownShim(t)
	r := ctr(t, shared.daemon, "run", "--rm", "--runtime", path, testImage, newID(t, shared.daemon), "echo", "by path")
	equal(t, "output", r.stdout+r.stderr, "by path\n")
}

// TestInPlaceOfRunc installs the shim under the name of runc's, with runc's options.
func TestInPlaceOfRunc(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(ownShim(t), filepath.Join(dir, "containerd-shim-runc-v2")); err != nil {
		t.Fatal(err)
	}
	d := ownDaemon(t, func(c *containerdtest.Config) { c.Path = append([]string{dir}, c.Path...) })
	root := filepath.Join(d.Dir, "runc-root")
	id := newID(t, d)
	must(t, d, "run", "--detach", "--fifo-dir", filepath.Join(d.Dir, "fifo"), "--runtime", runcRuntime, "--runc-root", root, testImage, id, "sleep", "1000")
	t.Cleanup(func() { remove(t, d, id) })
	if state := filepath.Join(root, d.Namespace, id); !exists(state) {
		t.Errorf("no state in %s", state)
	}
	equal(t, "output of an exec", must(t, d, "task", "exec", "--exec-id", "e", id, "echo", "in place"), "in place\n")
}

// TestTrace: the option that the demonstration uses.
func TestTrace(t *testing.T) {
	ownShim(t)
	dir := t.TempDir()
	trace, config := filepath.Join(dir, "trace"), filepath.Join(dir, "gosuda.toml")
	if err := os.WriteFile(config, []byte("Trace = \""+trace+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	output(t, []string{"--runtime-config-path", config}, "true")
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, "trace", string(text), "mount proc on /proc", "pivot", " µs")
}

func TestBadOptionIsNamed(t *testing.T) {
	ownShim(t)
	config := filepath.Join(t.TempDir(), "gosuda.toml")
	if err := os.WriteFile(config, []byte("Tracee = \"/x\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, run(t, []string{"--runtime-config-path", config}, "true"), "Tracee")
}

// TestExampleConfig: the example must be a configuration that containerd takes as it is.
func TestExampleConfig(t *testing.T) {
	if *containerdFlag != "containerd" {
		t.Skip("the example is for containerd 2")
	}
	bin, err := shared.tree.Peer("containerd")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(bin, "containerd"), "--config", filepath.Join(string(shared.tree), "config.toml.example"), "config", "dump").CombinedOutput()
	if err != nil {
		t.Fatalf("config dump: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), `runtime_type = 'io.containerd.gosuda.v2'`) {
		t.Errorf("no runtime gosuda in\n%s", out)
	}
}
