package task

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/gosuda/gosudacon/runtime/engine"
	api "github.com/gosuda/gosudacon/shim/internal/taskapi"
)

// Pause freezes all processes of a container.
func (s *Service) Pause(ctx context.Context, r *api.PauseRequest) (*emptypb.Empty, error) {
	t, err := s.task(r.ID)
	if err != nil {
		return nil, err
	}
	if err := t.container.Pause(ctx); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// Resume thaws all processes of a container.
func (s *Service) Resume(ctx context.Context, r *api.ResumeRequest) (*emptypb.Empty, error) {
	t, err := s.task(r.ID)
	if err != nil {
		return nil, err
	}
	if err := t.container.Resume(ctx); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// Update changes the resource limits that the request names.
func (s *Service) Update(ctx context.Context, r *api.UpdateTaskRequest) (*emptypb.Empty, error) {
	t, err := s.task(r.ID)
	if err != nil {
		return nil, err
	}
	var resources specs.LinuxResources
	if err := json.Unmarshal(r.Resources.GetValue(), &resources); err != nil {
		return nil, refuse(engine.InvalidArgument, fmt.Sprintf("decode resources of container %s: %v", r.ID, err))
	}
	if err := t.container.Update(ctx, &resources); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// Checkpoint says that it cannot.
func (s *Service) Checkpoint(_ context.Context, r *api.CheckpointTaskRequest) (*emptypb.Empty, error) {
	if _, err := s.task(r.ID); err != nil {
		return nil, err
	}
	return nil, refuse(engine.NotImplemented, "checkpoint is not implemented")
}
