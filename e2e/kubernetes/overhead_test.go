package kubernetes

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/e2e/node"
)

// TestOverhead: what a pod costs besides its containers is at most what the RuntimeClass says: the memory of its shim, which is outside of the pod's
// cgroup, and what the cgroup of its pause container is charged with. Its container is probed every second. The pods are alone on the node, hence
// not parallel to other tests.
func TestOverhead(t *testing.T) {
	const number, probed = 8, 20 * time.Second
	probe := object{"exec": object{"command": []string{"true"}}, "periodSeconds": 1}
	var pods []string
	for i := range number {
		pods = append(pods, createAs(t, fmt.Sprintf("overhead-%d", i), containers(shell("c", "exec sleep 1000", object{"readinessProbe": probe}))))
	}
	for _, pod := range pods {
		until(t, pod, "{.status.phase}", "Running")
	}
	time.Sleep(probed)
	var sums []int
	for _, pod := range pods {
		pid := podPid(t, pod)
		shim, charged := 0, 0
		if leader := leaderOf(t, pid); leader != pid { // a thread of the shim: no pause container
			shim = proportional(t, leader)
		} else {
			shim, charged = proportional(t, parent(t, pid)), charge(t, pid)
		}
		t.Logf("%s: shim %d KiB, pause container %d KiB", pod, shim, charged)
		sums = append(sums, shim+charged)
	}
	slices.Sort(sums)
	t.Logf("%s: %d KiB of memory besides the containers of a pod, the median of %d; %d the most", *handler, sums[number/2], number, sums[number-1])
	if *handler == node.Runc {
		return
	}
	quantity := get(t, pods[0], "{.spec.overhead.memory}")
	mib, err := strconv.Atoi(strings.TrimSuffix(quantity, "Mi"))
	if err != nil {
		t.Fatalf("the class' overhead of memory, in Mi: %v", err)
	}
	if most := sums[number-1]; most > mib<<10 {
		t.Errorf("the class says %s, a pod has %d KiB", quantity, most)
	}
}

// podPid is the id of what has the pod's namespaces: its pause container, or a thread of its shim.
func podPid(t *testing.T, pod string) string {
	t.Helper()
	crictl := func(args ...string) string {
		out, err := kube.site.Crictl(t.Context(), kube.d, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	return crictl("inspectp", "--output", "go-template", "--template", "{{.info.pid}}", crictl("pods", "--quiet", "--name", "^"+pod+"$"))
}

// leaderOf is the process of a thread.
func leaderOf(t *testing.T, tid string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + tid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nTgid:")
	return strings.Fields(rest)[0]
}

// proportional is a process' memory in KiB, with its part of the pages that it shares with others.
func proportional(t *testing.T, pid string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nPss:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib
}

// charge is what the memory cgroup of a process is charged with, in KiB, the kernel's part included.
func charge(t *testing.T, pid string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	file := ""
	for line := range strings.Lines(string(text)) {
		switch parts := strings.SplitN(strings.TrimSpace(line), ":", 3); {
		case slices.Contains(strings.Split(parts[1], ","), "memory"):
			file = filepath.Join("/sys/fs/cgroup/memory", parts[2], "memory.usage_in_bytes")
		case parts[1] == "" && file == "":
			file = filepath.Join("/sys/fs/cgroup", parts[2], "memory.current")
		}
	}
	text, err = os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return bytes >> 10
}
