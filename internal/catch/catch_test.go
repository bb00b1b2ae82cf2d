package catch

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// next waits for a signal; it says which one was awaited when none comes.
func next(t *testing.T, c <-chan os.Signal, want unix.Signal) {
	t.Helper()
	select {
	case s := <-c:
		if s != want {
			t.Fatalf("%s came, want %s", s, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%s does not come", want)
	}
}

// TestTo: signals come in their order, also to threads that compute, make system calls or collect garbage, and of the numbers beyond 31.
func TestTo(t *testing.T) {
	c := make(chan os.Signal, 8)
	signals := []os.Signal{unix.SIGUSR1, unix.SIGUSR2, unix.SIGTERM, unix.Signal(40), unix.Signal(64)}
	if err := To(c, signals...); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	defer stop.Store(true)
	for range 2 {
		go func() {
			var kept []byte
			for !stop.Load() {
				kept = append(kept[:0], make([]byte, 1<<16)...)
				unix.Getpid()
			}
			runtime.KeepAlive(kept)
		}()
	}
	for i := range 40 {
		s := signals[i%len(signals)]
		if i%10 == 0 {
			runtime.GC()
		}
		if err := unix.Kill(os.Getpid(), s.(unix.Signal)); err != nil {
			t.Fatal(err)
		}
		next(t, c, s.(unix.Signal))
	}
}

// TestToMany: each of the channels gets a signal, one that nobody reads holds nothing up, and a signal may be asked for again.
func TestToMany(t *testing.T) {
	full, a, b := make(chan os.Signal), make(chan os.Signal, 4), make(chan os.Signal, 4)
	for _, c := range []chan os.Signal{full, a, b, b} {
		if err := To(c, unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	next(t, a, unix.SIGUSR1)
	next(t, b, unix.SIGUSR1)
	if len(b) != 0 {
		t.Error("one signal came twice")
	}
}

// TestFaults: signals of the runtime stay the runtime's.
func TestFaults(t *testing.T) {
	for _, s := range faults {
		if err := To(make(chan os.Signal), s); err == nil || !strings.Contains(err.Error(), unix.SignalName(s)) {
			t.Errorf("%s: %v", unix.SignalName(s), err)
		}
	}
	if err := To(make(chan os.Signal), unix.Signal(65)); err == nil {
		t.Error("there is no signal 65")
	}
	defer func() {
		if recover() == nil {
			t.Error("a fault is no panic any more")
		}
	}()
	var nowhere *int
	*nowhere = 1
}

// TestChildren: a program that this process executes has the default handlers, and nothing blocked.
func TestChildren(t *testing.T) {
	if err := To(make(chan os.Signal), unix.SIGTERM, unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("cat", "/proc/self/status").Output()
	for _, none := range []string{"SigBlk:\t0000000000000000\n", "SigCgt:\t0000000000000000\n"} {
		if !strings.Contains(string(out), none) {
			t.Errorf("%q is not in %s, %v", none, out, err)
		}
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Signal(unix.SIGTERM)
	cmd.Wait()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != unix.SIGTERM {
		t.Errorf("a child that was sent SIGTERM: %v", cmd.ProcessState)
	}
}
