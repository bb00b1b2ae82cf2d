package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gosuda/gosudacon/e2e/shimdrive"
)

// The rows of the table, in its order.
const (
	workShimStart  = "shim start"
	workCreate     = "create"
	workStart      = "start"
	workDelete     = "delete"
	workVerb       = "delete verb"
	workTask       = "create to delete of true, own shim"
	workLife       = "life of true, own shim, with both verbs"
	workPodLife    = "life of true, in a pod's shim"
	workExec       = "exec to delete of true"
	workRun        = "command line: run of true"
	memPrivate     = "shim, private"
	memPSS         = "shim, PSS"
	memRSS         = "shim, RSS"
	memPSSCreated  = "shim + created init, PSS"
	podAnnotation  = "io.containerd.runc.v2.group"
	patience       = 30 * time.Second
	execsPerRound  = 3
	podLivesARound = 3
)

var works = []string{workShimStart, workCreate, workStart, workDelete, workVerb, workTask, workLife, workPodLife, workExec, workRun, memPrivate, memPSS, memRSS, memPSSCreated}

// measurements are the timed ones. cost divides the number of rounds.
var measurements = []struct {
	title string
	cost  int
	run   func(*rig, context.Context, contender, func(work string, d time.Duration)) error
}{
	{"own shim", 1, (*rig).ownShim},
	{"pod", 3, (*rig).pod},
	{"exec", 3, (*rig).exec},
	{"command line", 1, (*rig).commandLine},
}

// rig is what every measurement needs.
type rig struct {
	host                   *shimdrive.Host
	dir, rootfs, namespace string
	count                  int
	alive                  map[string]alive // shims, by their first container's id
}

// alive is what it takes to end a shim when the measurement is cut off.
type alive struct {
	binary shimdrive.Binary
	bundle *shimdrive.Bundle
	pid    uint32
}

// close ends the shims that a measurement which was cut off has left, and removes their containers and the parents of their cgroups.
func (r *rig) close() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, a := range r.alive {
		_ = unix.Kill(int(a.pid), unix.SIGKILL)
		_ = shimdrive.Reap(int(a.pid))
		_, deleteErr := r.host.Delete(ctx, a.binary, a.bundle)
		_, closeErr := a.bundle.Close()
		err = errors.Join(err, deleteErr, closeErr)
	}
	r.removeCgroupParents()
	return err
}

// container is one container of one shim, as far as containerd prepares it.
type container struct {
	id      string
	bundle  *shimdrive.Bundle
	request *taskapi.CreateTaskRequest
	layer   string // upper and work directory of its overlay
}

// prepare does what containerd does before it calls the shim, and is not timed.
func (r *rig) prepare(c contender, pod string, args ...string) (*container, error) {
	id := r.newID()
	opts := []oci.SpecOpts{oci.WithProcessArgs(args...), oci.WithCgroup("/" + r.namespace + "/" + id)}
	if pod != "" {
		opts = append(opts, oci.WithAnnotations(map[string]string{podAnnotation: pod}))
	}
	spec, err := shimdrive.Spec(r.namespace, id, opts...)
	if err != nil {
		return nil, fmt.Errorf("generate spec: %w", err)
	}
	config, err := shimdrive.Config(spec)
	if err != nil {
		return nil, err
	}
	bundle, err := r.host.NewBundle(id, config)
	if err != nil {
		return nil, err
	}
	layer := filepath.Join(r.dir, "layers", id)
	for _, d := range []string{"upper", "work"} {
		if err := os.MkdirAll(filepath.Join(layer, d), 0o755); err != nil {
			return nil, err
		}
	}
	return &container{id: id, bundle: bundle, layer: layer, request: &taskapi.CreateTaskRequest{
		ID:      id,
		Bundle:  bundle.Path,
		Options: c.binary.Options,
		Rootfs: []*types.Mount{{Type: "overlay", Source: "overlay", Options: []string{
			"lowerdir=" + r.rootfs, "upperdir=" + layer + "/upper", "workdir=" + layer + "/work"}}},
	}}, nil
}

func (r *rig) newID() string {
	r.count++
	return fmt.Sprintf("b%d", r.count)
}

// discard removes what prepare made.
func (c *container) discard() error {
	_, err := c.bundle.Close()
	return errors.Join(err, os.RemoveAll(c.layer))
}

