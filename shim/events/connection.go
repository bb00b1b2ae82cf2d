package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gosuda/gosudacon/internal/wire"
	"github.com/gosuda/gosudacon/shim/rpc"
)

// attemptTimeout bounds one attempt, connecting included. It only matters for a containerd that lives but does not answer:
// a dead one closes the connection.
const attemptTimeout = 10 * time.Second

// namespaceHeader carries the containerd namespace in a ttrpc request.
const namespaceHeader = "containerd-namespace-ttrpc"

// connection is the way to containerd's event service. It connects when needed and forgets a connection that failed.
type connection struct {
	address, namespace string
	client             *rpc.Client // nil when not connected
}

// forward delivers e once, or says why not.
func (c *connection) forward(ctx context.Context, e Event) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()

	if err := c.connect(ctx); err != nil {
		return err
	}
	// containerd.services.events.ttrpc.v1.ForwardRequest{envelope = 1}, with containerd.types.Envelope
	envelope := wire.Encode(e.At, c.namespace, e.Topic, &wire.Any{TypeURL: e.Type, Value: e.Body})
	_, err := c.client.Call(ctx, "containerd.services.events.ttrpc.v1.Events", "Forward",
		wire.AppendMessage(nil, 1, envelope), [2]string{namespaceHeader, c.namespace})
	if err == nil {
		return nil
	}
	var answered *rpc.Error
	if !errors.As(err, &answered) {
		c.close()
	}
	return fmt.Errorf("forward %s: %w", e.Topic, err)
}

func (c *connection) connect(ctx context.Context) error {
	if c.client != nil {
		return nil
	}
	client, err := rpc.Dial(ctx, strings.TrimPrefix(c.address, "unix://"))
	if err != nil {
		return fmt.Errorf("connect to containerd: %w", err)
	}
	c.client = client
	return nil
}

func (c *connection) close() {
	if c.client == nil {
		return
	}
	c.client.Close()
	c.client = nil
}

// refused reports whether containerd has understood the event and will never take it.
func refused(err error) bool {
	var e *rpc.Error
	if !errors.As(err, &e) {
		return false
	}
	// The second is also the answer to an oversized message.
	return e.Code == rpc.InvalidArgument || e.Code == rpc.ResourceExhausted
}
