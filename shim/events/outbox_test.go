package events

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	forward "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// daemon plays containerd's event service. It can be stopped and started on the same socket.
type daemon struct {
	t       *testing.T
	socket  string
	answer  func(n int) error // of the nth request, counted over restarts; nil: always accept
	got     chan *types.Envelope
	closed  chan struct{} // one token per connection that the client closed
	last    string        // what take returned last
	mu      sync.Mutex
	n       int
	headers []string
	server  *ttrpc.Server
	serving sync.WaitGroup
}

func newDaemon(t *testing.T) *daemon {
	d := &daemon{
		t:      t,
		socket: filepath.Join(t.TempDir(), "containerd.sock.ttrpc"),
		got:    make(chan *types.Envelope, 100000),
		closed: make(chan struct{}, 100),
	}
	t.Cleanup(d.stop)
	return d
}

func (d *daemon) Forward(ctx context.Context, r *forward.ForwardRequest) (*emptypb.Empty, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n++
	ns, _ := ttrpc.GetMetadataValue(ctx, namespaceHeader)
	d.headers = append(d.headers, ns)
	if d.answer != nil {
		if err := d.answer(d.n); err != nil {
			return nil, err
		}
	}
	d.got <- r.Envelope
	return &emptypb.Empty{}, nil
}

func (d *daemon) start() {
	d.t.Helper()
	l, err := net.Listen("unix", d.socket)
	if err != nil {
		d.t.Fatal(err)
	}
	d.server, err = ttrpc.NewServer()
	if err != nil {
		d.t.Fatal(err)
	}
	forward.RegisterTTRPCEventsService(d.server, d)
	d.serving.Go(func() { d.server.Serve(context.Background(), listener{l, d.closed}) })
}

// stop closes the socket and every connection.
func (d *daemon) stop() {
	if d.server != nil {
		d.server.Close()
		d.serving.Wait()
		d.server = nil
	}
}

// listener hands out connections that tell of their end.
type listener struct {
	net.Listener
	closed chan struct{}
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return watched{c, l.closed}, nil
}

type watched struct {
	net.Conn
	closed chan struct{}
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil {
		w.closed <- struct{}{}
	}
	return n, err
}

// take returns the bodies of the next n events, each counted once when a lost answer made it arrive twice in a row.
func (d *daemon) take(n int) []string {
	d.t.Helper()
	var bodies []string
	for len(bodies) < n {
		select {
		case e := <-d.got:
			if body := string(e.Event.Value); body != d.last {
				bodies = append(bodies, body)
				d.last = body
			}
		case <-time.After(time.Minute):
			d.t.Fatalf("%d of %d events arrived", len(bodies), n)
		}
	}
	return bodies
}

func open(t *testing.T, socket string) *Outbox {
	o := New(Config{Address: "unix://" + socket, Namespace: "ns"})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		o.Close(ctx)
	})
	return o
}

func number(i int) Event {
	return Event{Topic: "/tasks/exit", Type: "containerd.events.TaskExit", Body: fmt.Appendf(nil, "%06d", i), At: time.Now(), Essential: true}
}

func numbers(from, to int) (s []string) {
	for i := from; i < to; i++ {
		s = append(s, fmt.Sprintf("%06d", i))
	}
	return s
}

func TestDeliversEnvelope(t *testing.T) {
	d := newDaemon(t)
	d.start()
	o := open(t, d.socket)

	at := time.Date(2020, 2, 3, 4, 5, 6, 7, time.UTC)
	o.Publish(Event{Topic: "/tasks/oom", Type: "containerd.events.TaskOOM", Body: []byte("body"), At: at})
	e := <-d.got
	if e.Namespace != "ns" || e.Topic != "/tasks/oom" || e.Event.TypeUrl != "containerd.events.TaskOOM" ||
		string(e.Event.Value) != "body" || !e.Timestamp.AsTime().Equal(at) {
		t.Errorf("got %v", e)
	}
	if !slices.Equal(d.headers, []string{"ns"}) {
		t.Errorf("namespace headers %q", d.headers)
	}
}

