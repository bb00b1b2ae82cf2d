package store_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
			g, err := store.NewGate()
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

// TestDetachedGate: the child waits on after its creator has gone, tells who opens the gate by name what became of it, and
// the FIFO itself says whether somebody waits.
func TestDetachedGate(t *testing.T) {
	d, err := store.Make(t.TempDir(), "x")
	if err != nil {
		t.Fatal(err)
	}
	g, err := d.MakeDetachedGate()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if waiting, err := d.Waiting(); !waiting || err != nil {
		t.Errorf("nobody waits: %v", err)
	}
	go func() {
		var b [1]byte
		if n, err := unix.Read(g.StartRead, b[:]); n != 1 || err != nil {
			t.Errorf("read the gate: %d, %v", n, err)
		}
		unix.Write(g.VerdictWrite, []byte{1, 0, 0, 0, 4, 0, 0, 0, byte(unix.EACCES), 0, 0, 0})
		g.CloseChildEnds()
	}()
	other, err := d.OpenGate()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	err = other.Open(func(unix.Signal) error { return nil })
	if failed := (*store.StartError)(nil); !errors.As(err, &failed) || failed.Errno != unix.EACCES || failed.Step != 4 {
		t.Errorf("verdict: %v", err)
	}
	if waiting, err := d.Waiting(); waiting || err != nil {
		t.Errorf("somebody waits: %v", err)
	}
	if _, err := d.OpenGate(); !errors.Is(err, store.ErrPassed) {
		t.Errorf("open after the child has passed: %v", err)
	}
}

// TestLockAgain: who made a container keeps its directory open, and is not mistaken about whose it is.
func TestLockAgain(t *testing.T) {
	root := t.TempDir()
	d, err := store.Make(root, "x")
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unlock()
	for range 2 {
		l.Release()
		if d.Busy() {
			t.Error("busy after Release")
		}
		if err := l.Again(); err != nil {
			t.Fatal(err)
		}
		if !d.Busy() {
			t.Error("not busy after Again")
		}
	}
	l.Release()
	if err := d.RemoveDir(); err != nil {
		t.Fatal(err)
	}
	if err := l.Again(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a directory that is gone: %v", err)
	}
	if _, err := store.Make(root, "x"); err != nil {
		t.Fatal(err)
	}
	if err := l.Again(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of another's directory: %v", err)
	}
}

// TestLock: one holder at a time, and none of a directory that was removed or replaced during the wait.
func TestLock(t *testing.T) {
	root := t.TempDir()
	d, err := store.Make(root, "x")
	if err != nil {
		t.Fatal(err)
	}
	if d.Busy() {
		t.Error("busy before anybody locked")
	}
	l, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if !d.Busy() {
		t.Error("not busy while locked")
	}
	got := make(chan error)
	go func() {
		l, err := d.Lock()
		if err == nil {
			l.Unlock()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("a second lock: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := os.Rename(string(d), string(d)+"-old"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Make(root, "x"); err != nil {
		t.Fatal(err)
	}
	l.Unlock()
	if err := <-got; !errors.Is(err, os.ErrNotExist) {
		t.Errorf("lock of a replaced directory: %v", err)
	}
	if _, err := store.Dir(root + "/none").Lock(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("lock of nothing: %v", err)
	}
}

func TestAlive(t *testing.T) {
	start, err := store.StartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !store.Alive(os.Getpid(), start) || store.Alive(os.Getpid(), start+1) || store.Alive(1<<30, start) {
		t.Error("we, another process of our pid, or nobody")
	}
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	if start, err = store.StartTime(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if store.Alive(cmd.Process.Pid, start) {
		t.Error("a zombie is alive")
	}
}

// TestDoor: who connects by the directory's name, however long that is, meets who listens, and is told when nobody does any more.
func TestDoor(t *testing.T) {
	d, err := store.Make(t.TempDir(), strings.Repeat("x", 200))
	if err != nil {
		t.Fatal(err)
	}
	g, err := d.MakeDetachedGate()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	listener, err := d.MakeDoor()
	if err != nil {
		t.Fatal(err)
	}
	door, err := d.Door()
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	const what = 7
	if err := d.Knock(what); err != nil {
		t.Error(err)
	}
	var b [1]byte
	if n, err := unix.Read(g.StartRead, b[:]); n != 1 || err != nil || b[0] != what {
		t.Errorf("the gate has %d bytes, %v, %v", n, b, err)
	}
	conn, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(conn)
	if n, err := door.Read(b[:]); n != 0 || err != io.EOF {
		t.Errorf("read %d, %v after the other end was closed", n, err)
	}
	unix.Close(listener)
	g.CloseChildEnds()
	if _, err := d.Door(); !errors.Is(err, store.ErrPassed) {
		t.Errorf("a door without a listener: %v", err)
	}
	if err := d.Knock(what); !errors.Is(err, store.ErrPassed) {
		t.Errorf("a knock that nobody hears: %v", err)
	}
	if err := d.RemoveDir(); err != nil {
		t.Error(err)
	}
}
