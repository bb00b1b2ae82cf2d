package restart

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// streams are the FIFOs of a process, made once and kept whoever reads them: what containerd's CRI plugin has for each container.
type streams struct {
	cio.Config
	keyboard *os.File // the writing end of stdin; nil without one

	mu   sync.Mutex
	text bytes.Buffer // of stdout, all readers together
	stop func()       // ends the reader
}

// newStreams makes the FIFOs in dir, and starts to read.
func newStreams(t *testing.T, dir string, terminal bool) *streams {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &streams{Config: cio.Config{Terminal: terminal, Stdout: filepath.Join(dir, "stdout")}}
	paths := []string{s.Stdout}
	if terminal {
		s.Stdin = filepath.Join(dir, "stdin")
		paths = append(paths, s.Stdin)
	} else {
		s.Stderr = filepath.Join(dir, "stderr")
		paths = append(paths, s.Stderr)
	}
	for _, path := range paths {
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.read(t)
	t.Cleanup(func() { s.leave() })
	return s
}

// read starts to read stdout and stderr, and opens stdin. As containerd does it waits for a writer: without one there is nothing to read,
// whatever the FIFO still holds.
func (s *streams) read(t *testing.T) {
	t.Helper()
	if s.Stdin != "" {
		var err error
		if s.keyboard, err = os.OpenFile(s.Stdin, os.O_RDWR|unix.O_NONBLOCK, 0); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var files []*os.File
	left := false
	var done sync.WaitGroup
	paths := []string{s.Stdout}
	if s.Stderr != "" {
		paths = append(paths, s.Stderr)
	}
	for _, path := range paths {
		done.Go(func() {
			f, err := os.Open(path)
			mu.Lock()
			files = append(files, f)
			late := left
			mu.Unlock()
			if err == nil && !late {
				s.copy(f)
			}
		})
	}
	s.stop = sync.OnceFunc(func() {
		mu.Lock()
		left = true
		for _, f := range files {
			f.SetReadDeadline(time.Now())
		}
		mu.Unlock()
		for _, path := range paths { // who still waits for a writer gets one
			if f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0); err == nil {
				defer f.Close()
			}
		}
		done.Wait()
		for _, f := range append(files, s.keyboard) {
			f.Close() // nil as well
		}
	})
}

// copy reads to the end, or until leave.
func (s *streams) copy(f *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		s.mu.Lock()
		s.text.Write(buf[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// leave closes the reader's ends; the FIFOs stay.
func (s *streams) leave() {
	if s.stop != nil {
		s.stop()
	}
}

func (s *streams) output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// The rest makes it a cio.IO, whose streams are not those of a client that comes and goes.
func (s *streams) create(string) (cio.IO, error)       { return direct{s.Config}, nil }
func (s *streams) attach(*cio.FIFOSet) (cio.IO, error) { return direct{s.Config}, nil }

type direct struct{ config cio.Config }

func (d direct) Config() cio.Config { return d.config }
func (direct) Cancel()              {}
func (direct) Wait()                {}
func (direct) Close() error         { return nil }

// box is a container with a task.
type box struct {
	id   string
	io   *streams
	pid  uint32
	born string // start time of init
}

// boxOptions are what is not the same for all boxes.
type boxOptions struct {
	terminal bool
	logger   string // path of a logger program, with which io is nil
	host     string // directory that is at /host
	runtime  string
}

// start creates and starts a container that runs a shell script.
func (w *world) start(t *testing.T, id, script string, o boxOptions) *box {
	t.Helper()
	b := &box{id: id}
	opts := []oci.SpecOpts{oci.WithProcessArgs("sh", "-c", script), oci.WithRootFSPath(w.rootfs), oci.WithEnv([]string{"PATH=/bin"})}
	var creator cio.Creator
	switch {
	case o.logger != "":
		creator = cio.BinaryIO(o.logger, nil)
	default:
		b.io = newStreams(t, filepath.Join(w.dir, "io", id), o.terminal)
		creator = b.io.create
	}
	if o.terminal {
		opts = append(opts, oci.WithTTY)
	}
	if o.host != "" {
		opts = append(opts, oci.WithMounts([]specs.Mount{{Destination: "/host", Type: "bind", Source: o.host, Options: []string{"rbind", "rw"}}}))
	}
	runtime := *runtimeFlag
	if o.runtime != "" {
		runtime = o.runtime
	}
	c, err := w.client.NewContainer(w.ctx, id, client.WithRuntime(runtime, nil), client.WithNewSpec(opts...))
	if err != nil {
		t.Fatalf("container %s: %v", id, err)
	}
	task, err := c.NewTask(w.ctx, creator)
	if err != nil {
		t.Fatalf("create %s: %v", id, err)
	}
	if err := task.Start(w.ctx); err != nil {
		t.Fatalf("start %s: %v", id, err)
	}
	b.pid, b.born = task.Pid(), bornAt(task.Pid())
	return b
}

// task finds a box's task as a client does that was not there when it was made.
func (w *world) task(t *testing.T, b *box) client.Task {
	t.Helper()
	task, err := w.find(b)
	if err != nil {
		t.Fatalf("find %s: %v", b.id, err)
	}
	return task
}

func (w *world) find(b *box) (client.Task, error) {
	c, err := w.client.LoadContainer(w.ctx, b.id)
	if err != nil {
		return nil, err
	}
	return c.Task(w.ctx, nil)
}

// runs fails the test unless the box's init is the same process as ever, and containerd says that it runs.
func (w *world) runs(t *testing.T, b *box) {
	t.Helper()
	task, err := w.find(b)
	if err != nil {
		t.Errorf("find %s: %v", b.id, err)
		return
	}
	status, err := task.Status(w.ctx)
	if err != nil {
		t.Errorf("status of %s: %v", b.id, err)
		return
	}
	equal(t, "status of "+b.id, status.Status, client.Running)
	equal(t, "pid of "+b.id, task.Pid(), b.pid)
	if now := bornAt(b.pid); now == "" || now != b.born {
		t.Errorf("init of %s, process %d, started at %q, not at %q", b.id, b.pid, now, b.born)
	}
}

// ended waits for the exit of a box, deletes it and fails the test unless both report the code.
func (w *world) ended(t *testing.T, b *box, code uint32) {
	t.Helper()
	task, err := w.find(b)
	if err != nil {
		t.Errorf("find %s, which has ended with %d: %v", b.id, code, err)
		w.forget(t, b)
		return
	}
	exit := wait(t, w.ctx, task, b.id)
	equal(t, "exit code of "+b.id, exit.ExitCode(), code)
	deleted, err := task.Delete(w.ctx)
	if err != nil {
		t.Errorf("delete %s: %v", b.id, err)
		return
	}
	equal(t, "exit code of "+b.id+" at its delete", deleted.ExitCode(), code)
	w.forget(t, b)
}

// forget removes the container's metadata.
func (w *world) forget(t *testing.T, b *box) {
	t.Helper()
	c, err := w.client.LoadContainer(w.ctx, b.id)
	if err == nil {
		err = c.Delete(w.ctx)
	}
	if err != nil {
		t.Errorf("delete container %s: %v", b.id, err)
	}
	for _, l := range w.OfContainer(b.id) {
		t.Errorf("left behind: %s", l)
	}
}

// end sends SIGTERM and expects the code.
func (w *world) terminate(t *testing.T, b *box, code uint32) {
	t.Helper()
	if err := w.task(t, b).Kill(w.ctx, syscall.SIGTERM); err != nil {
		t.Errorf("kill %s: %v", b.id, err)
	}
	w.ended(t, b, code)
}

// waiter is a task or a process of one.
type waiter interface {
	Wait(context.Context) (<-chan client.ExitStatus, error)
}

func wait(t *testing.T, ctx context.Context, p waiter, what string) client.ExitStatus {
	t.Helper()
	exits, err := p.Wait(ctx)
	if err != nil {
		t.Fatalf("wait for %s: %v", what, err)
	}
	select {
	case exit := <-exits:
		if err := exit.Error(); err != nil {
			t.Errorf("wait for %s: %v", what, err)
		}
		return exit
	case <-time.After(time.Minute):
		t.Fatalf("%s does not end", what)
		return client.ExitStatus{}
	}
}

// exec starts a shell script in a box.
func (w *world) exec(t *testing.T, b *box, id, script string) (client.Process, *streams) {
	t.Helper()
	s := newStreams(t, filepath.Join(w.dir, "io", b.id+"-"+id), false)
	p, err := w.task(t, b).Exec(w.ctx, id, &specs.Process{Args: []string{"sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/bin"}}, s.create)
	if err != nil {
		t.Fatalf("exec %s: %v", id, err)
	}
	if err := p.Start(w.ctx); err != nil {
		t.Fatalf("start exec %s: %v", id, err)
	}
	return p, s
}

// bornAt returns the start time of a process, "" when it has ended.
func bornAt(pid uint32) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

// gone waits until a process has ended, reaped or not.
func gone(t *testing.T, pid uint32) {
	t.Helper()
	eventually(t, fmt.Sprintf("end of process %d", pid), func() bool { return bornAt(pid) == "" })
}
