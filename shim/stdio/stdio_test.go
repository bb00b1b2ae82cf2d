package stdio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const much = 64 << 20

func TestParseTarget(t *testing.T) {
	for _, c := range []struct {
		uri  string
		want target
		err  string
	}{
		{"", target{}, ""},
		{"/run/a b?c%zz", target{scheme: schemeFIFO, path: "/run/a b?c%zz"}, ""},
		{"fifo:///run/x", target{scheme: schemeFIFO, path: "/run/x"}, ""},
		{"file:///var/log/x%20y?ignored=1", target{scheme: schemeFile, path: "/var/log/x y"}, ""},
		{"binary:///bin/l", target{scheme: schemeBinary, path: "/bin/l"}, ""},
		{"binary:///bin/l?z=1&a&z=2&empty=&b=x%26y", target{schemeBinary, "/bin/l", []string{"z", "1", "a", "", "empty", "", "b", "x&y"}}, ""},
		{"binary-v2:///bin/l?a=1", target{schemeBinaryV2, "/bin/l", []string{"a", "1"}}, ""},
		{"http://host/x", target{}, "unknown STDIO scheme http"},
		{"binary://relative", target{}, `parse stdio URI "binary://relative": path is not absolute`},
		{"file://", target{}, `parse stdio URI "file://": path is not absolute`},
		{"binary:///bin/l?a=%zz", target{}, `parse stdio URI "binary:///bin/l?a=%zz": invalid URL escape "%zz"`},
	} {
		got, err := parseTarget(c.uri)
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: error %v, want %s", c.uri, err, c.err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v, want %+v", c.uri, got, err, c.want)
		}
	}
}

func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		cfg    Config
		scheme bool
		text   string
	}{
		{Config{Stdout: "http://x/y"}, true, "unknown STDIO scheme http"},
		{Config{Stderr: "http://x/y"}, true, "unknown STDIO scheme http"},
		{Config{Stdin: "binary:///bin/l"}, true, "stdin binary:///bin/l: unknown STDIO scheme binary"},
		{Config{Stdout: dir + "/none"}, false, "open stdout: stat " + dir + "/none: no such file or directory"},
		{Config{Stdin: dir + "/none"}, false, "open stdin: open " + dir + "/none: no such file or directory"},
		{Config{Stdout: "binary://" + dir + "/none"}, false, "start logger " + dir + "/none: fork/exec " + dir + "/none: no such file or directory"},
		{Config{Stdout: "file:///dev/null/x"}, false, "open stdout: mkdir /dev/null: not a directory"},
	} {
		t.Run(c.text, func(t *testing.T) {
			checkLeaks(t)
			_, err := Open(t.Context(), c.cfg)
			var scheme SchemeError
			if err == nil || err.Error() != c.text || errors.As(err, &scheme) != c.scheme {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNothing(t *testing.T) {
	o := open(t, Config{})
	if in, out, err := o.ContainerEnds(); in != nil || out != nil || err != nil {
		t.Error("ends without stdio")
	}
	drain(t, o)
	o.CloseStdin()
	if err := o.Resize(80, 25); err != nil {
		t.Error(err)
	}
	o.Close()
	o.Close()
}

// A container must find ordinary pipes: blocking, and not the client's FIFOs.
func TestProcessGetsPlainPipes(t *testing.T) {
	in, out, errs := mkfifo(t, "in"), mkfifo(t, "out"), mkfifo(t, "err")
	r := reader(t, out)
	o := open(t, Config{Stdin: in, Stdout: out, Stderr: errs})
	got := collector(r)
	if err := start(t, o, "stat").Wait(); err != nil {
		t.Fatal(err)
	}
	if want := "0 pipe false <nil>\n1 pipe false <nil>\n2 pipe false <nil>\n"; got() != want {
		t.Errorf("got %q", got())
	}
}

func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("chown to another user needs root")
	}
	for _, cfg := range []Config{
		{Stdin: mkfifo(t, "in"), Stdout: mkfifo(t, "out"), Stderr: mkfifo(t, "err")},
		{Stdin: mkfifo(t, "in"), Stdout: loggerURI(t.TempDir(), "binary", "")},
	} {
		cfg.UID, cfg.GID = 1234, 5678
		o := open(t, cfg)
		in, out, errs := o.ContainerEnds()
		for _, f := range []*os.File{in, out, errs} {
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if s := info.Sys().(*syscall.Stat_t); s.Uid != 1234 || s.Gid != 5678 {
				t.Errorf("%s belongs to %d:%d", f.Name(), s.Uid, s.Gid)
			}
		}
		o.Close()
	}
}

// How a client may read 64 MiB.
func TestOutputIsWholeAndInOrder(t *testing.T) {
	for name, read := range map[string]func(t *testing.T, path string, f *os.File) (string, int64, error){
		"fast": func(t *testing.T, path string, f *os.File) (string, int64, error) { return sum(f) },
		"slow": func(t *testing.T, path string, f *os.File) (string, int64, error) {
			// Few bytes at a time: the pipes are always full.
			h := sha256.New()
			n, err := io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 700))
			return hex.EncodeToString(h.Sum(nil)), n, err
		},
		"restarting": func(t *testing.T, path string, f *os.File) (string, int64, error) {
			h := sha256.New()
			var total int64
			for range 15 { // then 4 MiB are left, so that a reader is there at the end
				n, err := io.CopyN(h, f, 4<<20)
				if total += n; err != nil {
					return "", total, err
				}
				f.Close()
				if f, err = os.Open(path); err != nil {
					return "", total, err
				}
				defer f.Close()
			}
			n, err := io.Copy(h, f)
			return hex.EncodeToString(h.Sum(nil)), total + n, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs := mkfifo(t, "out"), mkfifo(t, "err")
			r, e := reader(t, out), reader(t, errs)
			o := open(t, Config{Stdout: out, Stderr: errs})
			cmd := start(t, o, "emit", strconv.Itoa(much))
			var all sync.WaitGroup
			for seed, f := range map[byte]*os.File{1: r, 2: e} {
				all.Go(func() {
					got, n, err := read(t, map[byte]string{1: out, 2: errs}[seed], f)
					if err != nil || got != emitted(seed, much) {
						t.Errorf("stream %d: %d bytes, %v, or not the right ones", seed, n, err)
					}
				})
			}
			all.Wait()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			drain(t, o)
		})
	}
}

