package kubernetes

import (
	"encoding/json"
	"strconv"
	"testing"
)

// limits prints the container's limits of memory, in bytes, and of processor time, in microseconds of a tenth of a second.
const limits = `cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes 2>/dev/null; { cat cpu/cpu.cfs_quota_us || cut -d' ' -f1 cpu.max; } 2>/dev/null`

// TestLimits: limits of memory and processors, and others while the container runs.
func TestLimits(t *testing.T) {
	t.Parallel()
	resources := func(memory, cpu string) object {
		return object{"limits": object{"memory": memory, "cpu": cpu}, "requests": object{"memory": "16Mi", "cpu": "10m"}}
	}
	pod := running(t, containers(shell("c", "exec sleep 1000", object{"resources": resources("64Mi", "500m")})))
	look := func() string { return in(t, pod, limits) }
	equal(t, "limits", look(), "67108864\n50000")
	patch, err := json.Marshal(object{"spec": containers(object{"name": "c", "resources": resources("96Mi", "700m")})})
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, "patch", "pod", pod, "--subresource=resize", "--patch", string(patch))
	eventually(t, look, "100663296\n70000")
	equal(t, "restarts", get(t, pod, "{.status.containerStatuses[0].restartCount}"), "0")
}

// TestStats: the kubelet knows what a pod uses.
func TestStats(t *testing.T) {
	t.Parallel()
	pod := running(t, containers(shell("c", "while :; do :; done", nil)))
	eventually(t, func() string {
		var summary struct {
			Pods []struct {
				PodRef     struct{ Name string }
				Containers []struct {
					CPU    struct{ UsageCoreNanoSeconds uint64 }
					Memory struct{ WorkingSetBytes uint64 }
				}
			}
		}
		if err := json.Unmarshal([]byte(try(t, "get", "--raw", "/api/v1/nodes/"+nodeName+"/proxy/stats/summary")), &summary); err != nil {
			return err.Error()
		}
		for _, p := range summary.Pods {
			if p.PodRef.Name == pod && len(p.Containers) == 1 {
				c := p.Containers[0]
				return strconv.FormatBool(c.CPU.UsageCoreNanoSeconds > 1e8 && c.Memory.WorkingSetBytes > 1e4)
			}
		}
		return "no such pod"
	}, "true")
}
