package engine

import (
	"errors"
	"os"

	"github.com/gosuda/gosudacon/runtime/internal/cgroup"
	"github.com/gosuda/gosudacon/runtime/internal/hold"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// What containers of a pod share; see Engine.Hold.
type (
	HoldRequest = hold.Request
	Held        = hold.Thread
	IDMaps      = hold.IDMaps
	IDMap       = plan.IDMap
)

// Hold makes namespaces for containers to join, and keeps them without a process until the caller closes them, or is gone.
func (e *Engine) Hold(r HoldRequest) (*Held, error) {
	t, err := hold.Start(r, int(e.host.Proc.Fd()))
	return t, explain(err)
}

// InUserNS tells whether this process is in a user namespace that somebody has made.
func (e *Engine) InUserNS() bool { return e.host.InUserNS }

// Figures reads the figures of a cgroup that somebody else has made, such as a pod's. Its methods may be called from several
// goroutines.
type Figures struct{ cgroup *cgroup.Cgroup }

// Figures returns a reader for the cgroup at an absolute path of every hierarchy, without touching it. The caller closes it.
func (e *Engine) Figures(path string) (*Figures, error) {
	c, err := cgroup.At(e.cgroups, path)
	if err != nil {
		return nil, errorf(InvalidArgument, err, "%v", err)
	}
	return &Figures{c}, nil
}

// Stats reads the figures. It keeps files open until Close.
func (f *Figures) Stats() (*Stats, error) {
	s := &Stats{}
	switch err := f.cgroup.Stats(s); {
	case errors.Is(err, os.ErrNotExist):
		f.cgroup.Close() // it may come to be, with files that are missing now
		return nil, errorf(NotFound, err, "read stats: %v", err)
	case err != nil:
		return nil, errorf(Internal, err, "read stats: %v", err)
	}
	return s, nil
}

// Close closes the files that Stats keeps open.
func (f *Figures) Close() { f.cgroup.Close() }
