package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// engineAt returns an engine of the given root, as another process would have one.
func engineAt(t testing.TB, root string) *engine.Engine {
	t.Helper()
	e, err := engine.New(engine.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// detach makes a detached container that the test's end removes.
func detach(t testing.TB, root string, spec *specs.Spec, io engine.Stdio) *engine.Detached {
	t.Helper()
	e := engineAt(t, root)
	spec.Linux.CgroupsPath = "/" + newID()
	d, err := e.CreateDetached(timeout(t), engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec), Stdio: io})
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	t.Cleanup(func() {
		ctx := timeout(t)
		d.Kill(ctx, unix.SIGKILL, true)
		d.Wait()
		engineAt(t, root).DeleteDetached(ctx, d.ID(), true)
	})
	return d
}

// reopen opens a container by its id alone.
func reopen(t testing.TB, root, id string) *engine.Detached {
	t.Helper()
	d, err := engineAt(t, root).Open(id)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return d
}

func expect(t testing.TB, d *engine.Detached, want engine.Status) {
	t.Helper()
	s, err := d.Snapshot()
	if err != nil || s.Status != want || (s.Pid == 0) != (want == engine.StatusStopped) {
		t.Fatalf("%+v, %v; want %s", s, err, want)
	}
}

// TestDetached leads a container through its life, each step by somebody who knows nothing but the root and the id.
func TestDetached(t *testing.T) {
	testkit.NoLeaks(t)
	root := filepath.Join(t.TempDir(), "state")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	made := detach(t, root, testkit.Spec("sh", "-c", "echo started; exec sleep 1000"), engine.Stdio{Out: w})
	w.Close()
	id, ctx := made.ID(), timeout(t)
	if s := statOf(t, made.Pid()); s != "T" {
		t.Errorf("init is %q before start, want T (stopped)", s)
	}
	expect(t, reopen(t, root, id), engine.StatusCreated)

	if err := unix.Kill(made.Pid(), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := r.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("SIGCONT let init write %d bytes (%v)", n, err)
	}
	r.SetReadDeadline(time.Time{})
	expect(t, reopen(t, root, id), engine.StatusCreated)

	if err := reopen(t, root, id).Start(ctx); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if n, err := r.Read(buf); string(buf[:n]) != "started\n" {
		t.Errorf("output %q, %v", buf[:n], err)
	}
	expect(t, reopen(t, root, id), engine.StatusRunning)
	if err := reopen(t, root, id).Start(ctx); err == nil || err.Error() != "cannot start an already running container" {
		t.Errorf("second start: %v", err)
	}
	if err := engineAt(t, root).DeleteDetached(ctx, id, false); err == nil ||
		err.Error() != "cannot delete container "+id+" that is not stopped: running" {
		t.Errorf("delete of a running container: %v", err)
	}

	if err := reopen(t, root, id).Pause(ctx); err != nil {
		t.Fatal(err)
	}
	expect(t, reopen(t, root, id), engine.StatusPaused)
	if err := reopen(t, root, id).Resume(ctx); err != nil {
		t.Fatal(err)
	}
	expect(t, reopen(t, root, id), engine.StatusRunning)
	if err := reopen(t, root, id).Resume(ctx); err == nil || err.Error() != "container not paused" {
		t.Errorf("second resume: %v", err)
	}

	if err := reopen(t, root, id).Kill(ctx, unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	if exit, err := made.Wait(); err != nil || exit.Status != 137 {
		t.Errorf("wait: %+v, %v", exit, err)
	}
	expect(t, reopen(t, root, id), engine.StatusStopped)
	if err := reopen(t, root, id).Kill(ctx, unix.SIGKILL, false); err == nil || err.Error() != "container not running" {
		t.Errorf("kill of a stopped container: %v", err)
	}
	if err := reopen(t, root, id).Start(ctx); err == nil || err.Error() != "cannot start a container that has stopped" {
		t.Errorf("start of a stopped container: %v", err)
	}
	if err := engineAt(t, root).DeleteDetached(ctx, id, false); err != nil {
		t.Fatal(err)
	}
	if _, err := engineAt(t, root).Open(id); kindOf(err) != engine.NotFound || err.Error() != "container does not exist" {
		t.Errorf("open after delete: %v", err)
	}
	if err := engineAt(t, root).DeleteDetached(ctx, id, true); kindOf(err) != engine.NotFound {
		t.Errorf("second delete: %v", err)
	}
}

// TestDetachedPaused: SIGKILL reaches a frozen init, also on cgroup v1.
func TestDetachedPaused(t *testing.T) {
	testkit.NoLeaks(t)
	root := filepath.Join(t.TempDir(), "state")
	d := detach(t, root, testkit.Spec("sleep", "1000"), engine.Stdio{})
	ctx := timeout(t)
	if err := errors.Join(d.Start(ctx), d.Pause(ctx), reopen(t, root, d.ID()).Kill(ctx, unix.SIGKILL, false)); err != nil {
		t.Fatal(err)
	}
	if exit, err := d.Wait(); err != nil || exit.Status != 137 {
		t.Errorf("wait: %+v, %v", exit, err)
	}
}

// TestDetachedExecveFails: whoever starts gets the error of execve, though it did not make the container; also when the
// config is gone by then.
func TestDetachedExecveFails(t *testing.T) {
	for name, tc := range map[string]struct {
		removed bool
		want    string
	}{"with config": {false, `exec: "/bin/broken": exec format error`}, "without": {true, "exec format error"}} {
		t.Run(name, func(t *testing.T) {
			testkit.NoLeaks(t)
			root := filepath.Join(t.TempDir(), "state")
			spec := testkit.Spec("/bin/broken")
			spec.Linux.CgroupsPath = "/" + newID()
			dir := testkit.Bundle(t, spec)
			if err := os.WriteFile(filepath.Join(dir, "rootfs/bin/broken"), []byte("no program"), 0o755); err != nil {
				t.Fatal(err)
			}
			ctx := timeout(t)
			d, err := engineAt(t, root).CreateDetached(ctx, engine.CreateRequest{ID: newID(), Bundle: dir})
			if err != nil {
				t.Fatal(err)
			}
			if tc.removed {
				os.Remove(filepath.Join(dir, "config.json"))
			}
			if err := reopen(t, root, d.ID()).Start(ctx); !errors.Is(err, unix.ENOEXEC) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("start: %v, want %q", err, tc.want)
			}
			d.Wait()
			expect(t, reopen(t, root, d.ID()), engine.StatusStopped)
			if err := engineAt(t, root).DeleteDetached(ctx, d.ID(), false); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDetachedStepsFail makes each step of a plan fail in turn: nothing is left.
func TestDetachedStepsFail(t *testing.T) {
	testkit.NoLeaks(t)
	root := filepath.Join(t.TempDir(), "state")
	spec := testkit.Spec("sleep", "1000")
	dir := testkit.Bundle(t, spec)
	e := engineAt(t, root)
	for step := 1; ; step++ {
		spec.Linux.CgroupsPath = "/" + newID()
		testkit.WriteConfig(t, dir, spec)
		ctx := timeout(t)
		d, err := e.CreateDetached(ctx, engine.CreateRequest{ID: newID(), Bundle: dir, FailStep: step})
		if err == nil {
			err = d.Start(ctx)
			if e := d.Delete(ctx, true); e != nil {
				t.Errorf("step %d: delete: %v", step, e)
			}
			if err == nil {
				return
			}
		} else if left, _ := os.ReadDir(root); len(left) > 0 {
			t.Errorf("step %d left a record: %v", step, left)
		}
		if !errors.Is(err, unix.EIO) {
			t.Errorf("step %d: %v, want EIO", step, err)
		}
	}
}

// TestDetachedHooks: startContainer and poststart have run when start returns, poststop when delete does, each once; also when
// the config is gone by then.
func TestDetachedHooks(t *testing.T) {
	testkit.NoLeaks(t)
	root := filepath.Join(t.TempDir(), "state")
	spec := testkit.Spec("sleep", "1000")
	dir := shared(t, spec)
	hook := func(name, out string) []specs.Hook {
		return []specs.Hook{script("echo " + name + " $(grep -o '\"status\":\"[a-z]*\"') >> " + out + "/log")}
	}
	spec.Hooks = &specs.Hooks{StartContainer: hook("startContainer", "/out"), Poststart: hook("poststart", dir), Poststop: hook("poststop", dir)}
	d := detach(t, root, spec, engine.Stdio{})
	s, err := d.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.Bundle, "config.json")); err != nil {
		t.Fatal(err)
	}
	ctx := timeout(t)
	if err := reopen(t, root, d.ID()).Start(ctx); err != nil {
		t.Fatal(err)
	}
	const started = "startContainer \"status\":\"created\"\npoststart \"status\":\"running\"\n"
	if b, _ := os.ReadFile(dir + "/log"); string(b) != started {
		t.Errorf("after start: %q", b)
	}
	go d.Wait()
	if err := engineAt(t, root).DeleteDetached(ctx, d.ID(), true); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(dir + "/log"); string(b) != started+"poststop \"status\":\"stopped\"\n" {
		t.Errorf("after delete: %q", b)
	}
}

// TestDetachedHookFails: a hook's failure at start ends the container.
func TestDetachedHookFails(t *testing.T) {
	for point, hooks := range map[string]*specs.Hooks{
		"startContainer": {StartContainer: []specs.Hook{script("exit 3")}}, "poststart": {Poststart: []specs.Hook{script("exit 3")}},
	} {
		t.Run(point, func(t *testing.T) {
			testkit.NoLeaks(t)
			root := filepath.Join(t.TempDir(), "state")
			spec := testkit.Spec("sleep", "1000")
			spec.Hooks = hooks
			d := detach(t, root, spec, engine.Stdio{})
			if err := reopen(t, root, d.ID()).Start(timeout(t)); err == nil || err.Error() != "hooks."+point+"[0] /bin/sh: exit status 3" {
				t.Errorf("start: %v", err)
			}
			if exit, err := d.Wait(); err != nil || exit.Status != 137 {
				t.Errorf("wait: %+v, %v", exit, err)
			}
			expect(t, reopen(t, root, d.ID()), engine.StatusStopped)
		})
	}
}

// TestDetachedRace lets many start one container and many delete it: one of each succeeds, and the others say why not.
func TestDetachedRace(t *testing.T) {
	testkit.NoLeaks(t)
	root := filepath.Join(t.TempDir(), "state")
	d := detach(t, root, testkit.Spec("sleep", "1000"), engine.Stdio{})
	ctx := timeout(t)
	race := func(f func(*engine.Engine) error) (won int, lost []string) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for range 8 {
			e := engineAt(t, root)
			wg.Go(func() {
				err := f(e)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else {
					lost = append(lost, err.Error())
				}
			})
		}
		wg.Wait()
		return won, lost
	}
	won, lost := race(func(e *engine.Engine) error {
		d, err := e.Open(d.ID())
		if err != nil {
			return err
		}
		return d.Start(ctx)
	})
	if won != 1 || strings.Count(strings.Join(lost, ""), "cannot start an already running container") != 7 {
		t.Errorf("start: %d won, the others: %q", won, lost)
	}
	go d.Wait()
	won, lost = race(func(e *engine.Engine) error { return e.DeleteDetached(ctx, d.ID(), true) })
	if won != 1 || strings.Count(strings.Join(lost, ""), "container does not exist") != 7 {
		t.Errorf("delete: %d won, the others: %q", won, lost)
	}
}
