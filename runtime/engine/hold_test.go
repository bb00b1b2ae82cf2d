package engine_test

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// hold makes a container as `run` does, that the test's end removes.
func hold(t *testing.T, root string, spec *specs.Spec, r engine.CreateRequest) (*engine.Detached, error) {
	t.Helper()
	spec.Linux.CgroupsPath = "/" + newID()
	r.ID, r.Hold = newID(), true
	if r.Bundle == "" {
		r.Bundle = testkit.Bundle(t, spec)
	}
	d, err := engineAt(t, root).CreateDetached(timeout(t), r)
	if err == nil {
		t.Cleanup(func() { d.Delete(timeout(t), true) })
	}
	return d, err
}

// TestHold: a container that its maker starts next does not wait for that, but for what its maker does when it exists.
func TestHold(t *testing.T) {
	testkit.NoLeaks(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := bufio.NewReader(r)
	var early atomic.Bool
	d, err := hold(t, filepath.Join(t.TempDir(), "state"), testkit.Spec("sh", "-c", "echo started; exec sleep 1000"), engine.CreateRequest{
		Stdio: engine.Stdio{Out: w}, Forked: func() {
			if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}, 100); n > 0 {
				early.Store(true)
			}
		}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if line, err := out.ReadString('\n'); line != "started\n" {
		t.Errorf("before Start: %q, %v", line, err)
	}
	if early.Load() {
		t.Error("the process ran before Forked had returned")
	}
	if err := d.Start(timeout(t)); err != nil {
		t.Errorf("start: %v", err)
	}
	expect(t, d, engine.StatusRunning)
	if err := d.Delete(timeout(t), true); err != nil {
		t.Errorf("delete: %v", err)
	}
}

// TestHoldTells: what comes of the execution is for Start to tell.
func TestHoldTells(t *testing.T) {
	testkit.NoLeaks(t)
	spec := testkit.Spec("/bad")
	bundle := testkit.Bundle(t, spec)
	if err := os.WriteFile(filepath.Join(bundle, spec.Root.Path, "bad"), []byte("\x7fELF"), 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := hold(t, filepath.Join(t.TempDir(), "state"), spec, engine.CreateRequest{Bundle: bundle})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(timeout(t)); !errors.Is(err, unix.ENOEXEC) && (err == nil || !strings.Contains(err.Error(), "exec format error")) {
		t.Errorf("start: %v", err)
	}
}

// TestHoldWaits: with something to be done before, it waits, stopped.
func TestHoldWaits(t *testing.T) {
	testkit.NoLeaks(t)
	spec := testkit.Spec("sleep", "1000")
	spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/true", Args: []string{"true"}}}}
	d, err := hold(t, filepath.Join(t.TempDir(), "state"), spec, engine.CreateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if s := statOf(t, d.Pid()); s != "T" {
		t.Errorf("init is %q before start, want T (stopped)", s)
	}
	expect(t, d, engine.StatusCreated)
	if err := d.Start(timeout(t)); err != nil {
		t.Errorf("start: %v", err)
	}
}

// TestNamesake: who has made a container does not touch the next one of that name.
func TestNamesake(t *testing.T) {
	testkit.NoLeaks(t)
	root := filepath.Join(t.TempDir(), "state")
	old, err := hold(t, root, testkit.Spec("sleep", "1000"), engine.CreateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Start(timeout(t)); err != nil {
		t.Fatal(err)
	}
	if err := engineAt(t, root).DeleteDetached(timeout(t), old.ID(), true); err != nil {
		t.Fatal(err)
	}
	spec := testkit.Spec("sleep", "1000")
	spec.Linux.CgroupsPath = "/" + newID()
	e := engineAt(t, root)
	namesake, err := e.CreateDetached(timeout(t), engine.CreateRequest{ID: old.ID(), Bundle: testkit.Bundle(t, spec)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		e.DeleteDetached(timeout(t), old.ID(), true)
		namesake.Wait()
	}()
	var gone *engine.Error
	if err := old.Delete(timeout(t), true); !errors.As(err, &gone) || gone.Kind != engine.NotFound {
		t.Errorf("delete of the one that is gone: %v", err)
	}
	old.Wait()
	expect(t, namesake, engine.StatusCreated)
}
