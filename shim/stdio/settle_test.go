package stdio

import (
	"context"
	"io"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// TestSettle: the end of a process is told only when a slow client has read its output, or when time is up.
func TestSettle(t *testing.T) {
	fifo := mkfifo(t, "out")
	client := reader(t, fifo)
	o, err := Open(t.Context(), Config{Stdout: fifo, UID: os.Geteuid(), GID: os.Getegid()})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	const size = 60_000
	_, out, _ := o.ContainerEnds()
	if _, err := out.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	o.CloseContainerEnds()

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o.Settle(ctx) // no time: returns at once
	var got atomic.Int64
	go func() {
		buf := make([]byte, 7000)
		for {
			time.Sleep(5 * time.Millisecond) // a slow client
			n, err := client.Read(buf)
			got.Add(int64(n))
			if err == io.EOF {
				return
			}
		}
	}()
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	o.Settle(ctx)
	for range 100 { // the bytes left the FIFO; the client counts them right after
		if got.Load() == size {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("settled when the client had read %d of %d bytes", got.Load(), size)
}
