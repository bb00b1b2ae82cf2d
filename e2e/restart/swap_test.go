package restart

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/client"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// TestSwap installs gosuda's shim over the runc shim, under whose containers it was: those whose shim lives, and those whose shim dies, while
// containerd is there and while it is not. Each of them is removed, and nothing of it stays.
func TestSwap(t *testing.T) {
	if *runtimeFlag == runcRuntime {
		t.Skip("the runc shim is what is swapped")
	}
	w := newWorld(t, "containerd")
	installed := filepath.Join(w.dir, "bin", "containerd-shim-runc-v2")
	install(t, filepath.Join(w.Bin, "containerd-shim-runc-v2"), installed)
	w.die(t)
	change := func(c *containerdtest.Config) { c.Path = slices.Insert(c.Path, 0, filepath.Dir(installed)) }
	if err := w.Reconfigure(change); err != nil {
		t.Fatal(err)
	}
	if err := w.Launch(); err != nil {
		t.Fatal(err)
	}
	w.connect(t)

	runc := boxOptions{runtime: runcRuntime}
	const family = `sleep 1000 & trap 'exit 30' TERM; while :; do sleep 0.05; done`
	boxes := map[string]*box{}
	for _, id := range []string{"lives", "orphan", "frozen", "forlorn"} {
		boxes[id] = w.start(t, id, family, runc)
	}
	for _, id := range []string{"exited", "lost"} {
		boxes[id] = w.start(t, id, "exit 7", runc)
		wait(t, w.ctx, w.task(t, boxes[id]), id)
	}
	if err := w.task(t, boxes["frozen"]).Pause(w.ctx); err != nil {
		t.Fatal(err)
	}
	shims := map[string]int{}
	for id := range boxes {
		shims[id] = w.shimOf(t, id)
	}

	install(t, filepath.Join(tree.Bin(), "containerd-shim-gosuda-v2"), installed)

	// Some shims die before containerd's eyes, and it tells what their delete verb found.
	var events journal
	events.subscribe(t, w)
	for id, code := range map[string]string{"orphan": "137", "frozen": "137", "exited": "7"} {
		kill(t, shims[id])
		eventually(t, "delete of "+id, func() bool { return events.has(id, "delete "+code) })
		events.settles(t, id, "exit "+code+", delete "+code)
		gone(t, boxes[id].pid)
		w.forget(t, boxes[id])
	}

	// Others die while it is away.
	w.die(t)
	for _, id := range []string{"forlorn", "lost"} {
		kill(t, shims[id])
	}
	if err := w.Launch(); err != nil {
		t.Fatal(err)
	}
	w.connect(t)
	for _, id := range []string{"forlorn", "lost"} {
		if _, err := w.find(boxes[id]); err == nil {
			t.Errorf("containerd has a task %s, whose shim is dead", id)
		}
		gone(t, boxes[id].pid)
		w.forget(t, boxes[id])
	}

	// One goes on, under the program that started it, until its delete.
	w.runs(t, boxes["lives"])
	w.says(t, boxes["lives"], "on")
	w.terminate(t, boxes["lives"], 30)

	// New ones are gosuda's.
	young := w.start(t, "young", "sleep 1000", runc)
	if _, err := os.Stat(filepath.Join("/run/containerd/gosuda", w.Namespace, "young")); err != nil {
		t.Errorf("not made by gosuda: %v", err)
	}
	if _, err := w.task(t, young).Delete(w.ctx, client.WithProcessKill); err != nil {
		t.Error(err)
	}
	w.forget(t, young)
	for _, id := range []string{"runc", "gosuda"} {
		if left, _ := filepath.Glob(filepath.Join("/run/containerd", id, w.Namespace, "*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}

// install copies a program over another one as a package manager does: what runs keeps the old file.
func install(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to+".new", text, 0o755)
	}
	if err == nil {
		err = os.Rename(to+".new", to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// shimOf returns the process id of the shim that was started for a container.
func (w *world) shimOf(t *testing.T, id string) int {
	t.Helper()
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		text, _ := os.ReadFile(path)
		args := strings.Split(string(text), "\x00")
		i := slices.Index(args, "-id")
		if strings.Contains(args[0], "containerd-shim-") && i > 0 && args[i+1] == id && slices.Contains(args, w.Namespace) {
			pid := 0
			for _, c := range strings.Split(path, "/")[2] {
				pid = 10*pid + int(c-'0')
			}
			return pid
		}
	}
	t.Fatalf("no shim for %s", id)
	return 0
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}
