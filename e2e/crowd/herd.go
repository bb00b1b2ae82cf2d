package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// settle is how long shims are left alone before they are looked at.
const settle = 3 * time.Second

// herd is the containers of one runtime.
type herd struct {
	daemon  *containerdtest.Daemon
	client  *client.Client
	ctx     context.Context
	runtime string
	rootfs  string
	width   int
	tasks   []client.Task
}

func newHerd(ctx context.Context, dir, runtime string, width int) (*herd, error) {
	h := &herd{runtime: runtime, rootfs: filepath.Join(dir, "rootfs"), width: width}
	if err := errors.Join(os.Mkdir(h.rootfs, 0o755), containerdtest.WriteRootfs(h.rootfs)); err != nil {
		return nil, err
	}
	var err error
	if h.daemon, err = startDaemon(dir); err != nil {
		return nil, err
	}
	h.ctx = namespaces.WithNamespace(ctx, h.daemon.Namespace)
	if h.client, err = client.New(h.daemon.Address()); err != nil {
		_, closeErr := h.daemon.Close()
		return nil, errors.Join(err, closeErr)
	}
	return h, nil
}

// close ends what still runs and tells what is left.
func (h *herd) close() ([]string, error) {
	err := h.end()
	h.client.Close()
	left, closeErr := h.daemon.Close()
	return left, errors.Join(err, closeErr)
}

// each calls f for all of n, width at a time, and returns how long that took.
func (h *herd) each(n int, f func(i int) error) (time.Duration, error) {
	begin := time.Now()
	next := make(chan int)
	errs := make([]error, n)
	var workers sync.WaitGroup
	for range h.width {
		workers.Go(func() {
			for i := range next {
				errs[i] = f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
	return time.Since(begin), errors.Join(errs...)
}

// start creates and starts n containers, in one shim when there is a group.
func (h *herd) start(n int, group string) (time.Duration, error) {
	h.tasks = make([]client.Task, n)
	return h.each(n, func(i int) (err error) {
		h.tasks[i], err = h.startOne(fmt.Sprintf("%s%d", h.runtime, i), group)
		return err
	})
}

func (h *herd) startOne(id, group string) (client.Task, error) {
	opts := []oci.SpecOpts{oci.WithProcessArgs("sleep", "100000"), oci.WithRootFSPath(h.rootfs), oci.WithEnv([]string{"PATH=/bin"})}
	if group != "" {
		opts = append(opts, oci.WithAnnotations(map[string]string{"io.containerd.runc.v2.group": group}))
	}
	c, err := h.client.NewContainer(h.ctx, id, client.WithRuntime("io.containerd."+h.runtime+".v2", nil), client.WithNewSpec(opts...))
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, err)
	}
	task, err := c.NewTask(h.ctx, cio.NullIO)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", id, err)
	}
	if err := task.Start(h.ctx); err != nil {
		return task, fmt.Errorf("start %s: %w", id, err)
	}
	return task, nil
}

// list asks containerd for all tasks, which asks every shim.
func (h *herd) list() (time.Duration, error) {
	begin := time.Now()
	r, err := h.client.TaskService().List(h.ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return 0, err
	}
	if len(r.Tasks) != len(h.tasks) {
		return 0, fmt.Errorf("list: %d tasks of %d", len(r.Tasks), len(h.tasks))
	}
	return time.Since(begin), nil
}

// exec runs true in every container.
func (h *herd) exec() (time.Duration, error) {
	return h.each(len(h.tasks), func(i int) error {
		p, err := h.tasks[i].Exec(h.ctx, "e", &specs.Process{Args: []string{"true"}, Cwd: "/", Env: []string{"PATH=/bin"}}, cio.NullIO)
		if err != nil {
			return fmt.Errorf("exec: %w", err)
		}
		exits, err := p.Wait(h.ctx)
		if err == nil {
			err = p.Start(h.ctx)
		}
		if err != nil {
			return fmt.Errorf("start exec: %w", err)
		}
		if exit := <-exits; exit.ExitCode() != 0 || exit.Error() != nil {
			return fmt.Errorf("exec: %d, %w", exit.ExitCode(), exit.Error())
		}
		_, err = p.Delete(h.ctx)
		return err
	})
}

// end kills and deletes the containers.
func (h *herd) end() error {
	_, err := h.stop()
	return err
}

func (h *herd) stop() (time.Duration, error) {
	tasks := h.tasks
	h.tasks = nil
	return h.each(len(tasks), func(i int) error {
		t := tasks[i]
		if t == nil {
			return nil
		}
		ctx := context.WithoutCancel(h.ctx)
		exits, err := t.Wait(ctx)
		if err == nil {
			err = t.Kill(ctx, syscall.SIGKILL)
		}
		if err == nil {
			<-exits
		}
		_, deleteErr := t.Delete(ctx)
		c, loadErr := h.client.LoadContainer(ctx, t.ID())
		if loadErr == nil {
			loadErr = c.Delete(ctx)
		}
		return errors.Join(err, deleteErr, loadErr)
	})
}

// life measures n containers from their start to their end.
func (h *herd) life(title, group string, n int, t *table) error {
	per := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) / float64(n) }
	put := func(work, unit string, v float64) { t.put(title, work, unit, h.runtime, v) }
	took, err := h.start(n, group)
	if err != nil {
		return err
	}
	put("create and start", "ms", per(took))
	time.Sleep(settle)
	all, err := shims(h.daemon.Namespace)
	if err != nil {
		return err
	}
	var sum footprint
	for _, pid := range all {
		f, err := look(pid)
		if err != nil {
			return err
		}
		sum.add(f)
	}
	put("shims", "", float64(len(all)))
	put("PSS of shims", "KiB", sum.pss/float64(n))
	put("private memory of shims", "KiB", sum.private/float64(n))
	put("file descriptors of shims", "", sum.files/float64(n))
	put("threads of shims", "", sum.threads/float64(n))
	if took, err = h.list(); err != nil {
		return err
	}
	put("list, all at once", "ms", per(took))
	if took, err = h.exec(); err != nil {
		return err
	}
	put("exec of true", "ms", per(took))
	if took, err = h.stop(); err != nil {
		return err
	}
	put("kill and delete", "ms", per(took))
	return nil
}

