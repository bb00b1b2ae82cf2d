package daemon

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pipe returns a pipe as the log FIFO is: neither end blocks.
func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(p[0])
		unix.Close(p[1])
	})
	return p[0], p[1]
}

func drainPipe(t *testing.T, fd int) string {
	t.Helper()
	var text []byte
	buf := make([]byte, 1<<16)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EAGAIN {
			return string(text)
		}
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, buf[:n]...)
	}
}

func TestLossyWriterDropsWholeLines(t *testing.T) {
	r, fd := pipe(t)
	w := &lossyWriter{fd: fd}
	line := strings.Repeat("x", 999) + "\n"
	const lines = 200
	for range lines {
		if n, err := io.WriteString(w, line); n != len(line) || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
	}
	got := drainPipe(t, r)
	kept := strings.Count(got, line)
	if kept == 0 || kept == lines || len(got) != kept*len(line) {
		t.Fatalf("kept %d of %d lines in %d bytes", kept, lines, len(got))
	}
	io.WriteString(w, "after\n")
	want := fmt.Sprintf("level=WARN msg=\"shim log was full\" lost=%d\nafter\n", lines-kept)
	if got := drainPipe(t, r); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	io.WriteString(w, "again\n")
	if got := drainPipe(t, r); got != "again\n" {
		t.Errorf("got %q", got)
	}
}

func TestDump(t *testing.T) {
	r, fd := pipe(t)
	w := &lossyWriter{fd: fd}
	stacks := []byte("goroutine 1\na()\n\ngoroutine 2\nb()")
	w.dump(stacks)
	const want = "=== BEGIN goroutine stack dump ===\ngoroutine 1\na()\n\ngoroutine 2\nb()\n\n=== END goroutine stack dump ===\n"
	if got := drainPipe(t, r); got != want {
		t.Errorf("got %q", got)
	}

	// Longer than the pipe: it arrives whole at a reader, and ends without one.
	big := bytes.Repeat([]byte("goroutine\n"+strings.Repeat("f()\n", 100)+"\n"), 500)
	done := make(chan struct{})
	go func() {
		w.dump(big)
		close(done)
	}()
	var text []byte
	buf := make([]byte, 1<<16)
	for !bytes.HasSuffix(text, []byte("END goroutine stack dump ===\n")) {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(r), Events: unix.POLLIN}}, 10000); err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
		n, err := unix.Read(r, buf)
		if err != nil {
			t.Fatal(err, len(text))
		}
		text = append(text, buf[:n]...)
	}
	<-done
	if n := bytes.Count(text, []byte("goroutine\n")); n != 500 {
		t.Errorf("%d of 500 stacks arrived", n)
	}
	w.dump(big)
}