// ownShim times the life of a container that has a shim of its own, with every call that containerd makes for it.
func (r *rig) ownShim(ctx context.Context, c contender, took func(string, time.Duration)) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	box, err := r.prepare(c, "", "/bin/true")
	if err != nil {
		return err
	}
	defer func() {
		if _, cutOff := r.alive[box.id]; !cutOff {
			err = errors.Join(err, box.discard())
		}
	}()
	begin := time.Now()
	shim, err := r.host.Start(ctx, c.binary, box.bundle)
	if err != nil {
		return err
	}
	took(workShimStart, time.Since(begin))
	asked := time.Now()
	pid, err := shimPid(ctx, shim, box.id)
	if err != nil {
		return err
	}
	extra := time.Since(asked) // containerd does not ask for the shim's pid: not counted
	r.alive[box.id] = alive{c.binary, box.bundle, pid}
	task := time.Now()
	if err := box.live(ctx, shim, took); err != nil {
		return err
	}
	took(workTask, time.Since(task))
	if err := shim.Shutdown(ctx, box.id); err != nil {
		return err
	}
	verb := time.Now()
	if _, err := r.host.Delete(ctx, c.binary, box.bundle); err != nil {
		return err
	}
	took(workVerb, time.Since(verb))
	took(workLife, time.Since(begin)-extra)
	delete(r.alive, box.id)
	return shimdrive.Reap(int(pid))
}

// live creates, starts and deletes a container whose process ends by itself.
func (c *container) live(ctx context.Context, shim *shimdrive.Shim, took func(string, time.Duration)) error {
	t := time.Now()
	if _, err := shim.Task.Create(ctx, c.request); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	took(workCreate, time.Since(t))
	ended := make(chan error, 1)
	go func() {
		_, err := shim.Task.Wait(ctx, &taskapi.WaitRequest{ID: c.id})
		ended <- err
	}()
	t = time.Now()
	if _, err := shim.Task.Start(ctx, &taskapi.StartRequest{ID: c.id}); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	took(workStart, time.Since(t))
	if err := <-ended; err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	t = time.Now()
	if _, err := shim.Task.Delete(ctx, &taskapi.DeleteRequest{ID: c.id}); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	took(workDelete, time.Since(t))
	return nil
}

func shimPid(ctx context.Context, shim *shimdrive.Shim, id string) (uint32, error) {
	r, err := shim.Task.Connect(ctx, &taskapi.ConnectRequest{ID: id})
	if err != nil {
		return 0, fmt.Errorf("connect: %w", err)
	}
	return r.ShimPid, nil
}

// running is a container that runs until stop.
type running struct {
	*container
	shim *shimdrive.Shim
	pid  uint32 // of the shim
	init uint32
}

// launch starts a shim with a container that sleeps; created leaves it there.
func (r *rig) launch(ctx context.Context, c contender, pod string, created bool) (_ *running, err error) {
	box, err := r.prepare(c, pod, "/bin/sleep", "100000")
	if err != nil {
		return nil, err
	}
	shim, err := r.host.Start(ctx, c.binary, box.bundle)
	if err != nil {
		return nil, errors.Join(err, box.discard())
	}
	run := &running{container: box, shim: shim}
	if run.pid, err = shimPid(ctx, shim, box.id); err != nil {
		return nil, err
	}
	r.alive[box.id] = alive{c.binary, box.bundle, run.pid}
	answer, err := shim.Task.Create(ctx, box.request)
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	run.init = answer.Pid
	if created {
		return run, nil
	}
	_, err = shim.Task.Start(ctx, &taskapi.StartRequest{ID: box.id})
	return run, err
}

func (r *rig) stop(ctx context.Context, c contender, run *running) error {
	if _, err := run.shim.Task.Kill(ctx, &taskapi.KillRequest{ID: run.id, Signal: uint32(unix.SIGKILL), All: true}); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	if _, err := run.shim.Task.Wait(ctx, &taskapi.WaitRequest{ID: run.id}); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if _, err := run.shim.Task.Delete(ctx, &taskapi.DeleteRequest{ID: run.id}); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if err := run.shim.Shutdown(ctx, run.id); err != nil {
		return err
	}
	delete(r.alive, run.id)
	_, err := r.host.Delete(ctx, c.binary, run.bundle)
	return errors.Join(err, shimdrive.Reap(int(run.pid)), run.discard())
}

