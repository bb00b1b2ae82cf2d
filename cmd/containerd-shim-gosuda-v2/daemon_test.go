package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
)

func proc(t *testing.T, pid int, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDaemonProcess looks at what start leaves behind.
func TestDaemonProcess(t *testing.T) {
	b := newBundle(t, "")
	pid := shimPid(t, b.start())

	name := filepath.Base(os.Args[0])
	if got, want := strings.TrimSpace(proc(t, pid, "comm")), name[:min(len(name), 15)]; got != want { // TASK_COMM_LEN
		t.Errorf("comm: got %q, want %q", got, want)
	}
	args := strings.Split(strings.TrimSuffix(proc(t, pid, "cmdline"), "\x00"), "\x00")
	if want := []string{os.Args[0], "-namespace", testNamespace, "-id", b.id, "-address", b.grpcAddress()}; !slices.Equal(args, want) {
		t.Errorf("cmdline: got %q, want %q", args, want)
	}
	if cwd, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/cwd"); cwd != b.dir {
		t.Errorf("cwd: got %s, %v", cwd, err)
	}
	if pgid, err := unix.Getpgid(pid); pgid != pid {
		t.Errorf("process group: got %d, %v, want its own", pgid, err)
	}
	env := proc(t, pid, "environ")
	if strings.Contains(env, "swordfish") {
		t.Error("the environment has what containerd was given and the shim does not need")
	}
	for _, want := range []string{"TTRPC_ADDRESS=" + b.grpcAddress() + ".ttrpc", "NAMESPACE=" + testNamespace, "PATH="} {
		if !strings.Contains(env, want) {
			t.Errorf("the environment lacks %s", want)
		}
	}
}

// TestDaemonFiles: a container's init is a copy of the daemon, and containerd waits for the end of its output.
func TestDaemonFiles(t *testing.T) {
	b := newBundle(t, "")
	secret, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	cmd := b.command("start", b.params())
	cmd.ExtraFiles = slices.Repeat([]*os.File{secret}, 100) // what a careless parent would hand down
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	address := "unix://" + filepath.Join(b.socketDir, socketName(b, b.id))
	b.endWithTest(address)
	pid := shimPid(t, address)
	var wrong []string
	eventually(func() bool { // it may be reading what the kernel tells of the host
		wrong = wrongFiles(t, pid, filepath.Join(b.dir, "log"))
		return len(wrong) == 0
	})
	for _, w := range wrong {
		t.Error(w)
	}
}

// wrongFiles says which files a daemon has open that it should not.
func wrongFiles(t *testing.T, pid int, log string) (wrong []string) {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sockets := 0
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		ok := false
		switch {
		case e.Name() == "0" || e.Name() == "1":
			ok = target == "/dev/null"
		case e.Name() == "2":
			ok = target == log
		case strings.HasPrefix(target, "socket:"):
			ok = true
			sockets++
		case target == "/proc" || target == "/dev/null" || strings.HasPrefix(target, "pid:["):
			ok = true // the engine keeps these for as long as it lives
		case target == "anon_inode:[eventpoll]" || target == "anon_inode:[eventfd]":
			ok = true
		}
		if !ok {
			wrong = append(wrong, fmt.Sprintf("fd %s is %s", e.Name(), target))
		}
	}
	// The listener; the connections of the two calls of shimPid may not be closed yet.
	if sockets < 1 || sockets > 3 {
		wrong = append(wrong, fmt.Sprintf("%d sockets", sockets))
	}
	return wrong
}

