// Package events delivers a shim's events to containerd in order, for as long as it takes.
package events

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// idleAfter is how long the connection outlives the last event. Hundreds of idle shims would otherwise hold as many
	// connections, with their goroutines and buffers on both sides.
	idleAfter = 5 * time.Second
	// firstBackoff and lastBackoff bound the pause between two attempts to deliver the same event.
	firstBackoff = 20 * time.Millisecond
	lastBackoff  = 2 * time.Second
	// maxWaiting is where memory safety begins to matter more than events that nobody's bookkeeping depends on.
	maxWaiting = 8192
)

// Event is one event on its way to containerd.
type Event struct {
	Topic string    // "/tasks/exit"
	Type  string    // full protobuf name of the message in Body, which is also its type URL
	Body  []byte    // the marshalled message
	At    time.Time // when it happened, however late it is delivered

	// Essential events are never dropped: those that make and end a task or a process.
	Essential bool
}

// Config says where the events go.
type Config struct {
	// Address is containerd's ttrpc socket (TTRPC_ADDRESS), with or without unix://. Empty: nobody listens, and events
	// are dropped.
	Address string
	// Namespace is the containerd namespace of every event.
	Namespace string
	// Log is told of outages and of events that containerd refused; nil discards that.
	Log *slog.Logger
}

// Outbox keeps events in the order of Publish and delivers each before the next is tried. While containerd is away the
// first one is tried again and again.
//
// What waits is bounded by what lives, not by time: a task or an exec has a fixed number of events, and containerd cannot ask
// for new ones while it is away. Of the others, which come by themselves (oom) or by a client that bypasses containerd, the
// oldest is dropped beyond maxWaiting.
//
// Delivery is at least once: an attempt whose answer is lost is repeated.
type Outbox struct {
	cfg    Config
	idle   time.Duration // idleAfter
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // holds one token when the sender should look at the queue again

	mu      sync.Mutex
	queue   []Event       // queue[0] may be on its way
	sender  chan struct{} // closed by the sender when it ends; nil when there is none
	closing bool
}

// New returns an outbox without connecting: the first event does that. The caller closes it.
func New(cfg Config) *Outbox {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Outbox{cfg: cfg, idle: idleAfter, ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1)}
}

// Publish queues e behind everything published before. It never waits.
func (o *Outbox) Publish(e Event) {
	if o.cfg.Address == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()

	if o.closing && o.sender == nil {
		o.cfg.Log.Warn("drop event: outbox is closed", "topic", e.Topic)
		return
	}
	o.queue = append(o.queue, e)
	o.trimLocked()
	if o.sender == nil {
		o.sender = make(chan struct{})
		go o.send(o.sender)
		return
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Close delivers what waits until ctx ends, then disconnects. The error says how many events were lost.
func (o *Outbox) Close(ctx context.Context) error {
	o.mu.Lock()
	o.closing = true
	sender := o.sender
	o.mu.Unlock()

	if sender != nil {
		select {
		case o.wake <- struct{}{}: // an idle sender leaves at once
		default:
		}
		select {
		case <-sender:
		case <-ctx.Done():
		}
		o.cancel()
		<-sender
	}
	o.cancel()

	o.mu.Lock()
	defer o.mu.Unlock()
	if n := len(o.queue); n > 0 {
		return fmt.Errorf("flush events: %d not delivered: %w", n, ctx.Err())
	}
	return nil
}

// trimLocked keeps the queue within maxWaiting as far as it holds events that may be dropped. The first stays: it may be
// on its way already.
func (o *Outbox) trimLocked() {
	if len(o.queue) <= maxWaiting {
		return
	}
	i := slices.IndexFunc(o.queue[1:], func(q Event) bool { return !q.Essential })
	if i < 0 {
		return
	}
	o.cfg.Log.Warn("drop event: too many wait", "topic", o.queue[i+1].Topic, "waiting", len(o.queue))
	o.queue = slices.Delete(o.queue, i+1, i+2)
}

// send is the sender: it delivers the queue and leaves when there has been nothing to do for idleAfter. At most one runs.
func (o *Outbox) send(done chan struct{}) {
	defer close(done)
	c := connection{address: o.cfg.Address, namespace: o.cfg.Namespace}
	defer c.close()

	for {
		e, ok := o.first()
		if !ok {
			return
		}
		if !o.deliver(&c, e) {
			o.retire()
			return
		}
		o.pop()
	}
}

// deliver tries until containerd has taken e, or has refused it for good. It reports false when the outbox was closed
// before.
func (o *Outbox) deliver(c *connection, e Event) bool {
	for attempt, backoff := 1, firstBackoff; ; attempt++ {
		err := c.forward(o.ctx, e)
		if err == nil {
			if attempt > 1 {
				o.cfg.Log.Info("events are delivered again", "topic", e.Topic, "attempts", attempt)
			}
			return true
		}
		if refused(err) {
			// Nothing behind it would ever be delivered if it stayed.
			o.cfg.Log.Error("drop event: containerd refuses it", "topic", e.Topic, "error", err)
			return true
		}
		if attempt == 1 {
			o.cfg.Log.Warn("events wait for containerd", "topic", e.Topic, "error", err)
		}
		pause := time.NewTimer(backoff)
		select {
		case <-pause.C:
		case <-o.ctx.Done():
			pause.Stop()
			return false
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// first returns the first event, waiting for one up to idleAfter. When it reports false, the sender has been retired.
func (o *Outbox) first() (Event, bool) {
	if e, ok := o.peek(false); ok {
		return e, true
	}
	idle := time.NewTimer(o.idle)
	defer idle.Stop()
	for {
		select {
		case <-o.wake:
			if e, ok := o.peek(false); ok {
				return e, true
			}
			if o.isClosing() {
				return o.peek(true)
			}
		case <-idle.C:
			return o.peek(true)
		case <-o.ctx.Done():
			return o.peek(true)
		}
	}
}

// peek returns the first event. If there is none and retire is set, it retires the sender in the same critical section,
// so that the next Publish starts another.
func (o *Outbox) peek(retire bool) (Event, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) > 0 {
		return o.queue[0], true
	}
	if retire {
		o.sender = nil
	}
	return Event{}, false
}

func (o *Outbox) pop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue[0] = Event{} // let go of the body
	o.queue = o.queue[1:]
	if len(o.queue) == 0 {
		o.queue = nil // let go of what an outage has grown
	}
}

func (o *Outbox) retire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sender = nil
}

func (o *Outbox) isClosing() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closing
}
