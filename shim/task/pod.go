package task

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/config"
)

// Pod is a sandbox, as far as the containers of its shim have to do with it.
type Pod struct {
	// ID is the sandbox's. A container of this name is the sandbox's own, and no task.
	ID string
	// Edit may change the config of a container before it is made. Its error is Create's.
	Edit func(*specs.Spec) error
	// OnEvent is told of the sandbox's own container, under the conditions of engine.Options.
	OnEvent func(engine.Event)
}

// Enter makes the shim that of a pod: it stays, without a task too, until Withdraw or Leave. The options are those of the pod's
// containers, whose engine it returns.
func (s *Service) Enter(p *Pod, o config.Options) (*engine.Engine, error) {
	e, err := s.engineAt(o.StateRoot(s.cfg.Namespace))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, refuse(engine.FailedPrecondition, "shim is shutting down")
	case s.pod != nil:
		return nil, refuse(engine.AlreadyExists, fmt.Sprintf("sandbox %s", s.pod.ID))
	case s.tasks[p.ID] != nil:
		return nil, refuse(engine.AlreadyExists, fmt.Sprintf("container %s", p.ID))
	}
	s.pod = p
	return e, nil
}

// Withdraw undoes Enter.
func (s *Service) Withdraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pod = nil
}

// Leave ends what Enter began, and the shim when no task is left. Without a pod it is Shutdown.
func (s *Service) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pod, s.leave = nil, true
	s.leaveLocked()
}

// End kills every task and waits for their ends. They remain to be deleted.
func (s *Service) End(ctx context.Context) error {
	s.mu.Lock()
	var all []*task
	for _, t := range s.tasks {
		all = append(all, t)
	}
	s.mu.Unlock()
	var errs []error
	for _, t := range all {
		select {
		case <-t.settled:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !t.isReady() {
			continue // nothing is left of it
		}
		if err := t.container.Kill(ctx, "", uint32(unix.SIGKILL), true); err != nil && !ended(err) {
			errs = append(errs, fmt.Errorf("kill container %s: %w", t.id, err))
		}
	}
	for _, t := range all {
		if !t.isReady() {
			continue
		}
		if _, err := t.container.Wait(ctx, ""); err != nil && !ended(err) {
			errs = append(errs, fmt.Errorf("wait for container %s: %w", t.id, err))
		}
	}
	return errors.Join(errs...)
}

// ended tells whether an error says that there is nothing left to end.
func ended(err error) bool {
	var e *engine.Error
	return errors.As(err, &e) && (e.Kind == engine.NotFound || e.Kind == engine.FailedPrecondition)
}

// podEdit is what the pod, if there is one, changes in configs.
func (s *Service) podEdit() func(*specs.Spec) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pod == nil {
		return nil
	}
	return s.pod.Edit
}