// The process is gone before anybody reads.
func TestOutputOfProcessThatExitsAtOnce(t *testing.T) {
	out, errs := mkfifo(t, "out"), mkfifo(t, "err")
	r, e := reader(t, out), reader(t, errs)
	o := open(t, Config{Stdout: out, Stderr: errs})
	if err := start(t, o, "emit", "65536").Wait(); err != nil {
		t.Fatal(err)
	}
	for seed, f := range map[byte]*os.File{1: r, 2: e} {
		if got, n, err := sum(f); err != nil || got != emitted(seed, 65536) {
			t.Errorf("stream %d: %d bytes, %v, or not the right ones", seed, n, err)
		}
	}
	drain(t, o)
}

// Short lines share the pages of a FIFO: if each had one of its sixteen to itself, this would wait for a reader.
func TestManyLinesFitIntoAFIFO(t *testing.T) {
	const n = 2500 // two pieces beside each other have more than a page of its sixteen together: half of it is full at least
	out := mkfifo(t, "out")
	o := open(t, Config{Stdout: out})
	r := reader(t, out)
	if err := start(t, o, "lines", strconv.Itoa(n)).Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, o)
	if got, err := io.ReadAll(r); err != nil || string(got) != strings.Repeat("short line\n", n) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// End of file reaches the client as soon as the process is gone: containerd's client waits for it before it deletes.
func TestOutputEndsWithoutClose(t *testing.T) {
	out := mkfifo(t, "out")
	r := reader(t, out)
	o := open(t, Config{Stdout: out})
	got := collector(r)
	start(t, o, "say", "hello", "")
	if got() != "hello" {
		t.Errorf("got %q", got())
	}
}

// A client that was away when the process ended opens the FIFO as containerd does, which waits for a writer, and gets everything and then the
// end.
func TestReaderComesLate(t *testing.T) {
	out := mkfifo(t, "out")
	r := reader(t, out)
	o := open(t, Config{Stdout: out})
	r.Close()
	if err := start(t, o, "say", "last words", "").Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, o)
	type result struct {
		text []byte
		err  error
	}
	got := make(chan result, 1)
	go func() {
		text, err := os.ReadFile(out)
		got <- result{text, err}
	}()
	select {
	case r := <-got:
		if r.err != nil || string(r.text) != "last words" {
			t.Errorf("got %q, %v", r.text, r.err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the FIFO has no writer, or no end")
	}
}

func TestNobodyReads(t *testing.T) {
	out := mkfifo(t, "out")
	o := open(t, Config{Stdout: out})
	cmd := start(t, o, "emit", "1000000") // much more than the pipes hold
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("drain: %v", err)
	}
	o.Close() // now the process gets SIGPIPE
	if err := cmd.Wait(); err == nil {
		t.Error("the process has written everything to nobody")
	}
}

