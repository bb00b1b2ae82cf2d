package sandboxapi

import (
	"reflect"
	"testing"
	"time"

	sandbox "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gosuda/gosudacon/internal/wire"
	"github.com/gosuda/gosudacon/shim/internal/taskapi"
)

// Every field that we know arrives as containerd's messages send it; those that we don't know do no harm.
func TestRequestsAreThoseOfContainerd(t *testing.T) {
	any := &anypb.Any{TypeUrl: "type.example/x.Y", Value: []byte{1, 2}}
	for _, c := range []struct {
		theirs    proto.Message
		got, want wire.Decoder
	}{
		{
			&sandbox.CreateSandboxRequest{SandboxID: "s", BundlePath: "/b", Rootfs: []*types.Mount{{Type: "bind", Source: "x"}}, Options: any,
				NetnsPath: "/n", Annotations: map[string]string{"a": "b"}},
			&CreateSandboxRequest{},
			&CreateSandboxRequest{"s", "/b", taskapi.Mounts{{Type: "bind", Source: "x"}}, wire.Any{TypeURL: any.TypeUrl, Value: any.Value}, "/n"},
		},
		{&sandbox.StartSandboxRequest{SandboxID: "s"}, &SandboxRequest{}, &SandboxRequest{"s"}},
		{&sandbox.PlatformRequest{SandboxID: "s"}, &SandboxRequest{}, &SandboxRequest{"s"}},
		{&sandbox.WaitSandboxRequest{SandboxID: "s"}, &SandboxRequest{}, &SandboxRequest{"s"}},
		{&sandbox.PingRequest{SandboxID: "s"}, &SandboxRequest{}, &SandboxRequest{"s"}},
		{&sandbox.ShutdownSandboxRequest{SandboxID: "s"}, &SandboxRequest{}, &SandboxRequest{"s"}},
		{&sandbox.SandboxMetricsRequest{SandboxID: "s"}, &SandboxRequest{}, &SandboxRequest{"s"}},
		{&sandbox.StopSandboxRequest{SandboxID: "s", TimeoutSecs: 7}, &StopSandboxRequest{}, &StopSandboxRequest{"s", 7}},
		{&sandbox.SandboxStatusRequest{SandboxID: "s", Verbose: true}, &SandboxStatusRequest{}, &SandboxStatusRequest{"s", true}},
	} {
		b, err := proto.Marshal(c.theirs)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.got.Decode(b); err != nil || !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%T: got %+v, %v, want %+v", c.theirs, c.got, err, c.want)
		}
	}
}

func TestResponsesAreThoseOfContainerd(t *testing.T) {
	at, later := time.Unix(1, 2), time.Unix(3, 4)
	stamp := timestamppb.New
	for _, c := range []struct {
		ours interface{ Encode() []byte }
		want proto.Message
	}{
		{StartSandboxResponse{5, at}, &sandbox.StartSandboxResponse{Pid: 5, CreatedAt: stamp(at)}},
		{PlatformResponse{"linux", "arm64"}, &sandbox.PlatformResponse{Platform: &types.Platform{OS: "linux", Architecture: "arm64"}}},
		{WaitSandboxResponse{137, at}, &sandbox.WaitSandboxResponse{ExitStatus: 137, ExitedAt: stamp(at)}},
		{
			SandboxStatusResponse{"s", 5, Ready, map[string]string{"b": "2", "a": "1"}, at, later},
			&sandbox.SandboxStatusResponse{SandboxID: "s", Pid: 5, State: "SANDBOX_READY", Info: map[string]string{"a": "1", "b": "2"},
				CreatedAt: stamp(at), ExitedAt: stamp(later)},
		},
		{
			SandboxStatusResponse{ID: "s", State: NotReady, CreatedAt: at},
			&sandbox.SandboxStatusResponse{SandboxID: "s", State: "SANDBOX_NOTREADY", CreatedAt: stamp(at)},
		},
		{
			SandboxMetricsResponse{at, "s", wire.Any{TypeURL: "t", Value: []byte{1}}},
			&sandbox.SandboxMetricsResponse{Metrics: &types.Metric{Timestamp: stamp(at), ID: "s", Data: &anypb.Any{TypeUrl: "t", Value: []byte{1}}}},
		},
	} {
		got := c.want.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(c.ours.Encode(), got); err != nil || !proto.Equal(got, c.want) {
			t.Errorf("%T: got %v, %v, want %v", c.ours, got, err, c.want)
		}
	}
}

// FuzzPodSandboxConfig: what is no config is refused, and never a panic.
func FuzzPodSandboxConfig(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x0a\x05\x0a\x03pod\x12\x04name\x22\x00\x42\x0a\x12\x08\x0a\x06\x08\x02\x10\x01\x2a\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c PodSandboxConfig
		_ = c.Decode(b) // either
	})
}
