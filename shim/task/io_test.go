package task

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	api "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
)

func TestStdin(t *testing.T) {
	s := newShim(t)
	r := s.request("c1", spec("/bin/cat"))
	r.Stdin = s.fifo()
	var out func() string
	r.Stdout, out = s.output()
	s.create(r)
	s.start("c1", "")
	if err := os.WriteFile(r.Stdin, []byte("hello"), 0); err != nil {
		t.Fatal(err)
	}
	closeIO := func(exec string) {
		t.Helper()
		if _, err := s.client.CloseIO(t.Context(), &api.CloseIORequest{ID: "c1", ExecID: exec, Stdin: true}); err != nil {
			t.Error(err)
		}
	}
	// Before its start: the end of stdin waits for it.
	x := &api.ExecProcessRequest{ID: "c1", ExecID: "e1", Stdin: s.fifo()}
	s.addExec(x, "/bin/cat")
	closeIO("e1")
	s.start("c1", "e1")
	equal(t, "exit status of exec", s.wait("c1", "e1"), 0)

	closeIO("")
	equal(t, "exit status", s.wait("c1", ""), 0)
	equal(t, "output", out(), "hello")
	closeIO("")
}

func TestTerminal(t *testing.T) {
	s := newShim(t)
	config := sh("read x; stty size; echo $x")
	config.Process.Terminal = true
	config.Process.ConsoleSize = &specs.Box{Height: 20, Width: 30}
	r := s.request("c1", config)
	r.Terminal, r.Stdin = true, s.fifo()
	var out func() string
	r.Stdout, out = s.output()
	s.create(r)
	s.start("c1", "")
	resize := func(exec string) error {
		_, err := s.client.ResizePty(t.Context(), &api.ResizePtyRequest{ID: "c1", ExecID: exec, Width: 132, Height: 43})
		return err
	}
	if err := resize(""); err != nil {
		t.Error(err)
	}
	s.addExec(&api.ExecProcessRequest{ID: "c1", ExecID: "e1"}, "/bin/sleep", "1000")
	if err := resize("e1"); err != nil {
		t.Errorf("without a terminal: %v", err)
	}
	x := &api.ExecProcessRequest{ID: "c1", ExecID: "e2", Terminal: true}
	var execOut func() string
	x.Stdout, execOut = s.output()
	s.addExec(x, "/bin/sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo three")
	s.start("c1", "e2")
	equal(t, "output of the exec", execOut(), "three\r\n")

	if err := os.WriteFile(r.Stdin, []byte("word\n"), 0); err != nil {
		t.Fatal(err)
	}
	equal(t, "exit status", s.wait("c1", ""), 0)
	equal(t, "output", out(), "word\r\n43 132\r\nword\r\n")
	refused(t, "resize after the end", resize(""), codes.FailedPrecondition, "cannot resize a stopped container")
}

func TestMuchOutput(t *testing.T) {
	s := newShim(t)
	r := s.request("c1", sh("i=0; while [ $i -lt 200000 ]; do echo line $i; i=$((i+1)); done"))
	var out func() string
	r.Stdout, out = s.output()
	s.create(r)
	s.start("c1", "")
	text := out()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	equal(t, "lines", len(lines), 200000)
	for i, l := range lines {
		if l != fmt.Sprint("line ", i) {
			t.Fatalf("line %d is %q", i, l)
		}
	}
}

func TestFileOutput(t *testing.T) {
	s := newShim(t)
	r := s.request("c1", sh("echo hello"))
	log := filepath.Join(t.TempDir(), "dir", "log")
	r.Stdout = "file://" + log
	s.create(r)
	s.start("c1", "")
	s.wait("c1", "")
	s.delete("c1", "")
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "log", string(text), "hello\n")
}

func TestLogger(t *testing.T) {
	s := newShim(t)
	log := filepath.Join(t.TempDir(), "log")
	script := filepath.Join(t.TempDir(), "logger")
	text := "#!/bin/busybox sh\nexec 5>&-\ncat <&3 >" + log + "\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	r := s.request("c1", sh("echo hello"))
	r.Stdout = "binary://" + script
	s.create(r)
	s.start("c1", "")
	s.wait("c1", "")
	s.delete("c1", "")
	got, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "log", string(got), "hello\n")
}