// A child of the process keeps the output: nothing but Close ends it.
func TestHeldOutput(t *testing.T) {
	out := mkfifo(t, "out")
	r := reader(t, out)
	o := open(t, Config{Stdout: out})
	if err := start(t, o, "hold").Wait(); err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Fscan(r, &child); err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(child, unix.SIGKILL)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.Drain(ctx); err == nil {
		t.Error("drained with the output still held")
	}
	o.Close()
	if _, err := io.Copy(io.Discard, r); err != nil { // the client sees the end
		t.Error(err)
	}
}

func TestStdin(t *testing.T) {
	for _, first := range []string{"client", "CloseIO"} {
		t.Run(first+" closes first", func(t *testing.T) {
			in, out := mkfifo(t, "in"), mkfifo(t, "out")
			r := reader(t, out)
			o := open(t, Config{Stdin: in, Stdout: out})
			cmd := start(t, o, "cat")
			w, err := os.OpenFile(in, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if first == "CloseIO" {
				o.CloseStdin()
			}
			go func() {
				emit(w, 1, much)
				w.Close()
				o.CloseStdin()
				o.CloseStdin()
			}()
			if got, n, err := sum(r); err != nil || got != emitted(1, much) {
				t.Errorf("%d bytes, %v, or not the right ones", n, err)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			drain(t, o)
		})
	}
}

// A client that comes and goes does not end stdin: only CloseIO does.
func TestStdinSurvivesItsClient(t *testing.T) {
	in, out := mkfifo(t, "in"), mkfifo(t, "out")
	r := reader(t, out)
	o := open(t, Config{Stdin: in, Stdout: out})
	start(t, o, "cat")
	for i := range 3 {
		if err := os.WriteFile(in, []byte{'a' + byte(i)}, 0); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		if _, err := io.ReadFull(r, b); err != nil || b[0] != 'a'+byte(i) {
			t.Fatalf("got %q, %v", b, err)
		}
	}
	o.CloseStdin()
	if rest, err := io.ReadAll(r); err != nil || len(rest) != 0 {
		t.Errorf("got %q, %v", rest, err)
	}
}

// The client learns that nobody reads its input any more.
func TestStdinOfProcessThatExits(t *testing.T) {
	in := mkfifo(t, "in")
	o := open(t, Config{Stdin: in})
	w, err := os.OpenFile(in, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := start(t, o, "say", "", "").Wait(); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = w.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.EPIPE) {
		t.Errorf("got %v", err)
	}
}

func TestStdinFromFile(t *testing.T) {
	in, out := filepath.Join(t.TempDir(), "in"), mkfifo(t, "out")
	if err := os.WriteFile(in, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := reader(t, out)
	o := open(t, Config{Stdin: in, Stdout: out})
	got := collector(r)
	start(t, o, "cat")
	if got() != "hello" {
		t.Errorf("got %q", got())
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "log")
	for range 2 { // the second appends
		o := open(t, Config{Stdout: "file://" + path, Stderr: "file:///ignored"})
		if err := start(t, o, "say", "x", "x").Wait(); err != nil {
			t.Fatal(err)
		}
		drain(t, o)
		o.Close()
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "xxxx" {
		t.Errorf("got %q, %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
}

func TestFileTakesMuch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o := open(t, Config{Stdout: path}) // a path that is no FIFO
	if err := start(t, o, "emit", strconv.Itoa(much)).Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, o)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, n, err := sum(f); err != nil || got != emitted(1, much) {
		t.Errorf("%d bytes, %v, or not the right ones", n, err)
	}
}

// A destination that fails must not block the container.
func TestFullDisk(t *testing.T) {
	var log bytes.Buffer
	o := open(t, Config{Stdout: "/dev/full", ContainerID: "c1", Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err := start(t, o, "emit", "1000000").Wait(); err != nil {
		t.Fatal(err)
	}
	drain(t, o)
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "no space left on device") {
		t.Errorf("logged %q", got)
	}
}

// A FIFO without a reader is refused; one whose reader is late is not.
func TestFIFONeedsAReader(t *testing.T) {
	checkLeaks(t)
	out := mkfifo(t, "out")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := Open(ctx, Config{Stdout: out})
	if want := (UnreadError(out)); !errors.Is(err, want) || !strings.Contains(err.Error(), "stdout") {
		t.Errorf("got %v", err)
	}

	read := make(chan string)
	go func() {
		time.Sleep(20 * time.Millisecond) // the call of Open comes first, mostly
		text, err := os.ReadFile(out)
		if err != nil {
			text = []byte(err.Error())
		}
		read <- string(text)
	}()
	o, err := Open(t.Context(), Config{Stdout: out, UID: os.Geteuid(), GID: os.Getegid()})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	_, w, _ := o.ContainerEnds()
	if _, err := w.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	o.CloseContainerEnds()
	if err := o.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := <-read; text != "x" {
		t.Errorf("read %q", text)
	}
}
