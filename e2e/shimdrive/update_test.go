package shimdrive

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/types/known/anypb"
)

// update asks for resources, given as JSON.
func update(t *testing.T, shim *Shim, id, resources string) error {
	t.Helper()
	any := &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources", Value: []byte(resources)}
	_, err := shim.Task.Update(t.Context(), &taskapi.UpdateTaskRequest{ID: id, Resources: any})
	return err
}

// controlFile returns the path of a file of a container's cgroup, and whether it is of cgroup v2.
func (s *setup) controlFile(id, controller, v1, v2 string) (path string, unified bool) {
	dir := filepath.Join("/sys/fs/cgroup", controller)
	if _, err := os.Stat(dir); err == nil {
		return filepath.Join(dir, s.namespace, id, v1), false
	}
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "unified")); err == nil { // both versions, and nobody has that controller for v1
		root = filepath.Join(root, "unified")
	}
	return filepath.Join(root, s.namespace, id, v2), true
}

// TestUpdateLive changes every kind of resource of a running container, one after the other. Afterwards the file says so, or the error
// names the property, and the kernel does not take the value from us either.
func TestUpdateLive(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "sleep", "1000")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	mustStart(t, shim, b)
	disk := firstDisk()
	major, minor, _ := strings.Cut(disk, ":")
	throttle := fmt.Sprintf(`{"blockIO":{"throttleWriteBpsDevice":[{"major":%s,"minor":%s,"rate":1048576}]}}`, major, minor)
	for _, test := range []struct {
		json, property, controller, v1, value1, v2, value2 string
	}{
		{`{"memory":{"limit":100663296}}`, "memory.limit", "memory", "memory.limit_in_bytes", "100663296", "memory.max", "100663296"},
		{`{"memory":{"limit":67108864,"swap":134217728}}`, "memory.swap", "memory", "memory.memsw.limit_in_bytes", "134217728", "memory.swap.max", "67108864"},
		{`{"memory":{"limit":201326592,"swap":201326592}}`, "memory.limit", "memory", "memory.limit_in_bytes", "201326592", "memory.max", "201326592"},
		{`{"memory":{"reservation":33554432}}`, "memory.reservation", "memory", "memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"},
		{`{"memory":{"limit":-1,"swap":-1}}`, "memory.limit", "memory", "memory.limit_in_bytes", "9223372036854771712", "memory.max", "max"},
		{`{"cpu":{"shares":512}}`, "cpu.shares", "cpu", "cpu.shares", "512", "cpu.weight", "59"},
		{`{"cpu":{"quota":50000,"period":100000}}`, "cpu.quota", "cpu", "cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"},
		{`{"cpu":{"quota":150000,"period":1000000}}`, "cpu.quota", "cpu", "cpu.cfs_period_us", "1000000", "cpu.max", "150000 1000000"},
		{`{"cpu":{"quota":-1}}`, "cpu.quota", "cpu", "cpu.cfs_quota_us", "-1", "cpu.max", "max 1000000"},
		{`{"cpu":{"cpus":"0"}}`, "cpu.cpus", "cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0"},
		{`{"cpu":{"mems":"0"}}`, "cpu.mems", "cpuset", "cpuset.mems", "0", "cpuset.mems", "0"},
		{`{"pids":{"limit":77}}`, "pids.limit", "pids", "pids.max", "77", "pids.max", "77"},
		{`{"pids":{"limit":-1}}`, "pids.limit", "pids", "pids.max", "max", "pids.max", "max"},
		{`{"blockIO":{"weight":200}}`, "blockIO.weight", "blkio", "blkio.bfq.weight", "200", "io.bfq.weight", "default 200"},
		{throttle, "blockIO.throttleWriteBpsDevice[0]", "blkio", "blkio.throttle.write_bps_device", disk + " 1048576", "io.max", disk + " wbps=1048576"},
		{`{"unified":{"memory.high":"67108864"}}`, `unified["memory.high"]`, "memory", "", "", "memory.high", "67108864"},
		{`{"unified":{"pids.max":"66"}}`, `unified["pids.max"]`, "pids", "", "", "pids.max", "66"},
		{`{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}`, "hugepageLimits[0]", "hugetlb", "hugetlb.2MB.limit_in_bytes", "4194304", "hugetlb.2MB.max", "4194304"},
	} {
		t.Run(test.json, func(t *testing.T) {
			err := update(t, shim, id, test.json)
			path, unified := s.controlFile(id, test.controller, test.v1, test.v2)
			value := test.value1
			if unified {
				value = test.value2
			}
			says := func() bool {
				text, _ := os.ReadFile(path)
				for line := range bytes.Lines(text) {
					if isWithin(string(line), value) {
						return true
					}
				}
				return false
			}
			if err == nil {
				if text, _ := os.ReadFile(path); !says() {
					t.Errorf("%s says %q, want %q", path, text, value)
				}
				return
			}
			t.Log("refused:", err)
			refused(t, err, nil, "linux.resources."+test.property)
			if !unified && test.v1 == "" {
				return // cgroup v1 has no such thing
			}
			if os.WriteFile(path, []byte(value), 0) == nil && says() {
				t.Errorf("the kernel does take %q in %s", value, path)
			}
		})
	}
	if _, err := shim.Task.State(t.Context(), &taskapi.StateRequest{ID: id}); err != nil {
		t.Error(err)
	}
}

