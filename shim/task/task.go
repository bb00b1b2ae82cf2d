package task

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/config"
	"github.com/gosuda/gosudacon/shim/stdio"
)

// task is what the service knows of a container beyond what the engine knows.
type task struct {
	id, bundle string
	options    config.Options
	engine     *engine.Engine
	init       *process
	container  *engine.Container // set once, with ready
	settled    chan struct{}     // closed when Create has succeeded or everything is undone

	mu      sync.Mutex
	ready   bool           // Create has succeeded
	backlog []engine.Event // what happened before that
	created []byte         // the TaskCreate event, but for the pid; nil once published
	execs   map[string]*process
}

// process is the stdio of init or of an exec.
type process struct {
	exec                  string // "" for init
	stdin, stdout, stderr string
	terminal              bool

	starting    sync.Mutex // an exec's Start, which opens its stdio
	io          atomic.Pointer[stdio.IO]
	stdinClosed atomic.Bool // CloseIO may come before Start
}

// setReady makes the task visible and hands over what has happened in the meantime.
func (t *task) setReady(c *engine.Container, publish func(engine.Event)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.container, t.ready = c, true
	for _, e := range t.backlog {
		publish(e)
	}
	t.backlog = nil
}

func (t *task) isReady() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ready
}

// process returns init ("") or an exec.
func (t *task) process(exec string) (*process, error) {
	if exec == "" {
		return t.init, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.execs[exec]
	if p == nil {
		return nil, refuse(engine.NotFound, "process does not exist "+exec)
	}
	return p, nil
}

// addExec makes p's id taken.
func (t *task) addExec(p *process) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, taken := t.execs[p.exec]; taken {
		return refuse(engine.AlreadyExists, fmt.Sprintf("id %s", p.exec))
	}
	if t.execs == nil {
		t.execs = make(map[string]*process)
	}
	t.execs[p.exec] = p
	return nil
}

func (t *task) removeExec(exec string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.execs, exec)
}

// takeExecs returns the execs that nobody has deleted.
func (t *task) takeExecs() map[string]*process {
	t.mu.Lock()
	defer t.mu.Unlock()
	execs := t.execs
	t.execs = nil
	return execs
}

// attach gives p its stdio.
func (p *process) attach(o *stdio.IO) {
	p.io.Store(o)
	if p.stdinClosed.Load() {
		o.CloseStdin()
	}
}

func (p *process) closeStdin() {
	p.stdinClosed.Store(true)
	if o := p.io.Load(); o != nil {
		o.CloseStdin()
	}
}

// config says what stdio was asked for.
func (p *process) config(t *task, cfg *Config) stdio.Config {
	return stdio.Config{
		Stdin: p.stdin, Stdout: p.stdout, Stderr: p.stderr, Terminal: p.terminal,
		UID: int(t.options.IoUID), GID: int(t.options.IoGID),
		ContainerID: t.id, Namespace: cfg.Namespace,
		Start: t.engine.StartChild, Log: cfg.Log,
	}
}

// ends lends the container's side of o to the engine.
func ends(o *stdio.IO) engine.Stdio {
	in, out, err := o.ContainerEnds()
	return engine.Stdio{In: in, Out: out, Err: err}
}
