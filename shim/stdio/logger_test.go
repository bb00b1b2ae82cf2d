package stdio

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loggerURI names the test's own logger.
func loggerURI(dir, scheme, how string) string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return scheme + "://" + self + "?program=logger&" + dir + "&" + how
}

func contents(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func checkReaped(t *testing.T, o *IO) {
	t.Helper()
	if err := unix.Kill(o.logger.process.Pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("logger is still there: %v", err)
	}
}

func TestLogger(t *testing.T) {
	for _, scheme := range []string{"binary", "binary-v2"} {
		t.Run(scheme, func(t *testing.T) {
			t.Setenv("SECRET", "of the shim")
			dir := t.TempDir()
			in := mkfifo(t, "in")
			uri := loggerURI(dir, scheme, "log") + "&z=1&a="
			o := open(t, Config{Stdin: in, Stdout: uri, Stderr: uri, ContainerID: "c1", Namespace: "n1"})
			if err := start(t, o, "emit", strconv.Itoa(much/8)).Wait(); err != nil {
				t.Fatal(err)
			}
			drain(t, o)
			o.Close()
			checkReaped(t, o)
			for seed, name := range map[byte]string{1: "out", 2: "err"} {
				f, err := os.Open(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if got, n, err := sum(f); err != nil || got != emitted(seed, much/8) {
					t.Errorf("%s: %d bytes, %v, or not the right ones", name, n, err)
				}
			}
			want := []string{"program", "logger", dir, "", "log", "", "z", "1", "a", "", "CONTAINER_ID=c1", "CONTAINER_NAMESPACE=n1"}
			if got := contents(t, dir, "self"); got != strings.Join(want, "\n") {
				t.Errorf("arguments and environment %q", got)
			}
		})
	}
}

func TestLoggerThatIsNotReady(t *testing.T) {
	for _, c := range []struct {
		scheme, how string
		want        error
	}{
		{"binary-v2", "crash", nil},
		{"binary", "hang", context.DeadlineExceeded},
		{"binary-v2", "hang", context.DeadlineExceeded},
	} {
		t.Run(c.scheme+" "+c.how, func(t *testing.T) {
			checkLeaks(t)
			dir := t.TempDir()
			ctx := t.Context()
			if c.want != nil {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
				defer cancel()
			}
			_, err := Open(ctx, Config{Stdout: loggerURI(dir, c.scheme, c.how)})
			if err == nil || !errors.Is(err, c.want) && c.want != nil {
				t.Fatalf("got %v", err)
			}
			if !strings.HasPrefix(err.Error(), "start logger /") {
				t.Errorf("got %v", err)
			}
			// It was our only child.
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
				t.Errorf("the logger is still there, or was not waited for: %d, %v", pid, err)
			}
		})
	}
}

// The first version of the protocol takes a closed pipe for readiness, so a logger that crashed goes unnoticed. The container
// runs on.
func TestLoggerThatDies(t *testing.T) {
	for _, how := range []string{"crash", "die"} {
		o := open(t, Config{Stdout: loggerURI(t.TempDir(), "binary", how)})
		if err := start(t, o, "emit", "1000000").Wait(); err != nil {
			t.Errorf("the process was disturbed: %v", err)
		}
		drain(t, o)
		checkReaped(t, o)
		o.Close()
	}
}

func TestLoggerThatDiesLate(t *testing.T) {
	o := open(t, Config{Stdout: loggerURI(t.TempDir(), "binary-v2", "log")})
	cmd := start(t, o, "emit", strconv.Itoa(much))
	o.logger.process.Kill()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the process was disturbed: %v", err)
	}
	drain(t, o)
}

func TestLoggerGetsSIGTERM(t *testing.T) {
	dir := t.TempDir()
	o := open(t, Config{Stdout: loggerURI(dir, "binary", "linger")})
	o.logger.lingers = time.Millisecond
	if err := start(t, o, "say", "hello", "").Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, o)
	o.Close()
	checkReaped(t, o)
	contents(t, dir, "terminated")
	if got := contents(t, dir, "out"); got != "hello" {
		t.Errorf("got %q", got)
	}
}

func TestLoggerGetsSIGKILL(t *testing.T) {
	o := open(t, Config{Stdout: loggerURI(t.TempDir(), "binary", "stubborn")})
	o.logger.lingers, o.logger.terms = time.Millisecond, time.Millisecond
	if err := start(t, o, "say", "hello", "").Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, o)
	o.Close()
	checkReaped(t, o)
}

func TestLoggerOfTerminal(t *testing.T) {
	dir := t.TempDir()
	o := open(t, Config{Stdout: loggerURI(dir, "binary", "log"), Terminal: true})
	cmd := startOnTerminal(t, o, "emit", "300000")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, o)
	o.Close()
	checkReaped(t, o)
	if got := contents(t, dir, "out"); got != terminalOutput(300000) {
		t.Errorf("got %d bytes, or not the right ones", len(got))
	}
	if got := contents(t, dir, "err"); got != "" {
		t.Errorf("stderr %q", got)
	}
}

func TestLoggerOfTerminalThatDies(t *testing.T) {
	o := open(t, Config{Stdout: loggerURI(t.TempDir(), "binary", "die"), Terminal: true})
	if err := startOnTerminal(t, o, "emit", "1000000").Wait(); err != nil {
		t.Errorf("the process was disturbed: %v", err)
	}
	drain(t, o)
}

// terminalOutput is what emit shows on the tests' terminal. It writes everything twice, in an order that nobody knows.
func terminalOutput(n int) string {
	var b bytes.Buffer
	emit(&b, 1, n)
	return b.String()
}