// pod times containers in a shim that lives already, as the second and later containers of a pod do: containerd connects to it without
// the start verb, and executes the delete verb all the same.
func (r *rig) pod(ctx context.Context, c contender, took func(string, time.Duration)) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sandbox, err := r.launch(ctx, c, fmt.Sprintf("pod%d", r.count), false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop(ctx, c, sandbox)) }()
	for range podLivesARound {
		box, err := r.prepare(c, "", "/bin/true")
		if err != nil {
			return err
		}
		begin := time.Now()
		shim, err := sandbox.shim.Connect()
		if err != nil {
			return err
		}
		if err := box.live(ctx, shim, func(string, time.Duration) {}); err != nil {
			return err
		}
		if err := shim.Shutdown(ctx, box.id); err != nil {
			return err
		}
		if _, err := r.host.Delete(ctx, c.binary, box.bundle); err != nil {
			return err
		}
		took(workPodLife, time.Since(begin))
		if err := box.discard(); err != nil {
			return err
		}
	}
	return nil
}

// exec times processes in a running container.
func (r *rig) exec(ctx context.Context, c contender, took func(string, time.Duration)) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	run, err := r.launch(ctx, c, "", false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop(ctx, c, run)) }()
	process, err := json.Marshal(specs.Process{Args: []string{"/bin/true"}, Env: []string{"PATH=/bin"}, Cwd: "/"})
	if err != nil {
		return err
	}
	spec := &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: process}
	for i := range execsPerRound + 1 {
		id := fmt.Sprintf("e%d", i)
		begin := time.Now()
		if _, err := run.shim.Task.Exec(ctx, &taskapi.ExecProcessRequest{ID: run.id, ExecID: id, Spec: spec}); err != nil {
			return fmt.Errorf("exec: %w", err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := run.shim.Task.Wait(ctx, &taskapi.WaitRequest{ID: run.id, ExecID: id})
			ended <- err
		}()
		if _, err := run.shim.Task.Start(ctx, &taskapi.StartRequest{ID: run.id, ExecID: id}); err != nil {
			return fmt.Errorf("start exec: %w", err)
		}
		if err := <-ended; err != nil {
			return fmt.Errorf("wait for exec: %w", err)
		}
		if _, err := run.shim.Task.Delete(ctx, &taskapi.DeleteRequest{ID: run.id, ExecID: id}); err != nil {
			return fmt.Errorf("delete exec: %w", err)
		}
		if i > 0 { // the first one warms the page cache
			took(workExec, time.Since(begin))
		}
	}
	return nil
}

// removeCgroupParents removes the directory that all containers' cgroups were in; runtimes leave parents.
func (r *rig) removeCgroupParents() {
	for _, pattern := range []string{"/sys/fs/cgroup/" + r.namespace, "/sys/fs/cgroup/*/" + r.namespace} {
		found, _ := filepath.Glob(pattern)
		for _, dir := range found {
			_ = unix.Rmdir(dir)
		}
	}
	for _, engine := range []string{"gosuda", "runc"} {
		_ = os.RemoveAll(filepath.Join("/run/containerd", engine, r.namespace)) // crun leaves a file there
	}
}

// commandLine times `run` of a bundle in the foreground, from executing it to its end; all runtimes get the same config.json.
func (r *rig) commandLine(ctx context.Context, c contender, took func(string, time.Duration)) error {
	id := r.newID()
	bundle := filepath.Join(r.dir, "bundle-"+id)
	if err := os.Mkdir(bundle, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(bundle)
	spec, err := shimdrive.Spec(r.namespace, id, oci.WithProcessArgs("/bin/true"), oci.WithRootFSPath(r.rootfs), oci.WithRootFSReadonly(),
		oci.WithCgroup("/"+r.namespace+"/"+id))
	if err != nil {
		return fmt.Errorf("generate spec: %w", err)
	}
	config, err := shimdrive.Config(spec)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.command, "--root", filepath.Join(r.dir, "state-"+c.name), "run", "--bundle", bundle, id)
	var said bytes.Buffer
	cmd.Stderr = &said
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, &said)
	}
	took(workRun, time.Since(began))
	return nil
}
