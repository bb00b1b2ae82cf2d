package podman

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gosuda/gosudacon/e2e/client"
)

// newPod makes a pod, which is removed with its containers when the test is over. It returns its name.
func newPod(t *testing.T, flags ...string) string {
	t.Helper()
	name := strings.ToLower(t.Name())
	must(t, append([]string{"pod", "create", "--name", name, "--network", "none"}, flags...)...)
	t.Cleanup(func() { removePod(t, name) })
	return name
}

// removePod removes a pod. Podman before 4.4 finds a container's shm busy at times, with any runtime (podman issue 11594, "The
// unlinkat/EBUSY flake is back"): then it is asked again.
func removePod(t *testing.T, name string) {
	t.Helper()
	for try := 1; ; try++ {
		r := podman(t, "pod", "rm", "--force", "--ignore", "--time", "0", name)
		switch {
		case r.Code == 0:
			return
		case try == 3 || !strings.Contains(r.Stderr, "userdata/shm: device or resource busy"):
			t.Errorf("podman pod rm: %+v", r)
			return
		}
		t.Logf("podman pod rm: %s", r.Stderr)
	}
}

// TestPod: its containers share the namespaces of podman's infra container, and its cgroup.
func TestPod(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "--share", "ipc,net,uts,pid", "--hostname", "podhost", "--shm-size", "5m")
	in := []string{"--pod", pod}
	name := newName(t)
	must(t, "run", "--detach", "--name", name, "--pod", pod, testImage, "sleep", "1004")

	show := `for n in pid ipc net uts mnt; do readlink /proc/self/ns/$n; done`
	ours, theirs := strings.Fields(output(t, in, "sh", "-c", show)), strings.Fields(must(t, "exec", name, "sh", "-c", show))
	if len(ours) != 5 || len(theirs) != 5 {
		t.Fatalf("got %q and %q", ours, theirs)
	}
	for i := range ours {
		if shared := i < 4; (ours[i] == theirs[i]) != shared {
			t.Errorf("%s and %s: shared must be %v", ours[i], theirs[i], shared)
		}
	}
	client.Equal(t, "host name", output(t, in, "hostname"), "podhost")
	client.Equal(t, "processes", output(t, in, "sh", "-c", "ps | grep -c 'sleep 100[4]'"), "1")
	client.Equal(t, "shared memory", output(t, in, "sh", "-c", "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2"), "5120")
	contains(t, "stats of the pod", must(t, "pod", "stats", "--no-stream", pod), name)

	must(t, "pod", "pause", pod)
	client.Equal(t, "state", inspect(t, name, "{{.State.Status}}"), "paused")
	must(t, "pod", "unpause", pod)
	must(t, "pod", "restart", pod)
	client.Equal(t, "state", inspect(t, name, "{{.State.Status}}"), "running")
	must(t, "pod", "stop", "--time", "1", pod)
	// By SIGTERM, or by the end of the pid namespace, when podman is faster with the infra container.
	if got := inspect(t, name, "{{.State.Status}} {{.State.ExitCode}}"); got != "exited 143" && got != "exited 137" {
		t.Errorf("state after the pod's stop is %s", got)
	}
	must(t, "pod", "start", pod)
	must(t, "pod", "kill", pod)
	client.Eventually(t, "the pod is dead", func() bool { return inspect(t, name, "{{.State.Status}}") == "exited" })
}

// TestPodWithUserNamespace: containers join the user namespace of the infra container.
func TestPodWithUserNamespace(t *testing.T) {
	t.Parallel()
	pod := newPod(t, "--userns", "auto:size=2000")
	name := newName(t)
	must(t, "run", "--detach", "--name", name, "--pod", pod, testImage, "sleep", "1000")
	ids := "readlink /proc/self/ns/user; tr -s ' ' </proc/self/uid_map | cut -d' ' -f4; id -u"
	want := must(t, "exec", name, "sh", "-c", ids)
	client.Equal(t, "user namespace and ids", output(t, []string{"--pod", pod}, "sh", "-c", ids), want)
	contains(t, "size", want, "\n2000\n0")
}

// TestNamespacesOfOthers joins those of another container, and sees it end.
func TestNamespacesOfOthers(t *testing.T) {
	t.Parallel()
	first := detached(t, []string{"--ipc", "shareable"}, "sleep", "1000")
	join := []string{"--pid", "container:" + first, "--ipc", "container:" + first, "--network", "container:" + first, "--uts", "container:" + first}
	show := `for n in pid ipc net uts; do readlink /proc/self/ns/$n; done`
	client.Equal(t, "namespaces", output(t, join, "sh", "-c", show), must(t, "exec", first, "sh", "-c", show))

	second := detached(t, []string{"--pid", "container:" + first}, "sleep", "1000")
	must(t, "kill", first)
	client.Equal(t, "exit code of the first", must(t, "wait", first), "137")
	client.Equal(t, "exit code of the other in its pid namespace", must(t, "wait", second), "137")
}

// kube is a pod of two containers, and a volume for both.
const kube = `apiVersion: v1
kind: Pod
metadata:
  name: played
spec:
  hostNetwork: true
  restartPolicy: Never
  volumes:
  - name: shared
    emptyDir: {}
  containers:
  - name: writer
    image: localhost/gosuda-test:latest
    imagePullPolicy: Never
    command: [sh, -c, "echo $GREETING >/shared/f; trap exit TERM; sleep 1000 & wait"]
    env: [{name: GREETING, value: played}]
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    securityContext: {capabilities: {drop: [ALL]}}
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: reader
    image: localhost/gosuda-test:latest
    imagePullPolicy: Never
    command: [sh, -c, "trap exit TERM; sleep 1000 & wait"]
    securityContext: {readOnlyRootFilesystem: true}
    volumeMounts: [{name: shared, mountPath: /shared, readOnly: true}]
`

func TestKube(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pod.yaml")
	if err := os.WriteFile(file, []byte(kube), 0o644); err != nil {
		t.Fatal(err)
	}
	defer func() { must(t, "kube", "down", file) }()
	must(t, "play", "kube", file)
	client.Eventually(t, "the reader sees what the writer wrote", func() bool {
		return podman(t, "exec", "played-reader", "cat", "/shared/f").Stdout == "played\n"
	})
	refused(t, "Read-only file system", "exec", "played-reader", "touch", "/shared/g")
	refused(t, "Read-only file system", "exec", "played-reader", "touch", "/x")
	if got := must(t, "exec", "played-writer", "sh", "-c", limits); !strings.HasPrefix(got, "67108864 50000 ") {
		t.Errorf("limits are %q", got)
	}
	client.Equal(t, "capabilities", must(t, "exec", "played-writer", "grep", "CapBnd", "/proc/self/status"), "CapBnd:\t0000000000000000")
}

// TestHealthcheck: podman executes the check in the container and keeps the results. Nothing executes it every second: that is systemd's.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	name := detached(t, []string{"--health-cmd", "test -e /ok", "--health-interval", "disable", "--health-retries", "1"}, "sleep", "1000")
	client.Equal(t, "exit code", podman(t, "healthcheck", "run", name).Code, 1)
	client.Equal(t, "health", inspect(t, name, "{{.State.Health.Status}} {{.State.Health.FailingStreak}}"), "unhealthy 1")
	must(t, "exec", name, "touch", "/ok")
	must(t, "healthcheck", "run", name)
	client.Equal(t, "health", inspect(t, name, "{{.State.Health.Status}} {{.State.Health.FailingStreak}}"), "healthy 0")
}
