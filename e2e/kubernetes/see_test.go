package kubernetes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSecurityContext: user, groups, capabilities, the read-only root and seccomp profiles, as the container sees them.
func TestSecurityContext(t *testing.T) {
	t.Parallel()
	spec := containers(shell("c", "id -u; id -G; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | cut -f2; touch /x 2>&1 | grep -o Read-only", object{
		"securityContext": object{
			"runAsUser": 1000, "runAsGroup": 2000, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
			"capabilities": object{"drop": []string{"ALL"}}, "seccompProfile": object{"type": "RuntimeDefault"},
		},
	}))
	spec["securityContext"] = object{"supplementalGroups": []int{3000}}
	equal(t, "seen", output(t, spec), "1000\n2000 3000\n0000000000000000\n1\n2\nRead-only")
}

// TestSeccompLocalhost: a profile of the node's operator.
func TestSeccompLocalhost(t *testing.T) {
	t.Parallel()
	dir := "/var/lib/kubelet/seccomp"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	profile := `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}`
	if err := os.WriteFile(filepath.Join(dir, "no-mkdir.json"), []byte(profile), 0o644); err != nil {
		t.Fatal(err)
	}
	got := output(t, containers(shell("c", "mkdir /x 2>&1; touch /y && echo touched", object{
		"securityContext": object{"seccompProfile": object{"type": "Localhost", "localhostProfile": "no-mkdir.json"}},
	})))
	if !strings.Contains(got, "not supported") || !strings.Contains(got, "touched") {
		t.Errorf("got %q", got)
	}
}

// TestVolumes: emptyDir, configMap and a subPath of one.
func TestVolumes(t *testing.T) {
	t.Parallel()
	kubectl(t, "create", "configmap", "c", "--from-literal=key=value")
	t.Cleanup(func() { kubectl(t, "delete", "configmap", "c") })
	spec := containers(shell("c", "cat /all/key /one; touch /empty/x && ls /empty; touch /all/x 2>&1 | grep -o Read-only", object{
		"volumeMounts": []object{
			{"name": "c", "mountPath": "/all"}, {"name": "c", "mountPath": "/one", "subPath": "key"}, {"name": "e", "mountPath": "/empty"},
		},
	}))
	spec["volumes"] = []object{{"name": "c", "configMap": object{"name": "c"}}, {"name": "e", "emptyDir": object{"medium": "Memory"}}}
	equal(t, "seen", output(t, spec), "valuevaluex\nRead-only")
}

// TestRecursiveReadOnly: a volume is read-only with everything that is mounted in it.
func TestRecursiveReadOnly(t *testing.T) {
	t.Parallel()
	spec := containers(shell("c", "touch /v/shm/x 2>&1 | grep -o Read-only", object{
		"volumeMounts": []object{{"name": "v", "mountPath": "/v", "readOnly": true, "recursiveReadOnly": "Enabled"}},
	}))
	spec["volumes"] = []object{{"name": "v", "hostPath": object{"path": "/dev"}}}
	equal(t, "seen", output(t, spec), "Read-only")
}

// TestSysctls: a safe one, and one that the node allows.
func TestSysctls(t *testing.T) {
	t.Parallel()
	spec := containers(shell("c", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/core/somaxconn", nil))
	spec["securityContext"] = object{"sysctls": []object{
		{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}, {"name": "net.core.somaxconn", "value": "999"},
	}}
	equal(t, "seen", output(t, spec), "80\n999")
}

// TestNamespaces: those of the host, and a pid namespace that the pod's containers share.
func TestNamespaces(t *testing.T) {
	for name, field := range map[string]string{"net": "hostNetwork", "pid": "hostPID", "ipc": "hostIPC"} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			spec := containers(shell("c", "readlink /proc/self/ns/"+name, nil))
			spec[field] = true
			host, err := os.Readlink("/proc/self/ns/" + name)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "namespace", output(t, spec), host)
		})
	}
	t.Run("shareProcessNamespace", func(t *testing.T) {
		t.Parallel()
		spec := containers(shell("a", "exec sleep 1234", nil), shell("b", "exec sleep 1000", nil))
		spec["shareProcessNamespace"] = true
		pod := running(t, spec)
		until(t, pod, "{.status.containerStatuses[*].ready}", "true true")
		got := kubectl(t, "exec", pod, "--container", "b", "--", "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline; echo; ps | grep -c '[s]leep 1234'")
		equal(t, "seen", strings.Join(strings.Fields(got), " "), "/pause 1")
	})
}

// TestUserNamespace: hostUsers: false maps root to nobody of the host, also for volumes.
func TestUserNamespace(t *testing.T) {
	t.Parallel()
	spec := containers(shell("c", "id -u; awk '{ print ($2 > 65535), $3 }' /proc/self/uid_map; touch /e/x; stat -c %u /e/x /c/key", object{
		"volumeMounts": []object{{"name": "e", "mountPath": "/e"}, {"name": "c", "mountPath": "/c"}},
	}))
	kubectl(t, "create", "configmap", "userns", "--from-literal=key=value")
	t.Cleanup(func() { kubectl(t, "delete", "configmap", "userns") })
	spec["volumes"] = []object{{"name": "e", "emptyDir": object{}}, {"name": "c", "configMap": object{"name": "userns"}}}
	spec["hostUsers"] = false
	equal(t, "seen", output(t, spec), "0\n1 65536\n0\n0")
}
