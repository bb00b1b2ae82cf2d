package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Client makes one call at a time. It is not safe for concurrent use.
type Client struct {
	nc     net.Conn
	r      *bufio.Reader
	stream uint32 // of the last call
}

// Dial connects to a unix socket. The caller closes the client.
func Dial(ctx context.Context, path string) (*Client, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	return &Client{nc: nc, r: bufio.NewReaderSize(nc, 512)}, nil
}

// Close disconnects.
func (c *Client) Close() error { return c.nc.Close() }

// Call makes a call, with pairs of metadata, and returns the answer's payload. An *Error is the server's answer; after any other
// error, that of ctx included, the client is of no more use.
func (c *Client) Call(ctx context.Context, service, method string, payload []byte, metadata ...[2]string) ([]byte, error) {
	r := request{service: service, method: method, payload: payload}
	if deadline, ok := ctx.Deadline(); ok {
		r.timeout = max(1, int64(time.Until(deadline)))
	}
	message := r.encode(metadata)
	if len(message) > maxMessage {
		return nil, errTooLong(len(message))
	}
	// The end of ctx interrupts what blocks below. A deadline of its own would be seen a moment before that of ctx.
	stop := context.AfterFunc(ctx, func() { c.nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c.stream += 2
	answer, err := c.exchange(c.stream-1, message)
	if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, ctx.Err()
	}
	return answer, err
}

func (c *Client) exchange(stream uint32, message []byte) ([]byte, error) {
	if err := writeFrame(c.nc, stream, typeRequest, flagRemoteClosed, message); err != nil {
		return nil, fmt.Errorf("send request: %w", err)
	}
	for {
		h, answer, err := readFrame(c.r)
		if err != nil {
			return nil, fmt.Errorf("receive answer: %w", err)
		}
		if h.kind == typeResponse && h.stream == stream {
			return decodeResponse(answer)
		}
	}
}
