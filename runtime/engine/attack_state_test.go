package engine_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/store"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// victim is a process of the host that must survive.
func victim(t *testing.T) (pid int, alive func() bool) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd.Process.Pid, func() bool { return statOf(t, cmd.Process.Pid) != "Z" }
}

// TestAttackRecord: the record that delete acts upon after a crash has been replaced: by another file, or by one that names
// processes, cgroups and mounts which are not the container's.
func TestAttackRecord(t *testing.T) {
	testkit.NoLeaks(t)
	pid, alive := victim(t)
	start, err := store.StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	const id = "victim"
	record := func(change func(*store.Record)) func(*testing.T, string) {
		return func(t *testing.T, name string) {
			r := &store.Record{ID: id, Status: "running"}
			change(r)
			data, err := json.Marshal(r)
			if err == nil {
				err = os.WriteFile(name, data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	deadly := record(func(r *store.Record) { r.Pid, r.StartTime = pid, start })
	for _, tc := range []struct {
		name string
		make func(t *testing.T, name string)
		want error
		text string
	}{
		{"a FIFO", func(t *testing.T, name string) { unix.Mkfifo(name, 0o600) }, store.ErrUntrusted, "not a regular file"},
		{"a link to the like", func(t *testing.T, name string) {
			deadly(t, name+".real")
			os.Symlink(name+".real", name)
		}, store.ErrUntrusted, "symbolic link"},
		{"another user's", func(t *testing.T, name string) { deadly(t, name); os.Chown(name, 1000, 1000) }, store.ErrUntrusted, "belongs to user 1000"},
		{"for others to write", func(t *testing.T, name string) { deadly(t, name); os.Chmod(name, 0o666) }, store.ErrUntrusted, "others may write"},
		{"of another container", record(func(r *store.Record) { r.ID, r.Pid, r.StartTime = "other", pid, start }), store.ErrUntrusted, `container "other"`},
		{"no JSON", func(t *testing.T, name string) { os.WriteFile(name, []byte("{"), 0o600) }, nil, "parse"},
		{"huge", func(t *testing.T, name string) { os.WriteFile(name, nil, 0o600); os.Truncate(name, 1<<40) }, store.ErrUntrusted, "too large"},
		{"a negative pid", record(func(r *store.Record) { r.Pid = -1 }), store.ErrUntrusted, "-1 is no process"},
		{"a root file system on /", record(func(r *store.Record) { r.Rootfs = "//." }), store.ErrUntrusted, "no mount point"},
		{"the root of the cgroups", record(func(r *store.Record) {
			r.CgroupPaths = map[string]string{"": "/sys/fs/cgroup", "memory": "/sys/fs/cgroup/memory"}
		}),
			nil, "is not below"},
		{"cgroups above", record(func(r *store.Record) {
			r.CgroupPaths = map[string]string{"": "/sys/fs/cgroup/x/../..", "memory": "/sys/fs/cgroup/memory/x/../.."}
		}), nil, "is not below"},
		{"cgroups elsewhere", record(func(r *store.Record) { r.CgroupPaths = map[string]string{"": "/tmp", "memory": "/tmp"} }), nil, "is not below"},
		// The pid was used again: the kernel's own answer decides.
		{"an old pid", record(func(r *store.Record) { r.Pid, r.StartTime = pid, start-1 }), nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, id)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			tc.make(t, filepath.Join(dir, "state.json"))
			_, err := engine.Cleanup(timeout(t), root, id, "")
			if tc.text == "" && err != nil || tc.text != "" && (err == nil || !strings.Contains(err.Error(), tc.text)) || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %q", err, tc.text)
			}
			if !alive() {
				t.Fatal("a process of the host was killed")
			}
		})
	}
	// The attack is real: our own record has the process killed.
	root := t.TempDir()
	os.Mkdir(filepath.Join(root, id), 0o700)
	deadly(t, filepath.Join(root, id, "state.json"))
	if _, err := engine.Cleanup(timeout(t), root, id, ""); err != nil || alive() {
		t.Errorf("with a good record: %v, alive %t", err, alive())
	}
}

// TestAttackStateDirectory: somebody who may write where the state is puts links there before and while the container lives.
// The files that they name stay as they are, and the container can still be started and deleted by its engine.
func TestAttackStateDirectory(t *testing.T) {
	testkit.NoLeaks(t)
	root := t.TempDir()
	target := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(engine.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	ctx := timeout(t)
	spec := testkit.Spec("true")
	spec.Linux.CgroupsPath = "/" + newID()
	bundle := testkit.Bundle(t, spec)
	elsewhere := t.TempDir()
	id := newID()
	if err := os.Symlink(elsewhere, filepath.Join(root, id)); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Create(ctx, engine.CreateRequest{ID: id, Bundle: bundle}); kindOf(err) != engine.AlreadyExists {
		t.Errorf("create into a link: %v", err)
	}
	id = newID()
	c, err := e.Create(ctx, engine.CreateRequest{ID: id, Bundle: bundle})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"state.json", ".state.json", "start", "verdict"} {
		p := filepath.Join(root, id, name)
		os.Remove(p)
		if err := os.Symlink(target, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Start(ctx); err != nil {
		t.Errorf("start: %v", err)
	}
	if exit, err := c.Wait(ctx, ""); err != nil || exit.Status != 0 {
		t.Errorf("wait: %+v, %v", exit, err)
	}
	if _, err := c.Delete(ctx); err != nil {
		t.Errorf("delete: %v", err)
	}
	if b, _ := os.ReadFile(target); string(b) != "precious" {
		t.Errorf("the link's target has %q", b)
	}
	if left, _ := os.ReadDir(elsewhere); len(left) > 0 {
		t.Errorf("made elsewhere: %v", left)
	}
}

// TestAttackStartGate: the FIFO that start writes to has been replaced by a link to a file.
func TestAttackStartGate(t *testing.T) {
	testkit.NoLeaks(t)
	root := t.TempDir()
	target := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := detach(t, root, testkit.Spec("sleep", "1000"), engine.Stdio{})
	gate := filepath.Join(root, d.ID(), "start")
	if err := os.Rename(gate, gate+".real"); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func() error{
		"link": func() error { return os.Symlink(target, gate) },
		"file": func() error { return os.Link(target, gate) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		other, err := engineAt(t, root).Open(d.ID())
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Start(timeout(t)); err == nil {
			t.Errorf("%s: started", name)
		}
		if b, _ := os.ReadFile(target); string(b) != "precious" {
			t.Errorf("%s: the file has %q", name, b)
		}
		os.Remove(gate)
	}
	if err := os.Rename(gate+".real", gate); err != nil {
		t.Fatal(err)
	}
}
