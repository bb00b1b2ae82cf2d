package task

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// criuDaemon is a containerd that finds criu. Its own copies of images, which it does not remove, go with its directory.
func criuDaemon(t *testing.T) *containerdtest.Daemon {
	t.Helper()
	criu, missing, err := shared.tree.Criu()
	if err != nil {
		t.Fatal(err)
	}
	if missing != "" {
		t.Skip(missing)
	}
	return ownDaemon(t, func(c *containerdtest.Config) {
		c.Path = append(c.Path, criu)
		c.Env = append(c.Env, "XDG_RUNTIME_DIR="+c.Dir)
	})
}

// counter is a program that keeps a number in memory and prints it.
const counter = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"

// countsOn waits until a log has numbers beyond from, and returns the last. They must be in order.
func countsOn(t *testing.T, log string, from int) int {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(log)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		last := 0
		for line := range strings.Lines(string(text)) {
			n, err := strconv.Atoi(strings.TrimSuffix(line, "\n"))
			if strings.HasSuffix(line, "\n") && (err != nil || n != last+1) {
				t.Fatalf("%q after %d", line, last)
			}
			if strings.HasSuffix(line, "\n") {
				last = n
			}
		}
		if last > from+3 {
			return last
		}
		if time.Now().After(end) {
			t.Fatalf("counted to %d, not beyond %d", last, from)
		}
	}
}

// stopped waits for the end of a task.
func stopped(t *testing.T, d *containerdtest.Daemon, id string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); statusOf(t, d, id) != "STOPPED"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s is %s", id, statusOf(t, d, id))
		}
	}
}

// settled returns what a log has when nobody writes to it any more.
func settled(t *testing.T, log string) int {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(text))
	n, err := strconv.Atoi(lines[len(lines)-1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCheckpoint: a counter goes on counting in a container that is made from an image of ctr's, or from files.
func TestCheckpoint(t *testing.T) {
	d := criuDaemon(t)
	log := filepath.Join(d.Dir, "log")
	start := func(flags ...string) string {
		t.Helper()
		return detached(t, d, append(flags, "--log-uri", "file://"+log), "sh", "-c", counter)
	}
	id := start()
	last := countsOn(t, log, 0)

	image := strings.TrimSpace(must(t, d, "task", "checkpoint", id))
	last = countsOn(t, log, last) // it was paused meanwhile
	if s := statusOf(t, d, id); s != "RUNNING" {
		t.Errorf("status after a checkpoint: %s", s)
	}
	if !strings.Contains(must(t, d, "image", "ls"), image) {
		t.Errorf("there is no image %q", image)
	}

	if *containerdFlag == "containerd" { // that of containerd 1 makes no second checkpoint of a container: its config is there already
		time.Sleep(time.Second) // ctr names images by the second
		must(t, d, "task", "checkpoint", "--exit", "--image-path", filepath.Join(d.Dir, "images"), "--work-path", filepath.Join(d.Dir, "work"), id)
		stopped(t, d, id)
		if _, err := os.Stat(filepath.Join(d.Dir, "work", "dump.log")); err != nil {
			t.Error(err)
		}
	}
	remove(t, d, id)

	again := filepath.Join(d.Dir, "again")
	other := newID(t, d)
	must(t, d, "container", "create", "--runtime", *runtimeFlag, containerdtest.Image, other)
	t.Cleanup(func() { remove(t, d, other) })
	restoreTask(t, d, other, image, again)
	if from, total := first(t, again), settled(t, log); from <= 3 || from > total {
		t.Errorf("the restored one begins at %d; the first one has counted to %d", from, total)
	}
	if pid := pidOf(t, d, other); pid == "0" {
		t.Error("no pid")
	}
	if got := strings.TrimSpace(must(t, d, "task", "exec", "--exec-id", "e", other, "cat", "/proc/1/comm")); got != "sh" {
		t.Errorf("exec: %q", got)
	}
	must(t, d, "task", "pause", other)
	must(t, d, "task", "resume", other)
	if hasMetrics() {
		must(t, d, "task", "metrics", other)
	}
	must(t, d, "task", "kill", "--signal", "9", other)
	stopped(t, d, other)
	if r := ctr(t, d, "task", "delete", other); !strings.Contains(r.stderr, "exit code 137") {
		t.Errorf("task delete: exit code %d: %s", r.code, r.stderr)
	}
}

// restoreTask makes a container's task from an image of a checkpoint, with its output in a file. ctr has lost its flag for that.
func restoreTask(t *testing.T, d *containerdtest.Daemon, id, image, log string) {
	t.Helper()
	client, err := containerd.New(d.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := namespaces.WithNamespace(t.Context(), d.Namespace)
	c, err := client.LoadContainer(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	from, err := client.GetImage(ctx, image)
	if err != nil {
		t.Fatal(err)
	}
	task, err := c.NewTask(ctx, cio.LogFile(log), containerd.WithTaskCheckpoint(from))
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Start(ctx); err != nil {
		t.Fatal(err)
	}
}

// first waits for the first line of a log.
func first(t *testing.T, log string) int {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		text, _ := os.ReadFile(log)
		if line, _, ok := strings.Cut(string(text), "\n"); ok {
			n, err := strconv.Atoi(line)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		if time.Now().After(end) {
			t.Fatalf("nothing in %s", log)
		}
	}
}

// TestContainerCheckpoint: ctr's checkpoint of a whole container, with what it has written to its root file system.
func TestContainerCheckpoint(t *testing.T) {
	d := criuDaemon(t)
	log := filepath.Join(d.Dir, "log")
	id := detached(t, d, []string{"--log-uri", "file://" + log}, "sh", "-c", "echo word > /written; "+counter)
	countsOn(t, log, 0)
	must(t, d, "container", "checkpoint", "--task", "--rw", "--image", id, "localhost/checkpoint:1")
	remove(t, d, id)
	restored := newID(t, d)
	must(t, d, "container", "restore", "--rw", "--live", restored, "localhost/checkpoint:1")
	t.Cleanup(func() { remove(t, d, restored) })
	if got := must(t, d, "task", "exec", "--exec-id", "e", restored, "cat", "/written"); got != "word\n" {
		t.Errorf("the file has %q", got)
	}
}
