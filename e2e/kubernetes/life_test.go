package kubernetes

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRuntimeClass: a class that is not there is refused; the pod of one has its overhead, and its shim is the handler's.
func TestRuntimeClass(t *testing.T) {
	pod := running(t, containers(shell("c", "exec sleep 1000", nil)))
	if *handler == "runc" {
		return
	}
	equal(t, "overhead", get(t, pod, "{.spec.overhead.memory}"), "8Mi")
	shim, err := os.ReadFile("/proc/" + parent(t, hostPid(t, pod)) + "/cmdline")
	if err != nil || !strings.Contains(string(shim), "containerd-shim-gosuda-v2") {
		t.Errorf("the shim is %q, %v", shim, err)
	}
	none := `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "none"}, "spec": {"runtimeClassName": "none", "containers": [{"name": "c", "image": "i"}]}}`
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := kube.kubectl(ctx, none, "create", "--filename", "-"); err == nil || !strings.Contains(err.Error(), `RuntimeClass "none" not found`) {
		t.Errorf("a pod of no class: %v", err)
	}
}

// TestRestart: what fails is started again, and its last log and exit code are kept.
func TestRestart(t *testing.T) {
	t.Parallel()
	pod := create(t, containers(shell("c", "echo last words; exit 3", nil)))
	eventually(t, func() string { return get(t, pod, "{.status.containerStatuses[0].lastState.terminated.exitCode}") }, "3")
	eventually(t, func() string { return kubectl(t, "logs", "--previous", pod) }, "last words")
}

// TestInitAndSidecar: an init container ends before the others start; a sidecar starts before and outlives it.
func TestInitAndSidecar(t *testing.T) {
	t.Parallel()
	mount := object{"volumeMounts": []object{{"name": "v", "mountPath": "/v"}}}
	sidecar := shell("sidecar", "echo sidecar >> /v/log; exec sleep 1000", mount)
	sidecar["restartPolicy"] = "Always"
	spec := containers(shell("c", "cat /v/log", mount))
	spec["initContainers"] = []object{sidecar, shell("init", "while ! [ -e /v/log ]; do sleep 0.1; done; echo init >> /v/log", mount)}
	spec["volumes"] = []object{{"name": "v", "emptyDir": object{}}}
	spec["restartPolicy"] = "Never"
	pod := create(t, spec)
	until(t, pod, "{.status.phase}", "Succeeded")
	equal(t, "log", kubectl(t, "logs", pod, "--container", "c"), "sidecar\ninit")
}

// TestProbes: exec probes of all kinds, every second for a minute.
func TestProbes(t *testing.T) {
	t.Parallel()
	probe := object{"exec": object{"command": []string{"sh", "-c", "echo probe >> /tmp/$0"}}, "periodSeconds": 1, "timeoutSeconds": 10}
	pod := create(t, containers(shell("c", "exec sleep 1000", object{"livenessProbe": probe, "readinessProbe": probe, "startupProbe": probe})))
	kubectl(t, "wait", "--for=condition=Ready", "--timeout=60s", "pod/"+pod)
	time.Sleep(time.Minute)
	equal(t, "restarts", get(t, pod, "{.status.containerStatuses[0].restartCount}"), "0")
	equal(t, "ready", get(t, pod, "{.status.containerStatuses[0].ready}"), "true")
	if kubectl(t, "get", "events", "--field-selector", "reason=Unhealthy,involvedObject.name="+pod, "--output", "name") != "" {
		t.Error("a probe failed")
	}
}

// TestLiveness: a probe that fails restarts the container.
func TestLiveness(t *testing.T) {
	t.Parallel()
	probe := object{"exec": object{"command": []string{"test", "!", "-e", "/tmp/ill"}}, "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 1}
	pod := create(t, containers(shell("c", "sleep 2; touch /tmp/ill; exec sleep 1000", object{"livenessProbe": probe})))
	eventually(t, func() string { return get(t, pod, "{.status.containerStatuses[0].lastState.terminated.exitCode}") }, "137")
}

// TestTermination: preStop, then SIGTERM, and the grace that was asked for.
func TestTermination(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	script := `trap 'echo term >> /v/log; exit 0' TERM; echo ready >> /v/log; while :; do sleep 0.1; done`
	spec := containers(shell("c", script, object{
		"volumeMounts": []object{{"name": "v", "mountPath": "/v"}},
		"lifecycle":    object{"preStop": object{"exec": object{"command": []string{"sh", "-c", "echo stop >> /v/log"}}}},
	}))
	spec["volumes"] = []object{{"name": "v", "hostPath": object{"path": dir}}}
	spec["terminationGracePeriodSeconds"] = 30
	pod := running(t, spec)
	log := func() string {
		text, _ := os.ReadFile(filepath.Join(dir, "log"))
		return strings.TrimSpace(string(text))
	}
	eventually(t, log, "ready")
	kubectl(t, "delete", "pod", pod, "--timeout=90s")
	equal(t, "log", log(), "ready\nstop\nterm")
}

// TestOOM: a container that takes more memory than it may is OOMKilled.
func TestOOM(t *testing.T) {
	t.Parallel()
	spec := containers(shell("c", "tail /dev/zero", object{"resources": object{"limits": object{"memory": "16Mi"}}}))
	spec["restartPolicy"] = "Never"
	pod := create(t, spec)
	until(t, pod, "{.status.phase}", "Failed")
	equal(t, "reason", get(t, pod, "{.status.containerStatuses[0].state.terminated.reason}"), "OOMKilled")
	equal(t, "exit code", get(t, pod, "{.status.containerStatuses[0].state.terminated.exitCode}"), "137")
}
