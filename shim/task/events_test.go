package task

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/runtime/engine"
	api "github.com/gosuda/gosudacon/shim/internal/taskapi"
)

// testdata/events.golden was written with the generated messages of containerd/api v1.12.0. They are not imported, not even
// here: their package brings a second protobuf runtime along.
func TestEventsAreThoseOfContainerd(t *testing.T) {
	golden, err := os.ReadFile("testdata/events.golden")
	if err != nil {
		t.Fatal(err)
	}
	full := encodeCreate(&api.CreateTaskRequest{
		ID: "c1", Bundle: "/b", Checkpoint: "cp",
		Rootfs: api.Mounts{{Type: "overlay", Source: "src", Target: "t", Options: []string{"ro", "", "x=y"}}, {Type: "bind"}},
		Stdin:  "i", Stdout: "o", Stderr: "e", Terminal: true,
	})
	bare := encodeCreate(&api.CreateTaskRequest{ID: "c1"})
	at := time.Date(2020, 2, 3, 4, 5, 6, 7, time.UTC)

	cases := map[string]struct {
		event   engine.Event
		created []byte
		topic   string
	}{
		"create":           {engine.Event{Kind: engine.Created, Pid: 300}, full, "/tasks/create"},
		"create-bare":      {engine.Event{Kind: engine.Created}, bare, "/tasks/create"},
		"start":            {engine.Event{Kind: engine.Started, Pid: 300}, nil, "/tasks/start"},
		"exec-added":       {engine.Event{Kind: engine.ExecAdded, Exec: "e1"}, nil, "/tasks/exec-added"},
		"exec-started":     {engine.Event{Kind: engine.ExecStarted, Exec: "e1", Pid: 300}, nil, "/tasks/exec-started"},
		"exit":             {engine.Event{Kind: engine.Exited, Pid: 300, Exit: engine.Exit{Pid: 300, Status: 137, At: at}}, nil, "/tasks/exit"},
		"exec-exit":        {engine.Event{Kind: engine.Exited, Exec: "e1", Pid: 300, Exit: engine.Exit{At: at}}, nil, "/tasks/exit"},
		"delete":           {engine.Event{Kind: engine.Deleted, Pid: 300, Exit: engine.Exit{Status: 137, At: at}}, nil, "/tasks/delete"},
		"delete-never-ran": {engine.Event{Kind: engine.Deleted}, nil, "/tasks/delete"},
		"exec-delete":      {engine.Event{Kind: engine.ExecDeleted, Exec: "e1", Pid: 300, Exit: engine.Exit{Status: 1, At: at}}, nil, "/tasks/delete"},
		"oom":              {engine.Event{Kind: engine.OOM}, nil, "/tasks/oom"},
		"paused":           {engine.Event{Kind: engine.Paused}, nil, "/tasks/paused"},
		"resumed":          {engine.Event{Kind: engine.Resumed}, nil, "/tasks/resumed"},
		"checkpointed":     {engine.Event{Kind: engine.Checkpointed}, nil, "/tasks/checkpointed"},
	}
	for line := range strings.Lines(string(golden)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		typ, body, _ := strings.Cut(rest, " ")
		c, ok := cases[name]
		if !ok {
			t.Errorf("%s: no case", name)
			continue
		}
		delete(cases, name)
		c.event.Container = "c1"
		got, ok := translate(c.event, c.created)
		if !ok || got.Topic != c.topic || got.Type != typ || hex.EncodeToString(got.Body) != body {
			t.Errorf("%s: got %+v\nbody %x\nwant %s", name, got, got.Body, body)
		}
	}
	for name := range cases {
		t.Errorf("%s: not in the golden file", name)
	}
	if _, ok := translate(engine.Event{Kind: 255}, nil); ok {
		t.Error("an unknown kind was translated")
	}
}
