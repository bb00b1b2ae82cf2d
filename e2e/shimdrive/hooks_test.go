package shimdrive

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestNothingWaitsForAHook: while a hook holds up a start, everything else is answered within the two seconds that containerd gives to it.
func TestNothingWaitsForAHook(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "sleep", "1000")
	dir := filepath.Dir(s.rootfs)
	spec.Hooks = &specs.Hooks{Poststart: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "touch " + dir + "/begun; until [ -e " + dir + "/go ]; do sleep 0.02; done"}}}}
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	mustCreate(t, shim, b)
	started := make(chan error, 1)
	go func() { started <- startInit(context.Background(), shim, b) }()
	deadline := time.Now().Add(20 * time.Second)
	for _, err := os.Stat(dir + "/begun"); err != nil; _, err = os.Stat(dir + "/begun") {
		if time.Now().After(deadline) {
			t.Fatal("the hook does not begin")
		}
		time.Sleep(5 * time.Millisecond)
	}
	for name, ask := range map[string]func(context.Context) error{
		"state": func(ctx context.Context) error {
			_, err := shim.Task.State(ctx, &taskapi.StateRequest{ID: id})
			return err
		},
		"pids": func(ctx context.Context) error {
			_, err := shim.Task.Pids(ctx, &taskapi.PidsRequest{ID: id})
			return err
		},
		"stats": func(ctx context.Context) error {
			_, err := shim.Task.Stats(ctx, &taskapi.StatsRequest{ID: id})
			return err
		},
		"connect": func(ctx context.Context) error {
			_, err := shim.Task.Connect(ctx, &taskapi.ConnectRequest{ID: id})
			return err
		},
		"kill": func(ctx context.Context) error {
			_, err := shim.Task.Kill(ctx, &taskapi.KillRequest{ID: id, Signal: uint32(unix.SIGCONT)})
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if err := ask(ctx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
	select {
	case err := <-started:
		t.Errorf("start has not waited for its hook: %v", err)
	default:
		if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := <-started; err != nil {
			t.Errorf("start: %v", err)
		}
	}
}
