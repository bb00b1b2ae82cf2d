// Command ready says over NOTIFY_SOCKET what its arguments are, a datagram each, and sleeps.
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
	for _, msg := range os.Args[1:] {
		if _, err := conn.Write([]byte(msg)); err != nil {
			panic(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(time.Hour)
}
