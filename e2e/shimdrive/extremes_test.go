package shimdrive

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"
)

// longest is how long containerd lets an id be, in bytes.
const longest = 76

// execSpec is the spec of an exec as a request carries it.
func execSpec(t *testing.T, env []string, args ...string) *anypb.Any {
	t.Helper()
	text, err := json.Marshal(&specs.Process{Args: args, Env: append([]string{"PATH=/bin"}, env...), Cwd: "/"})
	if err != nil {
		t.Fatal(err)
	}
	return &anypb.Any{Value: text}
}

// runExec runs an exec to its end and returns its exit status.
func runExec(t *testing.T, shim *Shim, id, exec string, spec *anypb.Any) (uint32, error) {
	t.Helper()
	if _, err := shim.Task.Exec(t.Context(), &taskapi.ExecProcessRequest{ID: id, ExecID: exec, Spec: spec}); err != nil {
		return 0, err
	}
	_, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id, ExecID: exec})
	var status uint32
	if err == nil {
		exit, waitErr := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: id, ExecID: exec})
		if waitErr != nil {
			t.Errorf("wait for exec %s: %v", exec, waitErr)
		}
		status = exit.GetExitStatus()
	}
	if _, err := shim.Task.Delete(t.Context(), &taskapi.DeleteRequest{ID: id, ExecID: exec}); err != nil {
		t.Errorf("delete exec %s: %v", exec, err)
	}
	return status, err
}

// TestBigRequests: a request of almost 4 MiB, which is as much as the protocol lets through, is carried out; a longer one is refused and
// the next is answered.
func TestBigRequests(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "sleep", "1000")
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	mustStart(t, shim, b)

	// 40 variables of 100 KB: the kernel takes a quarter of the stack's limit, 2 MiB, for arguments and environment.
	var env []string
	for i := range 40 {
		env = append(env, fmt.Sprintf("V%d=%s", i, strings.Repeat("x", 100_000)))
	}
	_, err := runExec(t, shim, id, "big", execSpec(t, env, "true"))
	refused(t, err, nil, "argument list too long")

	// The same length where the kernel does not look.
	text := strings.Repeat(" ", 4<<20-1000)
	padded := execSpec(t, nil, "sh", "-c", "exit 3")
	padded.Value = append(padded.Value, text[:len(text)-len(padded.Value)]...)
	if status, err := runExec(t, shim, id, "padded", padded); err != nil || status != 3 {
		t.Errorf("exec of 4 MiB: %d, %v", status, err)
	}
	padded.Value = append(padded.Value, text...)
	_, err = runExec(t, shim, id, "too-long", padded)
	refused(t, err, nil)
	if status, err := runExec(t, shim, id, "after", execSpec(t, nil, "sh", "-c", "exit 4")); err != nil || status != 4 {
		t.Errorf("exec after it: %d, %v", status, err)
	}
}

// TestBigEnvironment: 128 KiB of environment arrive, in init and in an exec. A single variable of 128 KiB is what the kernel refuses.
func TestBigEnvironment(t *testing.T) {
	s := newSetup(t)
	var env []string
	for i := range 32 {
		env = append(env, fmt.Sprintf("V%02d=%s", i, strings.Repeat("x", 4092)))
	}
	env = append(env, "ONE="+strings.Repeat("y", 128<<10-len("ONE=")-1)) // with its NUL as long as one can be
	count := fmt.Sprintf("test $(env | grep -c '^V[0-9][0-9]=x*$') = 32 && test ${#ONE} = %d", 128<<10-5)
	id, spec := s.spec(t, "sh", "-c", count+" && exec sleep 1000")
	spec.Process.Env = append(spec.Process.Env, env...)
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	mustStart(t, shim, b)
	if status, err := runExec(t, shim, id, "env", execSpec(t, env, "sh", "-c", count)); err != nil || status != 0 {
		t.Errorf("exec: %d, %v", status, err)
	}
	state, err := shim.Task.State(t.Context(), &taskapi.StateRequest{ID: id})
	if err != nil || state.ExitStatus != 0 {
		t.Errorf("init: %v, %v", state, err)
	}
	_, err = runExec(t, shim, id, "over", execSpec(t, []string{"ONE=" + strings.Repeat("y", 128<<10)}, "true"))
	refused(t, err, errdefs.ErrInvalidArgument, "process.env[1]", "131071")

	id, spec = s.spec(t, "true")
	spec.Process.Env = append(spec.Process.Env, "ONE="+strings.Repeat("y", 128<<10))
	b = s.bundle(t, id, config(t, spec))
	shim = s.started(t, b)
	_, err = create(t, shim, b)
	refused(t, err, errdefs.ErrInvalidArgument, fmt.Sprintf("process.env[%d]", len(spec.Process.Env)-1), "131071")
}

// TestManyMounts: a container with five thousand mounts has them all, and takes them with it. Each takes three descriptors until the process
// is executed, of which a shim has as many as RLIMIT_NOFILE allows.
func TestManyMounts(t *testing.T) {
	many := 5000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max/3 < 5500 {
		many = int(limit.Max)/3 - 100
		t.Logf("RLIMIT_NOFILE is %d here: %d mounts", limit.Max, many)
	}
	s := newSetup(t)
	id, spec := s.spec(t, "sh", "-c", fmt.Sprintf("test $(grep -c ' /many/' /proc/self/mountinfo) = %d && cat /many/%d >/dev/null", many, many-1))
	file := filepath.Join(filepath.Dir(s.rootfs), "file")
	if err := os.WriteFile(file, []byte("shared\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/many", Type: "tmpfs", Source: "tmpfs"})
	for i := range many {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: fmt.Sprintf("/many/%d", i), Type: "bind", Source: file, Options: []string{"bind", "ro"}})
	}
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	mustStart(t, shim, b)
	if exit, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: id}); err != nil || exit.ExitStatus != 0 {
		t.Errorf("wait: %v, %v", exit, err)
	}
}

// TestLongestIDs: ids of the longest form that containerd allows name containers and execs, and what is longer than a file's name can be is
// refused.
func TestLongestIDs(t *testing.T) {
	s := newSetup(t)
	_, spec := s.spec(t, "sleep", "1000")
	id := strings.Repeat("c-0.A_", longest)[:longest-1] + "z"
	spec.Linux.CgroupsPath = "/" + s.namespace + "/" + id
	b := s.bundle(t, id, config(t, spec))
	shim := s.started(t, b)
	mustStart(t, shim, b)
	exec := strings.Repeat("e", longest)
	if status, err := runExec(t, shim, id, exec, execSpec(t, nil, "sh", "-c", "exit 5")); err != nil || status != 5 {
		t.Errorf("exec: %d, %v", status, err)
	}
	_, err := shim.Task.Exec(t.Context(), &taskapi.ExecProcessRequest{ID: id, ExecID: strings.Repeat("e", 1025), Spec: execSpec(t, nil, "true")})
	refused(t, err, errdefs.ErrInvalidArgument, "exec")
	_, err = shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: strings.Repeat("c", 1025), Bundle: b.Path})
	refused(t, err, errdefs.ErrInvalidArgument)
}
