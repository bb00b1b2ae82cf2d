package task

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// What a process of a container must find, and must not find, of the shim that made it.

// HOME is the one variable that is not of the spec: runc and crun add it from /etc/passwd, and images count on it.
func TestEnvironmentIsTheSpecs(t *testing.T) {
	equal(t, "environment", output(t, []string{"--env", "A=1"}, "env"), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nA=1\nHOME=/root")
}

func TestDescriptorsAreThree(t *testing.T) {
	out := output(t, nil, "ls", "/proc/self/fd")
	equal(t, "descriptors (3 is the directory that ls reads)", strings.Join(strings.Fields(out), " "), "0 1 2 3")
	id := detached(t, shared.daemon, nil, "sleep", "1000")
	inits := must(t, shared.daemon, "task", "exec", "--exec-id", "e", id, "sh", "-c", "ls /proc/1/fd; ls /proc/self/fd")
	equal(t, "descriptors of init and of an exec", strings.Join(strings.Fields(inits), " "), "0 1 2 0 1 2 3")
}

func TestSignalsAreReset(t *testing.T) {
	for _, text := range []string{
		output(t, nil, "cat", "/proc/self/status"),
		must(t, shared.daemon, "task", "exec", "--exec-id", "e", detached(t, shared.daemon, nil, "sleep", "1000"), "cat", "/proc/self/status"),
	} {
		equal(t, "blocked signals", status(t, text, "SigBlk"), "0000000000000000")
		equal(t, "ignored signals", status(t, text, "SigIgn"), "0000000000000000")
		equal(t, "pending signals", status(t, text, "ShdPnd"), "0000000000000000")
		equal(t, "umask", status(t, text, "Umask"), "0022")
		equal(t, "tracer", status(t, text, "TracerPid"), "0")
	}
}

func TestTimerSlackAndSession(t *testing.T) {
	equal(t, "timer slack", output(t, nil, "cat", "/proc/self/timerslack_ns"), "50000")
	fields := strings.Fields(output(t, nil, "sh", "-c", "cat /proc/$$/stat"))
	equal(t, "process group of init", fields[4], "1")
	equal(t, "session of init", fields[5], "1")
	equal(t, "parent of init", fields[3], "0")
	equal(t, "nice value", fields[18], "0")
}

func TestMountsAreTheSpecs(t *testing.T) {
	out := output(t, nil, "cat", "/proc/self/mountinfo")
	var points []string
	for line := range strings.Lines(out) {
		points = append(points, strings.Fields(line)[4])
		if strings.Contains(line, " shared:") || strings.Contains(line, " master:") {
			t.Errorf("a mount propagates: %s", line)
		}
	}
	all := " " + strings.Join(points, " ") + " "
	for _, want := range []string{"/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/run"} {
		contains(t, "mount points", all, " "+want+" ")
	}
	if strings.Contains(out, shared.scratch) && !strings.Contains(out, "overlay") {
		t.Error("a mount of the host is visible")
	}
	equal(t, "files in /", output(t, nil, "ls", "/"), "bin\ndev\netc\nhome\nproc\nroot\nrun\nsys\ntmp\nusr\nvar")
}

// specOf returns containerd's default spec with a root file system of ours.
func specOf(t *testing.T, rootfs string, args ...string) map[string]any {
	t.Helper()
	var spec map[string]any
	if err := json.Unmarshal([]byte(must(t, shared.daemon, "oci", "spec")), &spec); err != nil {
		t.Fatal(err)
	}
	spec["root"] = map[string]any{"path": rootfs}
	process := spec["process"].(map[string]any)
	process["args"] = args
	process["env"] = []string{"PATH=/bin"}
	id := newID(t, shared.daemon)
	spec["linux"].(map[string]any)["cgroupsPath"] = "/" + shared.daemon.Namespace + "/" + id
	spec["id"] = id // not of the spec: taken out by runSpec
	return spec
}

// runSpec runs a container from a whole config.
func runSpec(t *testing.T, spec map[string]any, flags ...string) result {
	t.Helper()
	id := spec["id"].(string)
	delete(spec, "id")
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"run", "--rm", "--runtime", *runtimeFlag, "--config", file}, flags...)
	return ctr(t, shared.daemon, append(args, id)...)
}

func TestOOMScoreAdjOfTheSpec(t *testing.T) {
	spec := specOf(t, shared.rootfs, "cat", "/proc/self/oom_score_adj")
	spec["process"].(map[string]any)["oomScoreAdj"] = 567
	r := runSpec(t, spec)
	equal(t, "oom_score_adj", r.stdout+r.stderr, "567\n")
}

// TestLimitOfDescriptorsIsTheOriginal: Go programs raise their own soft limit; what they raised must not reach a container that
// sets none.
func TestLimitOfDescriptorsIsTheOriginal(t *testing.T) {
	spec := specOf(t, shared.rootfs, "sh", "-c", "ulimit -Sn")
	delete(spec["process"].(map[string]any), "rlimits")
	id := spec["id"].(string)
	delete(spec, "id")
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	d := ownDaemon(t, func(c *containerdtest.Config) { c.NoFile = 2222 })
	r := ctr(t, d, "run", "--rm", "--runtime", *runtimeFlag, "--config", file, id)
	soft, err := strconv.Atoi(strings.TrimSpace(r.stdout))
	if err != nil {
		t.Fatalf("%q %q: %v", r.stdout, r.stderr, err)
	}
	if *containerdFlag == "containerd-1.6" {
		t.Skip("containerd 1.6 is built with a Go that does not give its children the limit that it was started with")
	}
	equal(t, "soft limit", soft, 2222)
}
