package kubernetes

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/node"
)

// away runs something while containerd is dead.
func away(t *testing.T, meanwhile func()) {
	t.Helper()
	if err := kube.d.Kill(); err != nil {
		t.Fatal(err)
	}
	meanwhile()
	if err := kube.d.Launch(); err != nil {
		t.Fatal(err)
	}
}

// signal sends one to the first process of the pod's first container.
func signal(t *testing.T, pid string, s syscall.Signal) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(n, s); err != nil {
		t.Fatal(err)
	}
}

// TestContainerdKilled: pods go on, and can be used again when containerd is back.
func TestContainerdKilled(t *testing.T) {
	pod := running(t, containers(shell("c", "exec sleep 1000", nil)))
	id, pid := containerID(t, pod), hostPid(t, pod)
	away(t, func() {})
	eventually(t, func() string { return try(t, "exec", pod, "--", "echo", "here") }, "here")
	equal(t, "container", containerID(t, pod), id)
	equal(t, "pid", hostPid(t, pod), pid)
	equal(t, "restarts", get(t, pod, "{.status.containerStatuses[0].restartCount}"), "0")
}

// TestExitWhileAway: the exit code, and the last line of the log, of a container that ends while containerd is dead.
func TestExitWhileAway(t *testing.T) {
	if *handler == node.Runc {
		t.Skip("runc's shim answers containerd 2.4 so that it forgets the exit code: 255")
	}
	spec := containers(shell("c", "trap 'echo last words; exit 7' USR1; echo ready; while :; do sleep 0.1; done", nil))
	spec["restartPolicy"] = "Never"
	pod := running(t, spec)
	eventually(t, func() string { return try(t, "logs", pod) }, "ready")
	pid := hostPid(t, pod)
	away(t, func() {
		signal(t, pid, unix.SIGUSR1)
		eventually(t, func() string { return state(pid) }, "")
	})
	until(t, pod, "{.status.phase}", "Failed")
	equal(t, "exit code", get(t, pod, "{.status.containerStatuses[0].state.terminated.exitCode}"), "7")
	eventually(t, func() string { return try(t, "logs", pod) }, "ready\nlast words")
}

// state is the letter of a process' state; "" when it has ended, also when nobody has waited for it yet.
func state(pid string) string {
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.Trim(strings.Fields(rest)[0], "Z")
}

// TestShimKilled: the kubelet makes the pod's containers again, and nothing of the old ones runs.
func TestShimKilled(t *testing.T) {
	pod := running(t, containers(shell("c", "exec sleep 1000", nil)))
	id, pid := containerID(t, pod), hostPid(t, pod)
	signal(t, parent(t, pid), unix.SIGKILL)
	eventually(t, func() string { return state(pid) }, "")
	eventually(t, func() string {
		return strconv.FormatBool(containerID(t, pod) != id && try(t, "exec", pod, "--", "echo", "here") == "here")
	}, "true")
}
