package task

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/console"
)

// manyLines is a number of lines with which the output of seq is longer than 64 MiB, or, in a short run, 4 MiB.
func manyLines() int {
	if testing.Short() {
		return 600_000
	}
	return 8_600_000
}

// sequence checks that what is written to it is the output of seq 1 n, and remembers where it first is not.
type sequence struct {
	next, total int
	want        []byte // what is left of the line before next
	wrong       string
}

func (s *sequence) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && s.wrong == ""; {
		if len(s.want) == 0 {
			s.next++
			s.want = strconv.AppendInt(s.want, int64(s.next), 10)
			s.want = append(s.want, '\n')
		}
		n := min(len(rest), len(s.want))
		if !bytes.Equal(rest[:n], s.want[:n]) {
			s.wrong = fmt.Sprintf("at byte %d: %.60q, want %q", s.total+len(p)-len(rest), rest, s.want)
		}
		rest, s.want = rest[n:], s.want[n:]
	}
	s.total += len(p)
	return len(p), nil
}

func (s *sequence) check(t *testing.T, n int) {
	t.Helper()
	if s.wrong != "" || s.next != n || len(s.want) != 0 {
		t.Errorf("%d bytes, %d lines of %d; %s", s.total, s.next, n, s.wrong)
	}
}

// slowWriter takes its time over the first writes.
type slowWriter struct {
	w     io.Writer
	calls int
}

func (s *slowWriter) Write(p []byte) (int, error) {
	s.calls++
	if s.calls < 50 {
		time.Sleep(10 * time.Millisecond)
	}
	return s.w.Write(p)
}

// TestStdout64MiB lets the process linger: the client library of containerd 2.4 closes its FIFOs as soon as it hears of the exit, read or
// not. The same with a client that reads to the end, and a process that ends at once, is in package shimdrive.
func TestStdout64MiB(t *testing.T) {
	for name, slow := range map[string]bool{"reader keeps up": false, "reader is slow": true} {
		t.Run(name, func(t *testing.T) {
			var got sequence
			var out io.Writer = &got
			if slow {
				out = &slowWriter{w: &got}
			}
			r := ctrIO(t, shared.daemon, nil, out, "run", "--rm", "--runtime", *runtimeFlag, testImage, newID(t, shared.daemon), "sh", "-c", fmt.Sprintf("seq 1 %d; sleep 1", manyLines()))
			equal(t, "exit code", r.code, 0)
			got.check(t, manyLines())
		})
	}
}

// TestStdoutOfShortLives: what a process wrote before it ended at once must arrive.
func TestStdoutOfShortLives(t *testing.T) {
	id := detached(t, shared.daemon, nil, "sleep", "1000")
	text := strings.Repeat("x", 60000)
	for i := range 20 {
		out := must(t, shared.daemon, "task", "exec", "--exec-id", fmt.Sprintf("s%d", i), id, "sh", "-c", "printf %060000d 0 | tr 0 x")
		if out != text {
			t.Fatalf("run %d: %d of %d bytes", i, len(out), len(text))
		}
	}
}

func TestStdinToEnd(t *testing.T) {
	in := strings.Repeat("0123456789abcdef", 1<<19) // 8 MiB
	var out bytes.Buffer
	r := ctrIO(t, shared.daemon, strings.NewReader(in), &out, "run", "--rm", "--runtime", *runtimeFlag, testImage, newID(t, shared.daemon), "cat")
	equal(t, "exit code", r.code, 0)
	if out.String() != in {
		t.Errorf("cat gave %d bytes for %d", out.Len(), len(in))
	}
	id := detached(t, shared.daemon, nil, "sleep", "1000")
	r = ctrIO(t, shared.daemon, strings.NewReader("to an exec\n"), nil, "task", "exec", "--exec-id", "e", id, "cat")
	equal(t, "output of an exec", r.stdout, "to an exec\n")
}

// terminal runs ctr on a terminal of its own with the size of 33 lines and 77 columns, and returns what it printed.
func terminal(t *testing.T, in string, args ...string) string {
	t.Helper()
	master, path, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	slave, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := master.Resize(console.WinSize{Height: 33, Width: 77}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := shared.daemon.Ctr(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	var out bytes.Buffer
	done := make(chan struct{})
	go func() { _, _ = io.Copy(&out, master); close(done) }() // ends with EIO when ctr has closed the terminal
	if in != "" {
		if _, err := master.Write([]byte(in)); err != nil {
			t.Fatal(err)
		}
	}
	err = cmd.Wait()
	<-done
	if err != nil {
		t.Fatalf("ctr %q: %v\n%s", args, err, &out)
	}
	return strings.ReplaceAll(out.String(), "\r", "") // both terminals may add one to each line
}

// waitSize is a script that ends when the terminal has the size that ctr sends after the start.
const waitSize = `n=0; until [ "$(stty size)" = "33 77" ] || [ $n = 100 ]; do n=$((n+1)); sleep 0.05; done; stty size;`

func TestTerminal(t *testing.T) {
	script := waitSize + `tty; test -t 0 && test -t 1 && test -t 2 && echo all; test -c /dev/console && echo console; echo $$ $(cut -d' ' -f6,7 /proc/$$/stat)`
	out := terminal(t, "", "run", "--rm", "--tty", "--runtime", *runtimeFlag, testImage, newID(t, shared.daemon), "sh", "-c", script)
	contains(t, "output", out, "33 77\n", "/dev/pts/0\n", "all\n", "console\n", "1 1 34816\n")
}

func TestTerminalInput(t *testing.T) {
	out := terminal(t, "hello\n", "run", "--rm", "--tty", "--runtime", *runtimeFlag, testImage, newID(t, shared.daemon), "sh", "-c", "read line; echo got $line")
	contains(t, "output", out, "got hello\n")
}

// TestTerminalOutputIsComplete: the master has to be drained after the last process closed the terminal.
func TestTerminalOutputIsComplete(t *testing.T) {
	out := terminal(t, "", "run", "--rm", "--tty", "--runtime", *runtimeFlag, testImage, newID(t, shared.daemon), "seq", "1", "20000")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	equal(t, "lines", len(lines), 20000)
	equal(t, "last line", lines[len(lines)-1], "20000")
}

func TestTerminalOfExec(t *testing.T) {
	id := detached(t, shared.daemon, nil, "sleep", "1000")
	out := terminal(t, "", "task", "exec", "--tty", "--exec-id", "e", id, "sh", "-c", waitSize+"tty; exit 0")
	contains(t, "output", out, "33 77\n", "/dev/pts/")
}

func TestLogFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new", "dir", "log")
	output(t, []string{"--log-uri", "file://" + file}, "sh", "-c", "echo out; echo err >&2")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, "log", string(text), "out\n")
	onRunc(t, "it does not wait for both streams to be written, and now and then loses one")
	contains(t, "log", string(text), "err\n")
}

func TestLogBinary(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "log")
	logger := filepath.Join(dir, "logger")
	script := "#!/bin/sh\nexec 5>&-\nprintf '%s %s\\n' \"$1\" \"$2\" >" + file + "\necho $CONTAINER_NAMESPACE >>" + file + "\ncat <&3 >>" + file + "\n"
	if err := os.WriteFile(logger, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	output(t, []string{"--log-uri", "binary://" + logger + "?key=value"}, "echo", "logged")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "log", string(text), "key value\n"+shared.daemon.Namespace+"\nlogged\n")
}
