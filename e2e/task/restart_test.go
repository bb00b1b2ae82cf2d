package task

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestContainerdRestarts kills containerd under a running container, a stopping one and an exec, and starts it again.
func TestContainerdRestarts(t *testing.T) {
	d := ownDaemon(t, nil)
	lives := detached(t, d, nil, "sh", "-c", "trap 'exit 21' TERM; >/run/up; while :; do sleep 0.05; done")
	stop := filepath.Join(d.Dir, "stop")
	ends := detached(t, d, []string{"--mount", "type=bind,src=" + d.Dir + ",dst=/host,options=rbind"}, "sh", "-c", "until [ -e /host/stop ]; do sleep 0.05; done; exit 22")
	pid := pidOf(t, d, ends)
	waitUp(t, d, lives)

	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stop, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	waitGone(t, pid)
	if err := d.Launch(); err != nil {
		t.Fatal(err)
	}

	equal(t, "status of what lives", statusOf(t, d, lives), "RUNNING")
	equal(t, "output of an exec", must(t, d, "task", "exec", "--exec-id", "e", lives, "echo", "after"), "after\n")
	must(t, d, "task", "kill", "--signal", "SIGTERM", lives)
	deadline := time.Now().Add(time.Minute)
	for statusOf(t, d, lives) != "STOPPED" && time.Now().Before(deadline) {
	}
	deleted(t, d, lives, 21)

	if statusOf(t, d, ends) == "" {
		onRunc(t, "containerd removes a task of it that ended meanwhile, and its exit code with it")
	}
	equal(t, "status of what ended meanwhile", statusOf(t, d, ends), "STOPPED")
	deleted(t, d, ends, 22)
}

// waitGone returns when the process has ended; its parent may not have waited for it yet.
func waitGone(t *testing.T, pid string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		text, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(text), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %s still runs", pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestShimKilled: containerd calls the delete verb, which must find and end everything of the container.
func TestShimKilled(t *testing.T) {
	d := shared.daemon
	id := detached(t, d, nil, "sh", "-c", "sleep 1000 & sleep 1000")
	pid := pidOf(t, d, id)
	events := watchEvents(t, d)
	shim := shimOf(t, id)
	if err := unix.Kill(atoi(t, shim), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	events.until(t, id, "/tasks/delete")
	waitGone(t, pid)
	equal(t, "status", statusOf(t, d, id), "")
}

func atoi(t *testing.T, text string) int {
	t.Helper()
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			t.Fatalf("%q is no number", text)
		}
		n = n*10 + int(c-'0')
	}
	return n
}
