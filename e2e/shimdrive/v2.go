package shimdrive

import (
	"context"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// v2 is a client of containerd.task.v2.Task, whose messages are those of v3 but for the name of their package.
type v2 struct{ client *ttrpc.Client }

func call[R any](ctx context.Context, c *ttrpc.Client, method string, request any) (*R, error) {
	var r R
	if err := c.Call(ctx, "containerd.task.v2.Task", method, request, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

func (v v2) State(ctx context.Context, r *taskapi.StateRequest) (*taskapi.StateResponse, error) {
	return call[taskapi.StateResponse](ctx, v.client, "State", r)
}

func (v v2) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	return call[taskapi.CreateTaskResponse](ctx, v.client, "Create", r)
}

func (v v2) Start(ctx context.Context, r *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	return call[taskapi.StartResponse](ctx, v.client, "Start", r)
}

func (v v2) Delete(ctx context.Context, r *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	return call[taskapi.DeleteResponse](ctx, v.client, "Delete", r)
}

func (v v2) Pids(ctx context.Context, r *taskapi.PidsRequest) (*taskapi.PidsResponse, error) {
	return call[taskapi.PidsResponse](ctx, v.client, "Pids", r)
}

func (v v2) Pause(ctx context.Context, r *taskapi.PauseRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, v.client, "Pause", r)
}

func (v v2) Resume(ctx context.Context, r *taskapi.ResumeRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, v.client, "Resume", r)
}

func (v v2) Checkpoint(ctx context.Context, r *taskapi.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, v.client, "Checkpoint", r)
}

func (v v2) Kill(ctx context.Context, r *taskapi.KillRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, v.client, "Kill", r)
}

func (v v2) Exec(ctx context.Context, r *taskapi.ExecProcessRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, v.client, "Exec", r)
}

func (v v2) ResizePty(ctx context.Context, r *taskapi.ResizePtyRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, v.client, "ResizePty", r)
}

func (v v2) CloseIO(ctx context.Context, r *taskapi.CloseIORequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, v.client, "CloseIO", r)
}

func (v v2) Update(ctx context.Context, r *taskapi.UpdateTaskRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, v.client, "Update", r)
}

func (v v2) Wait(ctx context.Context, r *taskapi.WaitRequest) (*taskapi.WaitResponse, error) {
	return call[taskapi.WaitResponse](ctx, v.client, "Wait", r)
}

func (v v2) Stats(ctx context.Context, r *taskapi.StatsRequest) (*taskapi.StatsResponse, error) {
	return call[taskapi.StatsResponse](ctx, v.client, "Stats", r)
}

func (v v2) Connect(ctx context.Context, r *taskapi.ConnectRequest) (*taskapi.ConnectResponse, error) {
	return call[taskapi.ConnectResponse](ctx, v.client, "Connect", r)
}

func (v v2) Shutdown(ctx context.Context, r *taskapi.ShutdownRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, v.client, "Shutdown", r)
}
