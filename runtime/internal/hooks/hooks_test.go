package hooks_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/hooks"
)

func start(cmd *exec.Cmd) (func() error, error) { return cmd.Wait, cmd.Start() }

var here = hooks.Here("/no/such/bundle", start)

func sh(script string, env ...string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: env}
}

func TestRun(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	t.Setenv("TTRPC_ADDRESS", "secret")
	nilEnv := sh("env | grep -c TTRPC >> " + out + "; test -n \"$PATH\" && echo path >> " + out)
	nilEnv.Env = nil
	err := hooks.Run(context.Background(), "poststop", []specs.Hook{
		sh("cat >> "+out, "PATH=/bin:/usr/bin"), sh("echo $A >> "+out, "A=b"), nilEnv,
	}, specs.State{ID: "x", Status: specs.StateStopped}, here)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(out)
	if !strings.Contains(string(got), `"id":"x","status":"stopped"`) || !strings.HasSuffix(string(got), "b\n0\npath\n") {
		t.Errorf("%s", got)
	}
}

func TestFailure(t *testing.T) {
	one := 1
	slow := sh("exec sleep 100", "PATH=/bin:/usr/bin")
	slow.Timeout = &one
	for want, h := range map[string]specs.Hook{
		"hooks.createRuntime[1] /bin/sh: exit status 2: why": sh("echo why; exit 2"),
		"timed out": slow,
		"hooks.createRuntime[1] /no/such: fork/exec /no/such": {Path: "/no/such"},
	} {
		err := hooks.Run(context.Background(), "createRuntime", []specs.Hook{sh("true"), h, sh("touch /never")}, specs.State{}, here)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := os.Stat("/never"); !errors.Is(err, os.ErrNotExist) {
		os.Remove("/never")
		t.Error("a hook ran after one that failed")
	}
}

// TestRunAll runs the hooks after one that failed, too.
func TestRunAll(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	err := hooks.RunAll(context.Background(), "poststop", []specs.Hook{sh("exit 1"), sh("echo a >> " + out), sh("exit 2"), sh("echo b >> " + out)}, specs.State{}, here)
	if err == nil || err.Error() != "hooks.poststop[0] /bin/sh: exit status 1\nhooks.poststop[2] /bin/sh: exit status 2" {
		t.Errorf("%v", err)
	}
	if b, _ := os.ReadFile(out); string(b) != "a\nb\n" {
		t.Errorf("%q", b)
	}
}

// TestOrphan: a hook that leaves a process behind with its streams open is over when it is over itself.
func TestOrphan(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	if err := hooks.Run(context.Background(), "poststart", []specs.Hook{sh("sleep 1000 & echo $! > " + file)}, specs.State{}, here); err != nil {
		t.Error(err)
	}
	b, _ := os.ReadFile(file)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Errorf("the process that was left behind: %v", err)
	}
}

// TestHere: a hook starts in the bundle, without what was said to the runtime alone; one with an environment has that.
func TestHere(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GOMAXPROCS", "1")
	t.Setenv("HOOK_TEST", "inherited")
	empty := sh("echo $PWD $HOOK_TEST $GOMAXPROCS > env; exit 3")
	err := hooks.Run(context.Background(), "poststart", []specs.Hook{empty}, specs.State{}, hooks.Here(dir, start))
	if b, _ := os.ReadFile(dir + "/env"); err == nil || string(b) != dir+" inherited\n" {
		t.Errorf("%v: %q", err, b)
	}
	own := sh("echo $PWD $HOOK_TEST > env")
	own.Env = []string{}
	err = hooks.Run(context.Background(), "poststart", []specs.Hook{own}, specs.State{}, hooks.Here(dir, start))
	if b, _ := os.ReadFile(dir + "/env"); err != nil || string(b) != dir+"\n" {
		t.Errorf("%v: %q", err, b)
	}
}