// The daemon answers errors of every kind and goes away twice, once with requests under way.
func TestOrderSurvivesErrorsAndRestarts(t *testing.T) {
	const part = 300
	d := newDaemon(t)
	d.answer = func(n int) error {
		switch n % 61 {
		case 1:
			return status.Error(codes.Unavailable, "not yet")
		case 3:
			return status.Error(codes.Internal, "broken")
		case 4:
			return errors.New("unknown")
		}
		return nil
	}
	o := open(t, d.socket)

	for i := range part { // nobody has listened yet
		o.Publish(number(i))
	}
	d.start()
	got := d.take(part / 2)
	d.stop() // in the middle of the queue
	for i := part; i < 2*part; i++ {
		o.Publish(number(i))
	}
	d.start()
	got = append(got, d.take(2*part-len(got))...)
	d.stop() // with a connection that the sender believes in
	for i := 2 * part; i < 3*part; i++ {
		o.Publish(number(i))
	}
	d.start()
	got = append(got, d.take(3*part-len(got))...)

	for i, want := range numbers(0, 3*part) {
		if got[i] != want {
			t.Fatalf("order broken: event %d is %s", i, got[i])
		}
	}
}

func TestConcurrentPublishersKeepTheirOrder(t *testing.T) {
	d := newDaemon(t)
	d.start()
	o := open(t, d.socket)

	var all sync.WaitGroup
	for p := range 8 {
		all.Go(func() {
			for i := range 100 {
				o.Publish(Event{Topic: "/tasks/exit", Body: fmt.Appendf(nil, "%d/%06d", p, i), At: time.Now()})
			}
		})
	}
	all.Wait()
	next := map[string]int{}
	for _, body := range d.take(800) {
		p, i, _ := strings.Cut(body, "/")
		if want := fmt.Sprintf("%06d", next[p]); i != want {
			t.Fatalf("publisher %s: got %s, want %s", p, i, want)
		}
		next[p]++
	}
}

func TestRefusedEventBlocksNobody(t *testing.T) {
	d := newDaemon(t)
	d.answer = func(n int) error {
		if n == 2 {
			return status.Error(codes.InvalidArgument, "bad topic")
		}
		return nil
	}
	d.start()
	o := open(t, d.socket)
	for i := range 3 {
		o.Publish(number(i))
	}
	if got := d.take(2); !slices.Equal(got, []string{"000000", "000002"}) {
		t.Errorf("got %v", got)
	}
}

func TestCloseFlushes(t *testing.T) {
	d := newDaemon(t)
	d.answer = func(n int) error {
		if n < 3 {
			return status.Error(codes.Unavailable, "not yet")
		}
		return nil
	}
	d.start()
	o := open(t, d.socket)
	for i := range 50 {
		o.Publish(number(i))
	}
	if err := o.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := len(d.got); n != 50 {
		t.Errorf("%d of 50 events arrived before Close returned", n)
	}
	o.Publish(number(50))
	if n := len(o.queue); n != 0 {
		t.Errorf("a closed outbox holds %d events", n)
	}
}

func TestCloseGivesUp(t *testing.T) {
	o := New(Config{Address: filepath.Join(t.TempDir(), "nobody"), Namespace: "ns"})
	o.Publish(number(0))
	o.Publish(number(1))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err := o.Close(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 not delivered") {
		t.Errorf("got %v", err)
	}
}

func TestCloseOfUnused(t *testing.T) {
	if err := New(Config{Address: "/nowhere"}).Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestNobodyToTell(t *testing.T) {
	o := New(Config{})
	o.Publish(number(0))
	if o.queue != nil || o.sender != nil {
		t.Error("an outbox without an address keeps events")
	}
}

// The connection and the sender go away when idle, and come back.
func TestIdleDisconnects(t *testing.T) {
	d := newDaemon(t)
	d.start()
	o := open(t, d.socket)
	o.idle = time.Millisecond
	for i := range 3 {
		o.Publish(number(i))
		<-d.closed
	}
	if got := d.take(3); !slices.Equal(got, numbers(0, 3)) {
		t.Errorf("got %v", got)
	}
}

func TestMemoryCapSparesEssential(t *testing.T) {
	o := open(t, filepath.Join(t.TempDir(), "nobody"))
	for i := range maxWaiting {
		e := number(i)
		e.Essential = i%2 == 0
		o.Publish(e)
	}
	for i := range 10 {
		o.Publish(number(maxWaiting + i))
	}
	if n := len(o.queue); n != maxWaiting {
		t.Fatalf("%d events wait, want %d", n, maxWaiting)
	}
	var want []string
	for i := range maxWaiting + 10 {
		if i%2 == 0 || i > 20 { // 1, 3, ... 19 made room
			want = append(want, fmt.Sprintf("%06d", i))
		}
	}
	var got []string
	for _, e := range o.queue {
		got = append(got, string(e.Body))
	}
	if !slices.Equal(got, want) {
		t.Error("the wrong events were dropped")
	}
}
