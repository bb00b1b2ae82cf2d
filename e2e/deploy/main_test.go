// Package deploy tests what puts gosuda on a node: deploy/install.sh on the machine, and as the installer's image in a pod.
package deploy

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/e2e/alone"
	"github.com/gosuda/gosudacon/e2e/containerdtest"
	"github.com/gosuda/gosudacon/e2e/node"
)

var site *node.Site

func TestMain(m *testing.M) {
	containerdtest.Main()
	flag.Parse()
	exitOn(alone.Start(alone.Config{Empty: node.Empty}))
	var err error
	site, err = node.NewSite(context.Background())
	exitOn(err)
	code := m.Run()
	exitOn(site.Close())
	os.Exit(code)
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// machine is a node without gosuda, whose containerd is restarted as a service manager would.
type machine struct {
	t   *testing.T
	d   *containerdtest.Daemon
	dir string // of the installer's business, restart.sh among it
	*node.Manager
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	d, err := site.StartWithout()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, d: d, dir: filepath.Join(d.Dir, "installer")}
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if m.Manager, err = node.NewManager(d, m.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = site.Crictl(context.WithoutCancel(t.Context()), d, "rmp", "--all", "--force") // what a test that failed has left
		if err := errors.Join(m.Close(), node.Stop(d, t.Name())); err != nil {
			t.Error(err)
		}
	})
	return m
}

func (m *machine) file(name string) string { return filepath.Join(m.dir, name) }

// settings are those of install.sh for this machine.
func (m *machine) settings() []string {
	return []string{
		"PREFIX=" + m.file("usr"), "CONFIG=" + filepath.Join(m.d.Dir, "config.toml"), "STATE=" + m.d.State(),
		"CONTAINERD=" + filepath.Join(m.d.Bin, "containerd"), "RESTART=" + m.file("restart.sh"),
	}
}

func (m *machine) program() string { return m.file("usr/bin/containerd-shim-gosuda-v2") }

// install runs install.sh on the machine and returns what it said.
func (m *machine) install(verb string, settings ...string) (string, error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(string(site.Tree), "deploy", "install.sh"), verb)
	cmd.Env = append(append([]string{"PATH=" + os.Getenv("PATH")}, m.settings()...), settings...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must runs install.sh, which must succeed.
func (m *machine) must(verb string) {
	m.t.Helper()
	if out, err := m.install(verb); err != nil {
		m.t.Fatalf("install.sh %s: %v\n%s", verb, err, out)
	}
}

// config is the text of containerd's configuration.
func (m *machine) config() string {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(m.d.Dir, "config.toml"))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// pod runs a pod with the handler gosuda.
func (m *machine) pod(whileRuns func() error) error {
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Minute)
	defer cancel()
	return site.RunPod(ctx, m.d, "gosuda", whileRuns)
}

// clean fails the test when something of gosuda is on the machine, or the configuration is not as it was.
func (m *machine) clean(before string) {
	m.t.Helper()
	if got := m.config(); got != before {
		m.t.Errorf("the configuration is not as it was:\n%s", got)
	}
	for _, path := range []string{m.program(), m.file("usr/bin/gosudacon"), filepath.Join(m.d.Dir, "conf.d")} {
		if _, err := os.Lstat(path); err == nil {
			m.t.Errorf("left: %s", path)
		}
	}
	if err := m.pod(nil); err == nil || !strings.Contains(err.Error(), "no runtime for") {
		m.t.Errorf("a pod with a handler that is gone: %v", err)
	}
}
