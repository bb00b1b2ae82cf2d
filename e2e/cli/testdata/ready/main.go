// Command ready says over NOTIFY_SOCKET that it is ready, among other things that are none of its business, and sleeps.
package main

import (
	"net"
	"os"
	"time"
)

func main() {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: os.Getenv("NOTIFY_SOCKET"), Net: "unixgram"})
	if err != nil {
		panic(err)
	}
	for _, msg := range []string{"STATUS=starting", "MAINPID=1\nREADY=1\nFDSTORE=1"} {
		if _, err := conn.Write([]byte(msg)); err != nil {
			panic(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(time.Hour)
}
