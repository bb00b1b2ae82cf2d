package rpc

import (
	"context"
	"testing"
	"time"
)

// TestGone: a method can wait, after its answer, for its client to go.
func TestGone(t *testing.T) {
	gone := make(chan (<-chan struct{}), 1)
	_, c, _ := serve(t, Service{"leave": func(ctx context.Context, b []byte) ([]byte, error) {
		gone <- Gone(ctx)
		return b, nil
	}})
	if _, err := call(t, c, "leave", ""); err != nil {
		t.Fatal(err)
	}
	closed := <-gone
	select {
	case <-closed:
		t.Error("the client that has its answer is gone")
	case <-time.After(20 * time.Millisecond):
	}
	c.Close()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Error("a client that has closed its connection is not gone")
	}
}
