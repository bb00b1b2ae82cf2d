package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// restartScript asks for a restart, and waits for it.
const restartScript = `#!/bin/sh
cd %q
[ ! -e refuse ] || exit 1
touch asked
while [ -e asked ]; do sleep 0.05; done
`

// Manager restarts a containerd when a script asks for it, as a machine's service manager does. Close it.
type Manager struct {
	d             *containerdtest.Daemon
	dir           string
	restarts      atomic.Int64
	errs          []error
	done, stopped chan struct{}
}

// NewManager begins to serve restart.sh of dir, which must exist. While a file `refuse` is there, the script fails.
func NewManager(d *containerdtest.Daemon, dir string) (*Manager, error) {
	if err := os.WriteFile(filepath.Join(dir, "restart.sh"), fmt.Appendf(nil, restartScript, dir), 0o755); err != nil {
		return nil, err
	}
	m := &Manager{d: d, dir: dir, done: make(chan struct{}), stopped: make(chan struct{})}
	go m.serve()
	return m, nil
}

// serve ends when done is closed.
func (m *Manager) serve() {
	defer close(m.stopped)
	asked := filepath.Join(m.dir, "asked")
	for {
		select {
		case <-m.done:
			return
		case <-time.After(20 * time.Millisecond):
		}
		if _, err := os.Stat(asked); err != nil {
			continue
		}
		m.restarts.Add(1)
		m.errs = append(m.errs, m.d.Terminate(), m.d.Launch(), os.Remove(asked))
	}
}

// Restarts tells how often containerd was restarted so far.
func (m *Manager) Restarts() int { return int(m.restarts.Load()) }

// Close ends the service and tells what went wrong.
func (m *Manager) Close() error {
	close(m.done)
	<-m.stopped
	return errors.Join(m.errs...)
}
