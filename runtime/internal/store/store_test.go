package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/store"
)

func TestRecord(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "b")
	d, err := store.Make(root, "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Make(root, "x"); !errors.Is(err, os.ErrExist) {
		t.Errorf("second Make: %v", err)
	}
	if _, err := d.Read(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Read before Write: %v", err)
	}
	want := &store.Record{ID: "x", Pid: 7, StartTime: 9, CgroupPaths: map[string]string{"": "/c"}, Exit: &store.Exit{Status: 3}}
	if err := d.Write(want); err != nil {
		t.Fatal(err)
	}
	got, err := d.Read()
	if err != nil || got.Pid != 7 || got.StartTime != 9 || got.CgroupPaths[""] != "/c" || got.Exit.Status != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(string(d), "state.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read(); err == nil {
		t.Error("a broken record is read")
	}
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(); err != nil {
		t.Errorf("second Remove: %v", err)
	}
}

func TestStartTime(t *testing.T) {
	a, err := store.StartTime(os.Getpid())
	b, err2 := store.StartTime(os.Getpid())
	if err != nil || err2 != nil || a == 0 || a != b {
		t.Errorf("%d %v, %d %v", a, err, b, err2)
	}
	if _, err := store.StartTime(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no process: %v", err)
	}
}

// TestGate plays both sides of the gate.
func TestGate(t *testing.T) {
	for name, tc := range map[string]struct {
		verdict []byte
		want    unix.Errno
	}{
		"executed": {nil, 0},
		"failed":   {[]byte{1, 0, 0, 0, 4, 0, 0, 0, byte(unix.ENOEXEC), 0, 0, 0}, unix.ENOEXEC},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := store.Make(t.TempDir(), "x")
			if err != nil {
				t.Fatal(err)
			}
			g, err := d.MakeGate()
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			go func() {
				var b [1]byte
				if n, err := unix.Read(g.StartRead, b[:]); n != 1 || err != nil {
					t.Errorf("read the gate: %d, %v", n, err)
				}
				unix.Write(g.VerdictWrite, tc.verdict)
				g.CloseChildEnds()
			}()
			var signaled unix.Signal
			err = g.Open(func(s unix.Signal) error { signaled = s; return nil })
			var failed *store.StartError
			if errors.As(err, &failed) != (tc.want != 0) || failed != nil && (failed.Errno != tc.want || failed.Step != 4) {
				t.Errorf("%v", err)
			}
			if signaled != unix.SIGCONT {
				t.Errorf("signal %d", signaled)
			}
		})
	}
}
