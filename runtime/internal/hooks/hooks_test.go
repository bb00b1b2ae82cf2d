package hooks_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

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