func TestDaemonOOMScore(t *testing.T) {
	b := newBundle(t, "")
	pid := shimPid(t, b.start())
	ours, err := strconv.Atoi(strings.TrimSpace(proc(t, os.Getpid(), "oom_score_adj")))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(proc(t, pid, "oom_score_adj")), strconv.Itoa(min(ours+1, 1000)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestDaemonFileCannotBeOverwritten plays a container that holds /proc/PID/exe of a process that is still the shim, waits
// until nobody executes the file any more, and opens it for writing: CVE-2019-5736.
func TestDaemonFileCannotBeOverwritten(t *testing.T) {
	b := newBundle(t, "")
	b.program = filepath.Join(filepath.Dir(b.socketDir), "shim") // a copy: the test itself keeps its own file busy
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.program, program, 0o755); err != nil {
		t.Fatal(err)
	}
	pid := shimPid(t, b.start())
	exe := "/proc/" + strconv.Itoa(pid) + "/exe"
	if target, err := os.Readlink(exe); target != "/" {
		t.Fatalf("the daemon executes %s, %v, not a mount of it", target, err)
	}
	if f, err := os.OpenFile(exe, os.O_WRONLY, 0); !errors.Is(err, syscall.ETXTBSY) && !errors.Is(err, syscall.EROFS) {
		f.Close()
		t.Errorf("while it runs: got %v", err)
	}
	handle, err := unix.Open(exe, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(handle)
	end(t, pid, unix.SIGKILL)
	if f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(handle), os.O_WRONLY, 0); !errors.Is(err, syscall.EROFS) {
		f.Close()
		t.Errorf("after its end: got %v, want EROFS", err)
	}
	// It is the same file all the same: pages are shared between shims.
	var here, there unix.Stat_t
	if err := unix.Stat(b.program, &here); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fstat(handle, &there); err != nil || here.Ino != there.Ino {
		t.Errorf("inode %d, want %d, %v", there.Ino, here.Ino, err)
	}
}

// TestDaemonWithoutMountRights: where open_tree is refused the shim runs from its file, and says so.
func TestDaemonWithoutMountRights(t *testing.T) {
	b := newBundle(t, "")
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread that lost the capability ends with the goroutine
		err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0)
		if err == nil {
			err = b.command("start", b.params()).Run()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	address := "unix://" + filepath.Join(b.socketDir, socketName(b, b.id))
	b.endWithTest(address)
	if exe, err := os.Readlink("/proc/" + strconv.Itoa(shimPid(t, address)) + "/exe"); exe == "/" || err != nil {
		t.Errorf("exe: got %s, %v", exe, err)
	}
	readUntil(t, log, "open_tree: operation not permitted")
}

// readUntil reads from the log until a text appears.
func readUntil(t *testing.T, log *os.File, want string) string {
	t.Helper()
	log.SetReadDeadline(time.Now().Add(time.Minute))
	var text strings.Builder
	buf := make([]byte, 1<<16)
	for !strings.Contains(text.String(), want) {
		n, err := log.Read(buf)
		if err != nil {
			t.Fatalf("waiting for %q in the log: %v; it has %q", want, err, text.String())
		}
		text.Write(buf[:n])
	}
	return text.String()
}

// TestLogThatNobodyReads: neither an unread FIFO nor a full one stops the shim, and a reader that comes later gets what was
// written.
func TestLogThatNobodyReads(t *testing.T) {
	b := newBundle(t, "")
	address := b.start()
	pid := shimPid(t, address)
	// Fill it, as a containerd does that has stopped.
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for {
		if _, err := unix.Write(int(log.Fd()), line); err == unix.EAGAIN {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.SetNonblock(int(log.Fd()), true); err != nil { // Fd undid it
		t.Fatal(err)
	}
	for range 20 {
		unix.Kill(pid, unix.SIGUSR1) // a stack dump each
		if got := shimPid(t, address); got != pid {
			t.Fatalf("another shim: %d", got)
		}
	}
	buf := make([]byte, 1<<20)
	for {
		if n, err := unix.Read(int(log.Fd()), buf); n <= 0 || err != nil {
			break
		}
	}
	unix.Kill(pid, unix.SIGUSR1)
	again, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if text := readUntil(t, again, "=== END goroutine stack dump ==="); !strings.Contains(text, "goroutine ") {
		t.Errorf("no stacks in %q", text)
	}
}

// TestLogWithoutReader: containerd is away when the shim starts.
func TestLogWithoutReader(t *testing.T) {
	b := newBundle(t, "")
	b.debug = true
	b.start()
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	readUntil(t, log, "shim serves")
}

func TestSignalsEndTheShim(t *testing.T) {
	for _, signal := range []syscall.Signal{unix.SIGTERM, unix.SIGINT} {
		b := newBundle(t, "")
		b.debug = true
		address := b.start()
		pid := shimPid(t, address)
		// A request that is still waited for does not keep it.
		conn, err := net.Dial("unix", path(address))
		if err != nil {
			t.Fatal(err)
		}
		client := ttrpc.NewClient(conn)
		defer client.Close()
		unix.Kill(pid, signal)
		var status unix.WaitStatus
		for {
			_, err = unix.Wait4(pid, &status, 0, nil)
			if err != unix.EINTR {
				break
			}
		}
		if err != nil || !status.Exited() || status.ExitStatus() != 0 {
			t.Errorf("%v: status %v, %v", signal, status, err)
		}
		if entries, _ := os.ReadDir(b.socketDir); len(entries) > 0 {
			t.Errorf("%v: sockets left: %v", signal, entries)
		}
	}
}

// TestShutdownAnswersFirst: the shim leaves, and containerd gets its answer.
func TestShutdownAnswersFirst(t *testing.T) {
	b := newBundle(t, "")
	address := b.start()
	pid := shimPid(t, address)
	conn, err := net.Dial("unix", path(address))
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := task.NewTTRPCTaskClient(client).Shutdown(ctx, &task.ShutdownRequest{ID: b.id}); err != nil {
		t.Errorf("got %v", err)
	}
	end(t, pid, 0)
	if exists(path(address)) {
		t.Error("the socket is left")
	}
}

func TestDebugSocket(t *testing.T) {
	b := newBundle(t, "")
	b.debug = true
	pid := shimPid(t, b.start())
	conn, err := net.Dial("unix", filepath.Join(b.socketDir, socketName(b, b.id+"/debug")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: shim\r\n\r\n")
	conn.(*net.UnixConn).CloseWrite()
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"HTTP/1.0 200 OK\r\n", "pid " + strconv.Itoa(pid), "heap: ", "Private_Dirty:", "goroutine 1 "} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
}
