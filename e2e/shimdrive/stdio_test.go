package shimdrive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
)

// TestReaderRestarts: the client of a FIFO goes and another one comes, as when containerd restarts; nothing is lost between them.
func TestReaderRestarts(t *testing.T) {
	const lines = 2_000_000
	s := newSetup(t)
	id, spec := s.spec(t, "seq", "1", fmt.Sprint(lines))
	b := s.bundle(t, id, config(t, spec))
	fifo := filepath.Join(b.Path, "stdout")
	f := readFIFO(t, fifo)
	shim := s.started(t, b)
	if _, err := shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path, Stdout: fifo}); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for range 4 {
		if _, err := io.CopyN(&got, f, 1_000_003); err != nil {
			t.Fatal(err)
		}
		f.Close()
		var err error
		if f, err = os.Open(fifo); err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	read := make(chan error, 1)
	go func() { _, err := io.Copy(&got, f); read <- err }()
	if _, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Delete(t.Context(), &taskapi.DeleteRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil { // delete closes the shim's end
		t.Fatal(err)
	}
	var want bytes.Buffer
	for i := 1; i <= lines; i++ {
		fmt.Fprintln(&want, i)
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("%d bytes arrived of %d, or not in order", got.Len(), want.Len())
	}
}

// TestStdout64MiB: everything arrives, whether or not the reader keeps up, of a process that ends with its last write.
func TestStdout64MiB(t *testing.T) {
	lines := 8_600_000 // 67 688 896 bytes
	if testing.Short() {
		lines = 600_000
	}
	for name, slow := range map[string]bool{"reader keeps up": false, "reader is slow": true} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t)
			id, spec := s.spec(t, "seq", "1", fmt.Sprint(lines))
			b := s.bundle(t, id, config(t, spec))
			fifo := filepath.Join(b.Path, "stdout")
			f := readFIFO(t, fifo)
			shim := s.started(t, b)
			if _, err := shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path, Stdout: fifo}); err != nil {
				t.Fatal(err)
			}
			if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
				t.Fatal(err)
			}
			next, reads := 1, 0
			buf := bufio.NewReaderSize(readerFunc(func(p []byte) (int, error) {
				if reads++; slow && reads < 100 {
					time.Sleep(5 * time.Millisecond)
				}
				return f.Read(p)
			}), 4096)
			for ; ; next++ {
				line, err := buf.ReadString('\n')
				if errors.Is(err, io.EOF) && line == "" {
					break
				}
				if err != nil || line != fmt.Sprintln(next) {
					t.Fatalf("line %d: %q, %v", next, line, err)
				}
			}
			if next != lines+1 {
				t.Errorf("%d lines of %d", next-1, lines)
			}
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestLoggerThatAnswers is a logger of the second protocol, which must write a byte when it is ready.
func TestLoggerThatAnswers(t *testing.T) {
	s := newSetup(t)
	id, spec := s.spec(t, "echo", "logged")
	b := s.bundle(t, id, config(t, spec))
	dir := t.TempDir()
	logger, log := filepath.Join(dir, "logger"), filepath.Join(dir, "log")
	script := "#!/bin/sh\nprintf 1 >&5; exec 5>&-\necho $CONTAINER_ID $CONTAINER_NAMESPACE >" + log + "\ncat <&3 >>" + log + "\n"
	if err := os.WriteFile(logger, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	uri := "binary-v2://" + logger
	shim := s.started(t, b)
	if _, err := shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: b.Path, Stdout: uri, Stderr: uri}); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Start(t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Task.Delete(t.Context(), &taskapi.DeleteRequest{ID: id}); err != nil { // waits for the logger
		t.Fatal(err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if want := id + " " + s.namespace + "\nlogged\n"; string(text) != want {
		t.Errorf("log: %q, want %q", text, want)
	}
}
