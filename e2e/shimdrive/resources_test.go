package shimdrive

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

func TestUpdateAndStats(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "sleep", "1000")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	created, err := create(t, shim, b)
	if err != nil {
		t.Fatal(err)
	}
	limit := int64(96 << 20)
	text, err := json.Marshal(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}})
	if err != nil {
		t.Fatal(err)
	}
	resources := &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources", Value: text}
	if _, err := shim.Task.Update(t.Context(), &taskapi.UpdateTaskRequest{ID: id, Resources: resources}); err != nil {
		t.Fatal(err)
	}
	v1 := filepath.Join("/sys/fs/cgroup/memory", s.namespace, id, "memory.limit_in_bytes")
	v2 := filepath.Join("/sys/fs/cgroup", s.namespace, id, "memory.max")
	got, err := os.ReadFile(v1)
	metrics := "io.containerd.cgroups.v1.Metrics"
	if errors.Is(err, os.ErrNotExist) {
		got, err = os.ReadFile(v2)
		metrics = "io.containerd.cgroups.v2.Metrics"
	}
	if err != nil || strings.TrimSpace(string(got)) != fmt.Sprint(limit) {
		t.Errorf("limit: %q, %v", got, err)
	}
	stats, err := shim.Task.Stats(t.Context(), &taskapi.StatsRequest{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Stats.TypeUrl != metrics || len(stats.Stats.Value) < 20 {
		t.Errorf("stats: %s with %d bytes, want %s", stats.Stats.TypeUrl, len(stats.Stats.Value), metrics)
	}
	pids, err := shim.Task.Pids(t.Context(), &taskapi.PidsRequest{ID: id})
	if err != nil || len(pids.Processes) != 1 || pids.Processes[0].Pid != created.Pid {
		t.Errorf("pids in created: %v, %v; init is %d", pids, err, created.Pid)
	}
}

// TestPidsOfStopped: an empty list would make a restarted containerd remove the task with its exit code, and an error containerd 1.7.
func TestPidsOfStopped(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "true")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	created, err := create(t, shim, b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	pids, err := shim.Task.Pids(t.Context(), &taskapi.PidsRequest{ID: id})
	if err != nil || len(pids.Processes) != 1 || pids.Processes[0].Pid != created.Pid {
		t.Errorf("pids: %v, %v; init was %d", pids, err, created.Pid)
	}
	if _, err := shim.Task.Stats(t.Context(), &taskapi.StatsRequest{ID: id}); err != nil {
		t.Errorf("stats of a stopped container, whose last figures were recorded: %v", err)
	}
}

func TestShimCgroup(t *testing.T) {
	s := newSetup(t)
	path := "/" + s.namespace + "/the-shim"
	for _, parent := range []string{"/sys/fs/cgroup" + path, "/sys/fs/cgroup/memory" + path} {
		if _, err := os.Stat(filepath.Dir(filepath.Dir(parent)) + "/cgroup.procs"); err == nil {
			if err := os.MkdirAll(parent, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	any, err := anypb.New(&options.Options{ShimCgroup: path})
	if err != nil {
		t.Fatal(err)
	}
	any.TypeUrl = "containerd.runc.v1.Options"
	s.binary.Options = any
	id, spec := s.spec(t, "true")
	b := s.bundle(t, id, config(t, spec))
	t.Cleanup(func() {
		s.reapAll(t)
		found, _ := filepath.Glob("/sys/fs/cgroup/*" + path)
		for _, dir := range append(found, "/sys/fs/cgroup"+path) {
			_ = os.Remove(dir)
		}
	})
	shim := s.started(t, b)
	r, err := shim.Task.Connect(t.Context(), &taskapi.ConnectRequest{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", r.ShimPid))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), ":memory:"+path+"\n") && !strings.Contains(string(text), "0::"+path+"\n") {
		t.Errorf("the shim's cgroups:\n%s", text)
	}
}

// TestRootfsMounts: the forms of a root file system that snapshotters hand out.
func TestRootfsMounts(t *testing.T) {
	s := newSetup(t)
	dir := filepath.Dir(s.rootfs)
	lower := make([]string, 90)
	for i := range lower {
		lower[i] = filepath.Join(dir, "layers", strings.Repeat("long", 12), fmt.Sprint(i), "fs")
		if err := os.MkdirAll(lower[i], 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(lower[i], fmt.Sprintf("layer%d", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	base := filepath.Join(filepath.Dir(filepath.Dir(lower[0])), "base", "fs") // beside the others, as a snapshotter has it
	if err := os.MkdirAll(base, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := containerdtest.WriteRootfs(base); err != nil {
		t.Fatal(err)
	}
	up := func(name string) string {
		path := filepath.Join(dir, "up", name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	overlay := func(name string, lowers ...string) *types.Mount {
		return &types.Mount{Type: "overlay", Source: "overlay", Options: []string{
			"lowerdir=" + strings.Join(lowers, ":"), "upperdir=" + up(name+"-upper"), "workdir=" + up(name+"-work")}}
	}
	for name, mount := range map[string]*types.Mount{
		"bind":               {Type: "bind", Source: s.rootfs, Options: []string{"rbind", "rw"}},
		"read-only bind":     {Type: "bind", Source: s.rootfs, Options: []string{"rbind", "ro"}},
		"overlay":            overlay("one", s.rootfs),
		"overlay of 91":      overlay("many", append(lower, base)...),
		"read-only overlay":  {Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + lower[0] + ":" + s.rootfs}},
		"overlay, index off": {Type: "overlay", Source: "overlay", Options: append(overlay("index", s.rootfs).Options, "index=off")},
		"overlay, metacopy":  {Type: "overlay", Source: "overlay", Options: append(overlay("meta", s.rootfs).Options, "metacopy=off")},
		"ext4 on loop":       loopMount(t, "ext4", "mke2fs", "-q", "-t", "ext4", "-d", s.rootfs, filepath.Join(dir, "ext4"), "16M"),
		"erofs on loop":      loopMount(t, "erofs", "mkfs.erofs", "--quiet", filepath.Join(dir, "erofs"), s.rootfs),
	} {
		t.Run(name, func(t *testing.T) {
			if mount == nil {
				t.Skip("the kernel has no loop devices, or not this file system")
			}
			id, spec := s.spec(t, "sh", "-c", "test -e /etc/motd && ls / | grep -c layer; test $? -lt 2")
			spec.Root.Path = "rootfs"
			b := s.bundle(t, id, config(t, spec))
			shim := s.started(t, b)
			if _, err := shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path, Rootfs: []*types.Mount{mount}}); err != nil {
				t.Fatal(err)
			}
			if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
				t.Fatal(err)
			}
			if exit, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: id}); err != nil || exit.ExitStatus != 0 {
				t.Errorf("wait: %v, %v", exit, err)
			}
			if _, err := shim.Task.Delete(t.Context(), &taskapi.DeleteRequest{ID: id}); err != nil {
				t.Errorf("delete: %v", err)
			}
			entries, err := os.ReadDir(filepath.Join(b.Path, "rootfs"))
			if err != nil || len(entries) > 0 {
				t.Errorf("the rootfs is still mounted: %v, %v", entries, err)
			}
		})
	}
}

// loopMount makes an image with a program, which names it in its arguments, and returns its mount, nil when the kernel cannot.
func loopMount(t *testing.T, fs, program string, args ...string) *types.Mount {
	t.Helper()
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil || !strings.Contains(string(known), "\t"+fs+"\n") {
		return nil
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s, of the packages that make test-containerd installs: %v: %s", program, err, out)
	}
	for _, image := range args {
		if filepath.Base(image) == fs && filepath.IsAbs(image) {
			return &types.Mount{Type: fs, Source: image, Options: []string{"loop"}}
		}
	}
	t.Fatalf("%s %v: no image", program, args)
	return nil
}

func TestDumpOfStacks(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "true")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	r, err := shim.Task.Connect(t.Context(), &taskapi.ConnectRequest{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(int(r.ShimPid), unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Connect(t.Context(), &taskapi.ConnectRequest{ID: id}); err != nil {
		t.Errorf("connect after SIGUSR1: %v", err)
	}
}
