package task

import (
	"context"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/engine"
	api "github.com/gosuda/gosudacon/shim/internal/taskapi"
)

// Pause freezes all processes of a container.
func (s *Service) Pause(ctx context.Context, r *api.ContainerRequest) error {
	t, err := s.task(r.ID)
	if err != nil {
		return err
	}
	return t.container.Pause(ctx)
}

// Resume thaws all processes of a container.
func (s *Service) Resume(ctx context.Context, r *api.ContainerRequest) error {
	t, err := s.task(r.ID)
	if err != nil {
		return err
	}
	return t.container.Resume(ctx)
}

// Update changes the resource limits that the request names.
func (s *Service) Update(ctx context.Context, r *api.UpdateTaskRequest) error {
	t, err := s.task(r.ID)
	if err != nil {
		return err
	}
	var resources specs.LinuxResources
	if err := engine.Decode(r.Resources.Value, &resources); err != nil {
		return refuse(engine.InvalidArgument, fmt.Sprintf("decode resources of container %s: %v", r.ID, err))
	}
	return t.container.Update(ctx, &resources)
}
