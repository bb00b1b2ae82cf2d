package restart

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	ttrpcevents "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// journal has the events of tasks, in the order of their arrival.
type journal struct {
	mu     sync.Mutex
	topics map[string][]string // by container: "start", "exit 7", "exec-started e1", "exit e1 3", ...
}

// add takes an event.
func (j *journal) add(topic string, event typeurl.Any) {
	topic, ok := strings.CutPrefix(topic, "/tasks/")
	if !ok {
		return
	}
	v, err := typeurl.UnmarshalAny(event)
	if err != nil {
		v = nil
		topic += " " + err.Error()
	}
	id := ""
	switch e := v.(type) {
	case *eventsapi.TaskExit:
		id = e.ContainerID
		if e.ID != id {
			topic += " " + e.ID
		}
		topic += fmt.Sprint(" ", e.ExitStatus)
	case *eventsapi.TaskDelete:
		id = e.ContainerID
		if e.ID != "" && e.ID != id {
			topic += " " + e.ID
		}
		topic += fmt.Sprint(" ", e.ExitStatus)
	case *eventsapi.TaskExecAdded:
		id = e.ContainerID
		topic += " " + e.ExecID
	case *eventsapi.TaskExecStarted:
		id = e.ContainerID
		topic += " " + e.ExecID
	case interface{ GetContainerID() string }:
		id = e.GetContainerID()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.topics == nil {
		j.topics = map[string][]string{}
	}
	j.topics[id] = append(j.topics[id], topic)
}

// of returns the events of a container, separated by commas.
func (j *journal) of(id string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.topics[id], ", ")
}

// settles waits until the events of a container are want: a shim that has waited for containerd tries again every two seconds.
func (j *journal) settles(t *testing.T, id, want string) {
	t.Helper()
	for range 1000 {
		if j.of(id) == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	equal(t, "events of "+id, j.of(id), want)
}

// has tells whether an event of a container came.
func (j *journal) has(id, topic string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Contains(j.topics[id], topic)
}

// subscribe puts down the events that containerd publishes, until it ends, and returns when the subscription stands.
func (j *journal) subscribe(t *testing.T, w *world) {
	t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	envelopes, errs := w.client.EventService().Subscribe(ctx)
	seen := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		first := sync.OnceFunc(func() { close(seen) })
		for {
			select {
			case e := <-envelopes:
				first()
				if e.Namespace == w.Namespace {
					j.add(e.Topic, e.Event)
				}
			case <-errs:
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	// Nothing tells that the subscription stands, but the first event does. Every label makes one.
	for i := 0; ; i++ {
		if err := w.client.NamespaceService().SetLabel(w.ctx, w.Namespace, "e2e", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-seen:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// relay stands between the shims and a containerd that was started again: a client of containerd can subscribe only when the shims
// have begun to send. It takes the place of the socket that the shims know; containerd gets another one.
type relay struct {
	*journal
	to     string
	server *ttrpc.Server
}

// relayed makes the next containerd of w get its events through a relay.
func relayed(t *testing.T, w *world, j *journal) {
	t.Helper()
	known := w.EventsAddress()
	r := &relay{journal: j, to: filepath.Join(w.Dir, "events")}
	if err := w.Reconfigure(func(c *containerdtest.Config) { c.Events = r.to }); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(known); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", known)
	if err != nil {
		t.Fatal(err)
	}
	if r.server, err = ttrpc.NewServer(); err != nil {
		t.Fatal(err)
	}
	ttrpcevents.RegisterTTRPCEventsService(r.server, r)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.server.Serve(context.Background(), l) // ends with ErrServerClosed
	}()
	t.Cleanup(func() { r.server.Close(); <-done })
}

// Forward hands an event to containerd and puts it down when containerd has taken it.
func (r *relay) Forward(ctx context.Context, q *ttrpcevents.ForwardRequest) (*emptypb.Empty, error) {
	conn, err := net.Dial("unix", r.to)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c := ttrpc.NewClient(conn)
	defer c.Close()
	answer, err := ttrpcevents.NewTTRPCEventsClient(c).Forward(ctx, q)
	if err == nil {
		r.add(q.Envelope.Topic, q.Envelope.Event)
	}
	return answer, err
}
