package stdio

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	got := make(chan int)
	go func() {
		all := 0
		buf := make([]byte, 7000)
		for {
			time.Sleep(5 * time.Millisecond) // a slow client
			n, err := client.Read(buf)
			if all += n; err == io.EOF {
				got <- all
				return
			}
		}
	}()
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o.Settle(ctx)
	conn, err := client.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	left := -1
	conn.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	if left != 0 || err != nil {
		t.Errorf("settled when the FIFO had %d bytes, %v", left, err)
	}
	o.Close()
	if n := <-got; n != size {
		t.Errorf("the client has read %d of %d bytes", n, size)
	}
}