// statistics asks for the statistics of n containers every second.
func (h *herd) statistics(title, group string, n, seconds int, t *table) error {
	if _, err := h.start(n, group); err != nil {
		return err
	}
	ask := func() error {
		for _, task := range h.tasks {
			if _, err := task.Metrics(h.ctx); err != nil {
				return fmt.Errorf("metrics of %s: %w\n%s", task.ID(), err, tail(h.daemon.Log(), 5))
			}
		}
		return nil
	}
	all, err := shims(h.daemon.Namespace)
	if err != nil {
		return err
	}
	sum := func() (total footprint, err error) {
		for _, pid := range all {
			f, lookErr := look(pid)
			err = errors.Join(err, lookErr)
			total.add(f)
		}
		return total, err
	}
	for range 2 { // what is opened is open then
		if err := ask(); err != nil {
			return err
		}
	}
	before, err := sum()
	if err != nil {
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range seconds {
		<-tick.C
		if err := ask(); err != nil {
			return err
		}
	}
	after, err := sum()
	if err != nil {
		return err
	}
	put := func(work, unit string, v float64) { t.put(title, work, unit, h.runtime, v) }
	put("CPU time of shims per reading", "µs", float64(after.cpu-before.cpu)/float64(time.Microsecond)/float64(n*seconds))
	put("descriptors more after the readings", "", after.files-before.files)
	put("private memory per container, first", "KiB", before.private/float64(n))
	put("private memory per container, last", "KiB", after.private/float64(n))
	return h.end()
}

// tail returns the last lines of a text.
func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines-1):], "")
}
