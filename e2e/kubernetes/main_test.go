// Package kubernetes tests a runtime handler on a node of Kubernetes: a kubelet and an API server of their own over a private containerd.
package kubernetes

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/e2e/alone"
	"github.com/gosuda/gosudacon/e2e/containerdtest"
	"github.com/gosuda/gosudacon/e2e/node"
)

var handler = flag.String("handler", "gosuda", "runtime handler to test: gosuda, gosuda-table, in-place, pauseless or runc")

// image is the reference of the busybox that pods run.
const image = "registry.k8s.io/e2e-test-images/busybox:1.29-2"

var kube *cluster

func TestMain(m *testing.M) {
	containerdtest.Main()
	flag.Parse()
	exitOn(alone.Start(alone.Config{Empty: append(node.Empty, "/var/lib/kubelet", "/var/log/containers"), Processes: true}))
	var err error
	kube, err = startCluster(context.Background())
	exitOn(err)
	code := m.Run()
	if err := kube.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// kubectl runs kubectl, which must succeed.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute) // also in cleanups
	defer cancel()
	out, err := kube.kubectl(ctx, "", args...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return out
}

// pod is a pod's spec, with what JSON calls it.
type object = map[string]any

// create makes a pod of the handler from its spec and deletes it when the test is over. It returns the pod's name, which is the test's.
func create(t *testing.T, spec object) string {
	t.Helper()
	return createAs(t, strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())), spec)
}

// createAs is create for a test with several pods, each of which has a name of its own.
func createAs(t *testing.T, name string, spec object) string {
	t.Helper()
	spec["nodeName"] = nodeName
	if *handler != node.Runc {
		spec["runtimeClassName"] = *handler
	}
	if spec["terminationGracePeriodSeconds"] == nil {
		spec["terminationGracePeriodSeconds"] = 1
	}
	text, err := json.Marshal(object{"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": name}, "spec": spec})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := kube.kubectl(ctx, string(text), "create", "--filename", "-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			ctx := context.WithoutCancel(t.Context())
			out, _ := kube.kubectl(ctx, "", "describe", "pod", name)
			t.Log(out)
		}
		kubectl(t, "delete", "pod", name, "--ignore-not-found", "--timeout=90s")
	})
	return name
}

// shell is a container that runs a script. more are other fields of it.
func shell(name, script string, more object) object {
	c := object{"name": name, "image": image, "imagePullPolicy": "IfNotPresent", "command": []string{"sh", "-c", script}}
	for key, value := range more {
		c[key] = value
	}
	return c
}

// containers is a spec of these containers and no more.
func containers(list ...object) object { return object{"containers": list} }

// get evaluates a JSONPath on a pod.
func get(t *testing.T, pod, path string) string {
	t.Helper()
	return kubectl(t, "get", "pod", pod, "--output", "jsonpath="+path)
}

// until waits until a JSONPath of a pod is want.
func until(t *testing.T, pod, path, want string) {
	t.Helper()
	eventually(t, func() string { return get(t, pod, path) }, want)
}

// eventually waits until what look sees is want.
func eventually(t *testing.T, look func() string, want string) {
	t.Helper()
	got := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if got = look(); got == want {
			return
		}
	}
	t.Fatalf("not within a minute: got %q, want %q", got, want)
}

// running makes a pod and waits until it runs.
func running(t *testing.T, spec object) string {
	t.Helper()
	pod := create(t, spec)
	until(t, pod, "{.status.phase}", "Running")
	return pod
}

// output runs a pod of one container to its end, which must be a success, and returns its log.
func output(t *testing.T, spec object) string {
	t.Helper()
	spec["restartPolicy"] = "Never"
	pod := create(t, spec)
	until(t, pod, "{.status.phase}", "Succeeded")
	return kubectl(t, "logs", pod)
}

// in runs a script in a pod's container.
func in(t *testing.T, pod, script string) string {
	t.Helper()
	return kubectl(t, "exec", pod, "--", "sh", "-c", script)
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// containerID is the id of the pod's first container.
func containerID(t *testing.T, pod string) string {
	t.Helper()
	return strings.TrimPrefix(get(t, pod, "{.status.containerStatuses[0].containerID}"), "containerd://")
}

// hostPid is the pid of the first container's first process.
func hostPid(t *testing.T, pod string) string {
	t.Helper()
	out, err := kube.site.Crictl(t.Context(), kube.d, "inspect", "--output", "go-template", "--template", "{{.info.pid}}", containerID(t, pod))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// parent is the pid of a process' parent: of a container's first process, its shim.
func parent(t *testing.T, pid string) string {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.Fields(rest)[1]
}
