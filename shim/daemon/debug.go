package daemon

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"time"
)

// serveDebug answers every connection with the daemon's memory and stacks, until the listener is closed. The head of the
// answer makes it readable for `curl --unix-socket`; linking an HTTP server for it would double the program.
func serveDebug(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(debugTimeout))
			io.WriteString(conn, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
			writeDebug(conn)
			// A close with the request unread could discard the answer.
			if c, ok := conn.(*net.UnixConn); ok && c.CloseWrite() == nil {
				io.Copy(io.Discard, c)
			}
		}()
	}
}

// debugTimeout bounds one connection to the debug socket.
const debugTimeout = 5 * time.Second

func writeDebug(w io.Writer) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Fprintf(w, "pid %d, %d goroutines, GOMAXPROCS %d, %s\n", os.Getpid(), runtime.NumGoroutine(), runtime.GOMAXPROCS(0), runtime.Version())
	fmt.Fprintf(w, "heap: %d KiB live, %d KiB in use, %d KiB from the system, next collection at %d KiB, %d collections\n",
		m.HeapAlloc/1024, m.HeapInuse/1024, m.HeapSys/1024, m.NextGC/1024, m.NumGC)
	fmt.Fprintf(w, "stacks: %d KiB, all: %d KiB from the system\n\n", m.StackInuse/1024, m.Sys/1024)
	if text, err := os.ReadFile("/proc/self/smaps_rollup"); err == nil {
		fmt.Fprintf(w, "%s\n", text)
	}
	w.Write(stacks())
}

// stacks returns the stacks of all goroutines.
func stacks() []byte {
	for size := 64 << 10; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			return buf[:n]
		}
	}
}
