package stdio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain also is the programs that the tests run: the process of a container, and loggers.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "program" {
		program(os.Args[2], os.Args[3:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func program(name string, args []string) {
	switch name {
	case "emit": // COUNT bytes to stdout, and as many to stderr
		n, _ := strconv.Atoi(args[0])
		done := make(chan error)
		go func() { done <- emit(os.Stderr, 2, n) }()
		if err := emit(os.Stdout, 1, n); err != nil {
			fail(err)
		}
		if err := <-done; err != nil {
			fail(err)
		}
	case "cat":
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			fail(err)
		}
	case "say": // to stdout and stderr
		fmt.Fprint(os.Stdout, args[0])
		fmt.Fprint(os.Stderr, args[1])
	case "lines": // COUNT, one by one
		n, _ := strconv.Atoi(args[0])
		for range n {
			fmt.Println("short line")
		}
	case "stat": // what stdin, stdout and stderr are
		for fd := range 3 {
			name, err := os.Readlink(fmt.Sprint("/proc/self/fd/", fd))
			flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			fmt.Println(fd, strings.TrimRight(name, "[]:0123456789"), flags&unix.O_NONBLOCK != 0, err)
		}
	case "hold": // a child that keeps stdout, and leave
		cmd := exec.Command("/proc/self/exe", "program", "wait")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			fail(err)
		}
		fmt.Println(cmd.Process.Pid)
	case "wait":
		forever()
	case "logger":
		logger3(args)
	}
}

// logger3 is a logger: DIR and then what it does.
func logger3(args []string) {
	// The URI gives every key a value, which is empty here.
	dir, how := args[0], args[2]
	signal.Ignore(syscall.SIGPIPE)
	self := strings.Join(append(os.Args[1:], os.Environ()...), "\n")
	os.WriteFile(filepath.Join(dir, "self"), []byte(self), 0o600)
	ready := os.NewFile(5, "ready")
	switch how {
	case "crash":
		os.Exit(3)
	case "hang":
		forever()
	}
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	ready.Write([]byte{0})
	ready.Close()
	if how == "die" { // without having read anything
		os.Exit(3)
	}
	done := make(chan error)
	for fd, name := range []string{3: "out", 4: "err"} {
		if name == "" {
			continue
		}
		go func() {
			f, err := os.Create(filepath.Join(dir, name))
			if err == nil {
				_, err = io.Copy(f, os.NewFile(uintptr(fd), name))
			}
			done <- err
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			fail(err)
		}
	}
	if how == "linger" { // until SIGTERM
		<-terms
		os.WriteFile(filepath.Join(dir, "terminated"), nil, 0o600)
	}
	if how == "stubborn" {
		forever()
	}
}

// forever does not return. An empty select would be a deadlock to the runtime.
func forever() { time.Sleep(1 << 62) }

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// emit writes n bytes that depend on seed and position, in pieces of changing size.
func emit(w io.Writer, seed byte, n int) error {
	buf := make([]byte, 100_003)
	for at := 0; n > 0; {
		piece := min(n, 1+at%len(buf))
		for i := range buf[:piece] {
			buf[i] = pattern(seed, at+i)
		}
		if _, err := w.Write(buf[:piece]); err != nil {
			return err
		}
		at += piece
		n -= piece
	}
	return nil
}

func pattern(seed byte, at int) byte { return seed + byte(at) + byte(at>>8) + byte(at>>16) }

func emitted(seed byte, n int) string {
	h := sha256.New()
	emit(h, seed, n)
	return hex.EncodeToString(h.Sum(nil))
}

func sum(r io.Reader) (string, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// mkfifo makes a FIFO in a directory of the test's own.
func mkfifo(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// reader opens a FIFO as containerd does: before there is a writer.
func reader(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// open opens stdio and checks that all of it is gone at the end of the test. Every FIFO has a reader for that long.
func open(t *testing.T, cfg Config) *IO {
	t.Helper()
	checkLeaks(t)
	for _, path := range []string{cfg.Stdout, cfg.Stderr} {
		if info, err := os.Stat(path); err == nil && info.Mode().Type() == os.ModeNamedPipe {
			f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
		}
	}
	o, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

// checkLeaks fails the test if it ends with other files or goroutines than it has now. A copying goroutine needs a moment to
// notice that its files were closed.
func checkLeaks(t *testing.T) {
	t.Helper()
	files, routines := countFiles(t), runtime.NumGoroutine()
	t.Cleanup(func() {
		for end := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
			f, r := countFiles(t), runtime.NumGoroutine()
			if f <= files && r <= routines {
				return
			}
			if time.Now().After(end) {
				stacks := make([]byte, 1<<16)
				t.Errorf("%d files and %d goroutines before, %d and %d after\n%s",
					files, routines, f, r, stacks[:runtime.Stack(stacks, true)])
				return
			}
		}
	})
}

func countFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// start runs a program on the container's ends.
func start(t *testing.T, o *IO, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"program"}, args...)...)
	// A nil *os.File in an io.Reader is not a nil io.Reader.
	in, out, err := o.ContainerEnds()
	if in != nil {
		cmd.Stdin = in
	}
	if out != nil {
		cmd.Stdout = out
	}
	if err != nil {
		cmd.Stderr = err
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	o.CloseContainerEnds()
	return cmd
}

func drain(t *testing.T, o *IO) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := o.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

// collector reads r to its end in the background.
func collector(r io.Reader) func() string {
	var b bytes.Buffer
	done := make(chan struct{})
	go func() {
		io.Copy(&b, r)
		close(done)
	}()
	return func() string {
		<-done
		return b.String()
	}
}
