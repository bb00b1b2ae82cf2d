package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/internal/onecpu"
	"github.com/gosuda/gosudacon/runtime/engine"
)

func run(ctx context.Context, c *call) (int, error) {
	if c.opts.on("detach") {
		onecpu.Threads()
		return 0, c.runDetached(ctx)
	}
	r := engine.CreateRequest{Hold: true}
	if err := c.begin(&r); err != nil {
		return 0, err
	}
	defer r.Begun.Close()
	attendant := newAttendant(ctx)
	e, err := c.engine()
	if err != nil {
		return 0, err
	}
	r.Edit, r.Forked = c.reapFor(e), attendant.settle
	d, console, err := c.create(attendant.interruption, e, r, false)
	if err != nil {
		return 0, err
	}
	n, err := listenForReady(d)
	if err != nil {
		return 0, errors.Join(err, d.Delete(ctx, true))
	}
	defer n.close()
	start := func() error { return d.Start(ctx) }
	if n != nil {
		go func() { // a supervisor watches us, not the container
			if err := n.wait(ctx, d, os.Getpid()); err != nil {
				c.log.slog().Warn(err.Error())
			}
		}()
	}
	exit, err := attendant.attend(process{start: start, wait: d.Wait, console: console,
		signal: func(s unix.Signal) error { return d.Kill(ctx, s, false) }}, c.Streams)
	if err != nil || !c.opts.on("keep") {
		err = errors.Join(err, d.Delete(ctx, true))
	}
	return exit.Status, err
}

// reapFor returns what looks at a config and makes this process the reaper of the container's orphans, if it needs one.
func (c *call) reapFor(e *engine.Engine) func(*specs.Spec) error {
	return func(s *specs.Spec) error {
		if s.Hooks != nil || s.Linux != nil && len(s.Linux.UIDMappings) > 0 {
			onecpu.Threads() // hooks and newuidmap(1) are processes of ours; the container's takes all processors itself
		}
		if c.opts.on("no-subreaper") || ownPIDs(s) {
			return nil
		}
		return e.Reap() // what outlives its parent in there becomes our child
	}
}

// ownPIDs tells whether the container gets a pid namespace of its own, whose first process reaps all others.
func ownPIDs(s *specs.Spec) bool {
	return s.Linux != nil && slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.PIDNamespace && n.Path == ""
	})
}

func (c *call) runDetached(ctx context.Context) error {
	r := engine.CreateRequest{Hold: true}
	if err := c.begin(&r); err != nil {
		return err
	}
	defer r.Begun.Close()
	i := newInterruption(ctx)
	defer i.stop()
	e, err := c.engine()
	if err != nil {
		return err
	}
	d, _, err := c.create(i, e, r, true)
	if err != nil {
		return err
	}
	if err := startAndNotify(i, d); err != nil {
		return errors.Join(err, d.Delete(context.WithoutCancel(ctx), true))
	}
	return nil
}

// process is what attend stays with.
type process struct {
	start   func() error // may be nil
	wait    func() (engine.Exit, error)
	signal  func(unix.Signal) error
	console *os.File // owned; nil without a terminal
}

// attendant stays with a process in the foreground. Signals interrupt what makes the process; once it is there they go to it.
type attendant struct {
	*interruption
	once sync.Once
}

func newAttendant(ctx context.Context) *attendant {
	return &attendant{interruption: newInterruption(ctx)}
}

// catch catches the signals that the process is to get from its beginning.
func (a *attendant) catch() {
	a.once.Do(func() { a.notify(common) })
}

// settle is catch, and what else need not be done before the process is on its way.
func (a *attendant) settle() {
	a.catch()
	releaseSeal()
}

// attend starts the process, passes signals and the terminal on to it, and returns how it ended. On an error of start the
// process has ended too.
func (a *attendant) attend(p process, s Streams) (exit engine.Exit, err error) {
	a.catch()
	releaseSeal()
	var t *terminal
	winch := make(chan os.Signal, 1)
	if p.console != nil {
		signal.Notify(winch, unix.SIGWINCH)
		if t, err = s.attach(p.console); err != nil {
			p.signal(unix.SIGKILL)
			p.wait()
			return engine.Exit{}, err
		}
		defer t.close()
	}
	if p.start != nil {
		if err := p.start(); err != nil {
			return engine.Exit{}, err
		}
	}
	ended := make(chan struct{})
	go func() {
		exit, err = p.wait()
		close(ended)
	}()
	old := time.NewTimer(rareAfter)
	defer old.Stop()
	for {
		select {
		case <-ended:
			return exit, err
		case <-old.C:
			onecpu.Threads()
			onecpu.Leave()
			signal.Notify(a.signals, notIgnored(rare())...)
		case <-winch:
			t.resize()
		case sig := <-a.passed:
			p.signal(sig.(unix.Signal)) // it may have ended
		}
	}
}
