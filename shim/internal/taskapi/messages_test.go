package taskapi

import (
	"reflect"
	"testing"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gosuda/gosudacon/internal/wire"
)

// Every field that we know arrives as containerd's messages send it; those that we don't know do no harm.
func TestRequestsAreThoseOfContainerd(t *testing.T) {
	any := &anypb.Any{TypeUrl: "type.example/x.Y", Value: []byte{1, 2}}
	ours := wire.Any{TypeURL: any.TypeUrl, Value: any.Value}
	for _, c := range []struct {
		theirs proto.Message
		got    wire.Decoder
		want   wire.Decoder
	}{
		{&task.PidsRequest{ID: "c"}, &ContainerRequest{}, &ContainerRequest{"c"}},
		{&task.PauseRequest{ID: "c"}, &ContainerRequest{}, &ContainerRequest{"c"}},
		{&task.ResumeRequest{ID: "c"}, &ContainerRequest{}, &ContainerRequest{"c"}},
		{&task.StatsRequest{ID: "c"}, &ContainerRequest{}, &ContainerRequest{"c"}},
		{&task.ConnectRequest{ID: "c"}, &ContainerRequest{}, &ContainerRequest{"c"}},
		{&task.ShutdownRequest{ID: "c", Now: true}, &ContainerRequest{}, &ContainerRequest{"c"}},
		{&task.StateRequest{ID: "c", ExecID: "e"}, &ProcessRequest{}, &ProcessRequest{"c", "e"}},
		{&task.StartRequest{ID: "c", ExecID: "e"}, &ProcessRequest{}, &ProcessRequest{"c", "e"}},
		{&task.DeleteRequest{ID: "c", ExecID: "e"}, &ProcessRequest{}, &ProcessRequest{"c", "e"}},
		{&task.WaitRequest{ID: "c"}, &ProcessRequest{}, &ProcessRequest{"c", ""}},
		{
			&task.CreateTaskRequest{
				ID: "c", Bundle: "/b", Terminal: true, Stdin: "i", Stdout: "o", Stderr: "e", Checkpoint: "cp", ParentCheckpoint: "p", Options: any,
				Rootfs: []*types.Mount{{Type: "overlay", Source: "s", Target: "t", Options: []string{"ro", "", "x=y"}}, {Type: "bind"}},
			},
			&CreateTaskRequest{},
			&CreateTaskRequest{
				ID: "c", Bundle: "/b", Terminal: true, Stdin: "i", Stdout: "o", Stderr: "e", Checkpoint: "cp", ParentCheckpoint: "p", Options: ours,
				Rootfs: Mounts{{"overlay", "s", "t", []string{"ro", "", "x=y"}}, {Type: "bind"}},
			},
		},
		{
			&task.ExecProcessRequest{ID: "c", ExecID: "e", Terminal: true, Stdin: "i", Stdout: "o", Stderr: "x", Spec: any},
			&ExecProcessRequest{}, &ExecProcessRequest{"c", "e", true, "i", "o", "x", ours},
		},
		{&task.ResizePtyRequest{ID: "c", ExecID: "e", Width: 300, Height: 1 << 31}, &ResizePtyRequest{}, &ResizePtyRequest{"c", "e", 300, 1 << 31}},
		{&task.KillRequest{ID: "c", ExecID: "e", Signal: 9, All: true}, &KillRequest{}, &KillRequest{"c", "e", 9, true}},
		{&task.CloseIORequest{ID: "c", ExecID: "e", Stdin: true}, &CloseIORequest{}, &CloseIORequest{"c", "e", true}},
		{&task.CheckpointTaskRequest{ID: "c", Path: "/p", Options: any}, &CheckpointTaskRequest{}, &CheckpointTaskRequest{"c", "/p", ours}},
		{
			&options.CheckpointOptions{
				Exit: true, OpenTcp: true, ExternalUnixSockets: true, Terminal: true, FileLocks: true, EmptyNamespaces: []string{"network", "x"},
				CgroupsMode: "m", ImagePath: "i", WorkPath: "w", ParentPath: "p",
			},
			&CheckpointOptions{}, &CheckpointOptions{true, true, true, true, true, []string{"network", "x"}, "m", "i", "w", "p"},
		},
		{
			&task.UpdateTaskRequest{ID: "c", Resources: any, Annotations: map[string]string{"a": "b"}},
			&UpdateTaskRequest{}, &UpdateTaskRequest{"c", ours},
		},
	} {
		b, err := proto.Marshal(c.theirs)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.got.Decode(b); err != nil || !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%T: got %+v, %v, want %+v", c.theirs, c.got, err, c.want)
		}
		if err := c.got.Decode(append(b, 0xff)); err != wire.ErrMalformed {
			t.Errorf("%T with rubbish: got %v", c.theirs, err)
		}
	}
}