// isWithin tells whether a line has all the words of a value.
func isWithin(line, value string) bool {
	words := strings.Fields(line)
	return !slices.ContainsFunc(strings.Fields(value), func(word string) bool { return !slices.Contains(words, word) })
}

// firstDisk returns the number of some disk, as MAJOR:MINOR.
func firstDisk() string {
	names, _ := filepath.Glob("/sys/block/*/dev")
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil {
			return strings.TrimSpace(string(text))
		}
	}
	return "0:0" // there is none, which the kernel will say
}

// TestUpdateRefused: what the kernel refuses is refused in its words, with the property's name, and changes nothing.
func TestUpdateRefused(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "sleep", "1000")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	mustCreate(t, shim, b)
	for _, state := range []string{"created", "running", "paused"} {
		switch state {
		case "running":
			if err := startInit(t.Context(), shim, b); err != nil {
				t.Fatal(err)
			}
		case "paused":
			if _, err := shim.Task.Pause(t.Context(), &taskapi.PauseRequest{ID: id}); err != nil {
				t.Fatal(err)
			}
		}
		if err := update(t, shim, id, `{"pids":{"limit":99}}`); err != nil {
			t.Errorf("%s: %v", state, err)
		}
		for _, test := range []struct{ json, property, words string }{
			{`{"cpu":{"cpus":"4095"}}`, "linux.resources.cpu.cpus", ""},
			{`{"cpu":{"cpus":"one"}}`, "linux.resources.cpu.cpus", ""},
			{`{"cpu":{"quota":1,"period":100000}}`, "linux.resources.cpu", "invalid argument"},
			{`{"cpu":{"period":10000000}}`, "linux.resources.cpu.period", "invalid argument"},
			{`{"unified":{"no.such.file":"1"}}`, `linux.resources.unified["no.such.file"]`, ""},
			{`{"hugepageLimits":[{"pageSize":"3MB","limit":1}]}`, "linux.resources.hugepageLimits[0]", ""},
		} {
			refused(t, update(t, shim, id, test.json), nil, test.property, test.words)
		}
		refused(t, update(t, shim, id, `{"pids": 1`), errdefs.ErrInvalidArgument, "resources")
		path, _ := s.controlFile(id, "pids", "pids.max", "pids.max")
		if text, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(text)) != "99" {
			t.Errorf("%s: pids.max is %q, %v", state, text, err)
		}
	}
}
