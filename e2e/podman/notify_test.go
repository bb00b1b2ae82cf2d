package podman

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// readyName is argv[0] of the program in a container that says over NOTIFY_SOCKET that it is ready: this one, built without cgo.
const readyName = "/ready"

func ready() {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: os.Getenv("NOTIFY_SOCKET"), Net: "unixgram"})
	if err != nil {
		panic(err)
	}
	if _, err := io.WriteString(conn, "READY=1"); err != nil {
		panic(err)
	}
	time.Sleep(time.Hour)
}

// TestNotify: the container's READY=1 reaches who started podman, and so does a MAINPID, conmon's.
func TestNotify(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ready"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()

	name := newName(t)
	args := append([]string{"run", "--detach", "--name", name, "--sdnotify", "container", "--volume", dir + "/ready:" + readyName + ":ro"}, options(nil)...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := command(ctx, append(args, testImage, readyName)...)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+socket.LocalAddr().String())
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("podman run --sdnotify container: %v: %s", err, said.String())
	}
	socket.SetReadDeadline(time.Now().Add(20 * time.Second))
	var heard string
	for !strings.Contains(heard, "READY=1") || !strings.Contains(heard, "MAINPID=") {
		b := make([]byte, 1<<12)
		n, err := socket.Read(b)
		if err != nil {
			t.Fatalf("heard %q: %v", heard, err)
		}
		heard += string(b[:n]) + "\n"
	}
}
