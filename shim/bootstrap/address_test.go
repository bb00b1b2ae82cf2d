package bootstrap

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSocketPath has names that sha256sum made.
func TestSocketPath(t *testing.T) {
	for _, c := range []struct {
		debug bool
		want  string
	}{
		{false, "/run/containerd/s/f6b99128c07bdbd0902363ba979c22f8ef053e683a7ce24dd016a1ab17092c33"},
		{true, "/run/containerd/s/85cbbbc9c96db79a9641bc82285af17595410e5a369bb0c244c9ca49fda8de87"},
	} {
		if got := socketPath("/run/containerd/s", "/run/containerd/containerd.sock", "default", "redis", c.debug); got != c.want {
			t.Errorf("debug %t: got %s", c.debug, got)
		}
	}
}

func TestDefaultSocketDirs(t *testing.T) {
	if got := defaultSocketDirs(0, "/run/user/0"); !slices.Equal(got, []string{"/run/containerd/s"}) {
		t.Errorf("root: got %q", got)
	}
	want := []string{"/run/containerd/s", "/run/user/7/containerd/s", "/run/7/containerd/s", "/tmp/containerd-s-7"}
	if got := defaultSocketDirs(7, "/run/user/7"); !slices.Equal(got, want) {
		t.Errorf("user: got %q", got)
	}
}

func TestSocketDirTooLong(t *testing.T) {
	long := "/" + strings.Repeat("d", maxSocketDir)
	if _, _, err := openSocketDir(long); err == nil || !strings.Contains(err.Error(), "longer than 42") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(long); err == nil {
		t.Error("it was made")
	}
	// The longest directory that passes leaves a path that the kernel takes.
	if n := len(socketPath(long[:maxSocketDir], "a", "n", "i", false)); n > 107 {
		t.Errorf("path of %d bytes", n)
	}
}

func testSocketDir(t *testing.T) *os.File {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	handle, err := makeSocketDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { handle.Close() })
	return handle
}

func TestListen(t *testing.T) {
	dir := testSocketDir(t)
	path := filepath.Join(dir.Name(), "socket")
	fd, err := listen(dir, path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
	if _, err := listen(dir, path); err != errServed {
		t.Errorf("served: got %v", err)
	}
	if err := removeDead(path); err != nil || !exists(path) {
		t.Errorf("removeDead of a live socket: %v, exists %t", err, exists(path))
	}
	unix.Close(fd)

	if fd, err = listen(dir, path); err != nil {
		t.Errorf("stale: got %v", err)
	}
	unix.Close(fd)
	if err := removeDead(path); err != nil || exists(path) {
		t.Errorf("removeDead: %v, exists %t", err, exists(path))
	}
	if err := removeDead(path); err != nil {
		t.Errorf("removeDead of nothing: %v", err)
	}
}

// TestListenFullBacklog: a shim too busy to accept is not a dead one.
func TestListenFullBacklog(t *testing.T) {
	dir := testSocketDir(t)
	path := filepath.Join(dir.Name(), "socket")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := listen(dir, path); err != errServed {
		t.Errorf("got %v", err)
	}
}

// TestListenRace: of many starts that find the same dead socket, exactly one gets to replace it.
func TestListenRace(t *testing.T) {
	dir := testSocketDir(t)
	path := filepath.Join(dir.Name(), "socket")
	for range 20 {
		if fd, err := listen(dir, path); err != nil {
			t.Fatal(err)
		} else {
			unix.Close(fd) // dead from here on
		}
		var wg sync.WaitGroup
		fds := make(chan int, 8)
		for range cap(fds) {
			wg.Go(func() {
				mine, err := makeSocketDir(dir.Name()) // a handle of its own, as another process has
				if err != nil {
					t.Error(err)
					return
				}
				defer mine.Close()
				fd, err := listen(mine, path)
				if err == nil {
					fds <- fd
				} else if err != errServed {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		close(fds)
		if len(fds) != 1 {
			t.Errorf("%d winners", len(fds))
		}
		if !served(path) {
			t.Error("nobody is reachable")
		}
		for fd := range fds {
			unix.Close(fd)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
