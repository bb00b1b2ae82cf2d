package shimdrive

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1stats "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2stats "github.com/containerd/cgroups/v3/cgroup2/stats"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// hog asks for more memory than the containers of these tests have; the OOM killer ends it.
const hog = "dd if=/dev/zero of=/dev/null bs=300M count=1 2>/dev/null"

// limited is a running container with 48 MiB, and no swap beside it.
func limited(t *testing.T, s *setup, script string) (*Shim, *Bundle, uint32) {
	t.Helper()
	id, spec := s.spec(t, "sh", "-c", script)
	limit := int64(48 << 20)
	spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/host", Type: "bind", Source: filepath.Dir(s.rootfs), Options: []string{"rbind"}})
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	created, err := create(t, shim, b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	return shim, b, created.Pid
}

// oomKills returns what a container's figures say of it.
func oomKills(t *testing.T, shim *Shim, id string) uint64 {
	t.Helper()
	r, err := shim.Task.Stats(t.Context(), &taskapi.StatsRequest{ID: id})
	if err != nil {
		t.Fatalf("stats: %v", err)
	}
	var v1 v1stats.Metrics
	var v2 v2stats.Metrics
	switch r.Stats.TypeUrl {
	case "io.containerd.cgroups.v1.Metrics":
		err = proto.Unmarshal(r.Stats.Value, &v1)
		if err == nil && v1.MemoryOomControl == nil {
			t.Fatal("no memory.oom_control in the figures")
		}
	default:
		err = proto.Unmarshal(r.Stats.Value, &v2)
		if err == nil && v2.MemoryEvents == nil {
			t.Fatal("no memory.events in the figures")
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return v1.MemoryOomControl.GetOomKill() + v2.MemoryEvents.GetOomKill()
}

// TestOutOfMemory: one event for each kill by the OOM killer, before the exit, and the count until the container is deleted.
func TestOutOfMemory(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		code   uint32
		kills  int
	}{
		"init":               {"exec " + hog, 137, 1},
		"children":           {hog + "; " + hog + "; " + hog + "; exit 3", 3, 3},
		"child and init":     {hog + "; exec " + hog, 137, 2},
		"child as the last":  {hog + " & wait; exit 4", 4, 1},
		"nobody":             {"exit 5", 5, 0},
		"nobody, page cache": {"head -c 96M /dev/zero > /tmp/big; cat /tmp/big >/dev/null; rm /tmp/big; exit 6", 6, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t)
			shim, b, _ := limited(t, s, test.script)
			exit, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: b.ID})
			if err != nil || exit.ExitStatus != test.code {
				t.Errorf("wait: %v, %v; want status %d", exit, err, test.code)
			}
			for range 2 {
				if got := oomKills(t, shim, b.ID); got != uint64(test.kills) {
					t.Errorf("the figures after the exit tell of %d kills, want %d", got, test.kills)
				}
			}
			if _, err := shim.Task.Delete(t.Context(), &taskapi.DeleteRequest{ID: b.ID}); err != nil {
				t.Error(err)
			}
			s.WaitTopic("/tasks/delete", 20*time.Second)
			s.inOrder(t, slices.Concat([]string{"/tasks/create", "/tasks/start"}, slices.Repeat([]string{"/tasks/oom"}, test.kills), []string{"/tasks/exit", "/tasks/delete"}))
		})
	}
}

// inOrder compares the topics of all events.
func (s *setup) inOrder(t *testing.T, want []string) {
	t.Helper()
	if got := s.Topics(); !slices.Equal(got, want) {
		t.Errorf("events: %q, want %q", got, want)
	}
}

// TestOutOfMemoryOfOthers: a kill in a child cgroup is the container's, one of an exec is told while the container goes on, and
// another container hears nothing.
func TestOutOfMemoryOfOthers(t *testing.T) {
	s := newSetup(t)
	other, bystander, _ := limited(t, s, "sleep 1000")
	s.WaitTopic("/tasks/start", 20*time.Second)
	shim, b, pid := limited(t, s, "until [ -e /host/go ]; do sleep 0.02; done; "+hog+"; touch /host/done; sleep 1000")

	// As an init system in the container would, were it allowed to: a cgroup of its own below the container's.
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	dir := "/sys/fs/cgroup"
	if strings.Contains(string(text), ":memory:") {
		dir += "/memory"
	}
	child := filepath.Join(dir, s.namespace, b.ID, "child")
	if err := os.Mkdir(child, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []struct{ path, text string }{{filepath.Join(child, "cgroup.procs"), fmt.Sprint(pid)}, {filepath.Join(filepath.Dir(s.rootfs), "go"), ""}} {
		if err := os.WriteFile(file.path, []byte(file.text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for _, err := os.Stat(filepath.Join(filepath.Dir(s.rootfs), "done")); err != nil; _, err = os.Stat(filepath.Join(filepath.Dir(s.rootfs), "done")) {
		if time.Now().After(deadline) {
			t.Fatal("the hog lives")
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.WaitTopic("/tasks/oom", 20*time.Second)
	want := []string{"/tasks/create", "/tasks/start", "/tasks/create", "/tasks/start", "/tasks/oom"}
	s.inOrder(t, want)
	if _, err := shim.Task.Kill(t.Context(), &taskapi.KillRequest{ID: b.ID, Signal: uint32(unix.SIGKILL)}); err != nil {
		t.Fatal(err)
	}
	if exit, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: b.ID}); err != nil || exit.ExitStatus != 137 {
		t.Errorf("wait: %v, %v", exit, err)
	}
	s.WaitTopic("/tasks/exit", 20*time.Second)
	s.inOrder(t, append(want, "/tasks/exit"))
	if got := oomKills(t, other, bystander.ID); got != 0 {
		t.Errorf("the other container's figures tell of %d kills", got)
	}
}