func TestResponsesAreThoseOfContainerd(t *testing.T) {
	at := time.Date(2020, 2, 3, 4, 5, 6, 7, time.UTC)
	theirs := timestamppb.New(at)
	any := &anypb.Any{TypeUrl: "x.Y", Value: []byte{1, 2}}
	ours := wire.Any{TypeURL: any.TypeUrl, Value: any.Value}
	for _, c := range []struct {
		ours interface{ Encode() []byte }
		got  proto.Message
		want proto.Message
	}{
		{PidResponse{7}, &task.CreateTaskResponse{}, &task.CreateTaskResponse{Pid: 7}},
		{PidResponse{1 << 31}, &task.StartResponse{}, &task.StartResponse{Pid: 1 << 31}},
		{DeleteResponse{7, 137, at}, &task.DeleteResponse{}, &task.DeleteResponse{Pid: 7, ExitStatus: 137, ExitedAt: theirs}},
		{DeleteResponse{}, &task.DeleteResponse{}, &task.DeleteResponse{ExitedAt: timestamppb.New(time.Time{})}},
		{WaitResponse{1, at}, &task.WaitResponse{}, &task.WaitResponse{ExitStatus: 1, ExitedAt: theirs}},
		{
			StateResponse{"c", "/b", 7, StatusPausing, "i", "o", "e", true, 3, at}, &task.StateResponse{},
			&task.StateResponse{
				ID: "c", Bundle: "/b", Pid: 7, Status: tasktypes.Status_PAUSING, Stdin: "i", Stdout: "o", Stderr: "e", Terminal: true,
				ExitStatus: 3, ExitedAt: theirs,
			},
		},
		{
			PidsResponse{[]ProcessInfo{{Pid: 7}, {8, &ours}}}, &task.PidsResponse{},
			&task.PidsResponse{Processes: []*tasktypes.ProcessInfo{{Pid: 7}, {Pid: 8, Info: any}}},
		},
		{StatsResponse{ours}, &task.StatsResponse{}, &task.StatsResponse{Stats: any}},
		{ConnectResponse{7, 8}, &task.ConnectResponse{}, &task.ConnectResponse{ShimPid: 7, TaskPid: 8}},
	} {
		if err := proto.Unmarshal(c.ours.Encode(), c.got); err != nil || !proto.Equal(c.got, c.want) {
			t.Errorf("%+v: got %v, %v, want %v", c.ours, c.got, err, c.want)
		}
	}
	for ours, theirs := range map[Status]tasktypes.Status{
		StatusUnknown: tasktypes.Status_UNKNOWN, StatusCreated: tasktypes.Status_CREATED, StatusRunning: tasktypes.Status_RUNNING,
		StatusStopped: tasktypes.Status_STOPPED, StatusPaused: tasktypes.Status_PAUSED, StatusPausing: tasktypes.Status_PAUSING,
	} {
		if int32(ours) != int32(theirs) {
			t.Errorf("%v is %d here", theirs, ours)
		}
	}
}
