package task

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	api "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gosuda/gosudacon/internal/wire"
)

// A Create that fails leaves nothing, not even an event, and its id is free.
func TestCreateRefuses(t *testing.T) {
	s := newShim(t)
	logged := filepath.Join(t.TempDir(), "pid")
	logger := filepath.Join(t.TempDir(), "logger")
	script := "#!/bin/busybox sh\necho $$ >" + logged + "\nexec 5>&-\nexec cat <&3\n"
	if err := os.WriteFile(logger, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		config *specs.Spec
		change func(r *api.CreateTaskRequest)
		code   codes.Code
		text   string
	}{
		{"program", spec("no-such-program"), nil, codes.Unknown, `OCI runtime create failed: `},
		{"program behind a logger", spec("no-such-program"), func(r *api.CreateTaskRequest) { r.Stdout = "binary://" + logger },
			codes.Unknown, `"no-such-program": executable file not found in $PATH`},
		{"scheme", sh("true"), func(r *api.CreateTaskRequest) { r.Stdout = "gopher:///x" }, codes.InvalidArgument, "unknown STDIO scheme gopher"},
		{"fifo", sh("true"), func(r *api.CreateTaskRequest) { r.Stdout = "/no/such/fifo" }, codes.Unknown, "/no/such/fifo"},
		{"checkpoint", sh("true"), func(r *api.CreateTaskRequest) {
			r.Checkpoint, r.Options.Value = "/x", wire.AppendString(r.Options.Value, 8, "/no/criu")
		}, codes.FailedPrecondition, "restore need criu: criu is not installed"},
		{"relative checkpoint", sh("true"), func(r *api.CreateTaskRequest) { r.Checkpoint = "x" }, codes.InvalidArgument, "must be absolute"},
		{"terminal", sh("true"), func(r *api.CreateTaskRequest) { r.Terminal = true }, codes.InvalidArgument, "terminal"},
		{"id", sh("true"), func(r *api.CreateTaskRequest) { r.ID = "../c1" }, codes.InvalidArgument, "../c1"},
		{"mount", sh("true"), func(r *api.CreateTaskRequest) { r.Rootfs[0].Source = "/no/such/source" }, codes.Unknown, "/no/such/source"},
		{"options", sh("true"), func(r *api.CreateTaskRequest) {
			r.Options = &anypb.Any{TypeUrl: "runtimeoptions.v1.Options", Value: wire.AppendString(nil, 3, "Rooot = '/x'")}
		}, codes.InvalidArgument, "Rooot"},
		{"type of options", sh("true"), func(r *api.CreateTaskRequest) { r.Options.TypeUrl = "some.Options" }, codes.InvalidArgument, "some.Options"},
		{"bundle", sh("true"), func(r *api.CreateTaskRequest) { os.Remove(r.Bundle + "/config.json") }, codes.InvalidArgument, "config.json"},
	} {
		r := s.request("c1", c.config)
		if c.change != nil {
			c.change(r)
		}
		_, err := s.client.Create(t.Context(), r)
		refused(t, c.name, err, c.code, c.text)
		equalEvents(t, s.events(r.ID))
		s.nothingLeft(r)
	}
	pid, err := os.ReadFile(logged)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.TrimSpace(string(pid)); !goneText(n) {
		t.Errorf("logger %s is left", n)
	}
	s.create(s.request("c1", sh("true")))
	_, err = s.client.Create(t.Context(), s.request("c1", sh("true")))
	refused(t, "duplicate", err, codes.AlreadyExists, "container c1: already exists")
	other := s.request("c2", sh("true"))
	other.Options.Value = wire.AppendString(nil, 7, "/run/elsewhere")
	_, err = s.client.Create(t.Context(), other)
	refused(t, "other root", err, codes.InvalidArgument, "runtime option Root")
}

func goneText(pid string) bool {
	_, err := os.Stat("/proc/" + pid)
	return os.IsNotExist(err)
}

// The options that `delete` needs are in the bundle, and a trace is where they say.
func TestOptions(t *testing.T) {
	s := newShim(t)
	trace := filepath.Join(t.TempDir(), "trace")
	r := s.request("c1", sh("true"))
	r.Options = &anypb.Any{TypeUrl: "runtimeoptions.v1.Options", Value: wire.AppendString(nil, 3, fmt.Sprintf("Root = %q\nTrace = %q\n", s.root, trace))}
	s.create(r)
	text, err := os.ReadFile(r.Bundle + "/options.json")
	if err != nil || !strings.Contains(string(text), s.root) {
		t.Errorf("got %s, %v", text, err)
	}
	text, err = os.ReadFile(trace)
	if err != nil || !strings.HasPrefix(string(text), "container c1\n") || strings.Count(string(text), "\n") < 10 {
		t.Errorf("got %s, %v", text, err)
	}
}

// The spec's own root file system, without mounts in the request.
func TestRootOfSpec(t *testing.T) {
	s := newShim(t)
	config := sh("exit 2")
	config.Root = &specs.Root{Path: rootfs(t)}
	r := s.request("c1", config)
	r.Rootfs = nil
	s.create(r)
	s.start("c1", "")
	equal(t, "exit status", s.wait("c1", ""), 2)
}
