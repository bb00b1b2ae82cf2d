package events

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gosuda/gosudacon/shim/internal/taskapi"
)

// attemptTimeout bounds one attempt, connecting included. It only matters for a containerd that lives but does not answer:
// a dead one closes the connection.
const attemptTimeout = 10 * time.Second

// namespaceHeader carries the containerd namespace in a ttrpc request.
const namespaceHeader = "containerd-namespace-ttrpc"

// connection is the way to containerd's event service. It connects when needed and forgets a connection that failed.
type connection struct {
	address, namespace string
	client             *ttrpc.Client // nil when not connected
}

// forward delivers e once, or says why not.
func (c *connection) forward(ctx context.Context, e Event) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()

	if err := c.connect(ctx); err != nil {
		return err
	}
	ctx = ttrpc.WithMetadata(ctx, ttrpc.MD{namespaceHeader: {c.namespace}})
	err := c.client.Call(ctx, "containerd.services.events.ttrpc.v1.Events", "Forward", &taskapi.ForwardRequest{
		Envelope: &taskapi.Envelope{
			Timestamp: timestamppb.New(e.At),
			Namespace: c.namespace,
			Topic:     e.Topic,
			Event:     &anypb.Any{TypeUrl: e.Type, Value: e.Body},
		},
	}, &emptypb.Empty{})
	if _, answered := status.FromError(err); !answered {
		c.close()
	}
	if err != nil {
		return fmt.Errorf("forward %s: %w", e.Topic, err)
	}
	return nil
}

func (c *connection) connect(ctx context.Context) error {
	if c.client != nil {
		return nil
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", strings.TrimPrefix(c.address, "unix://"))
	if err != nil {
		return fmt.Errorf("connect to containerd: %w", err)
	}
	c.client = ttrpc.NewClient(conn)
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
	switch status.Code(err) {
	case codes.InvalidArgument, codes.ResourceExhausted: // the second is ttrpc's answer to an oversized message
		return true
	}
	return false
}
