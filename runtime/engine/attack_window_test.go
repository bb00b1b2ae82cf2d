package engine_test

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// Until its execve a container's init, and an exec, is a copy of the engine's process: its /proc/PID/exe is the runtime's
// binary on the host (CVE-2019-5736), its memory the runtime's (CVE-2016-9962), its descriptors lead to the host. Those
// who share its pid namespace may get at none of it.

// denied lists the ways of lookAt that were not refused.
func denied(lines []string) (open []string) {
	for _, l := range lines {
		if strings.HasSuffix(l, " ok") {
			open = append(open, l)
		}
	}
	return open
}

// TestAttackWaitingInit: a container looks at the init of another that shares its pid namespace and waits for its start, and
// by way of control when it has been started.
func TestAttackWaitingInit(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	for _, tc := range []struct {
		name   string
		userns bool
		caps   []string
	}{
		{name: "root"},
		{"root of a user namespace", true, []string{"CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec := attackSpec(t, tc.caps...)
			if tc.userns {
				inUserNS(spec)
			}
			thief := started(t, e, spec)
			joined := attackSpec(t, tc.caps...)
			joined.Linux.Namespaces = nil
			for _, n := range spec.Linux.Namespaces {
				if n.Type == specs.PIDNamespace || n.Type == specs.UserNamespace {
					file := map[specs.LinuxNamespaceType]string{specs.PIDNamespace: "pid", specs.UserNamespace: "user"}[n.Type]
					n.Path = fmt.Sprintf("/proc/%d/ns/%s", thief.Pid(), file)
				}
				joined.Linux.Namespaces = append(joined.Linux.Namespaces, n)
			}
			victim := create(t, e, joined, nil)
			pid := pidIn(t, victim.Pid())
			out := strings.Split(attack(t, thief, spec, "look", pid), "\n")
			if len(out) < 12 {
				t.Fatalf("the attacker says only %q", out)
			}
			for _, l := range denied(out) {
				t.Errorf("before start: %s", l)
			}
			if err := victim.Start(timeout(t)); err != nil {
				t.Fatal(err)
			}
			if got := attack(t, thief, spec, "look", pid); !strings.Contains(got, "exe ok") || !strings.Contains(got, "ptrace ok") {
				t.Errorf("the attacker cannot even look at an ordinary process:\n%s", got)
			}
		})
	}
}

// hunter runs one in the container. What it says comes out of lines, until stop.
func hunter(t *testing.T, c *engine.Container, spec *specs.Spec, how string) (lines chan string, stop func()) {
	t.Helper()
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	defer in.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx := timeout(t)
	p := *spec.Process
	p.Args = []string{attackPath, how}
	c.AddExec(ctx, engine.ExecRequest{ID: "hunter", Process: &p})
	if _, _, err = c.StartExec(ctx, "hunter", engine.Stdio{In: in, Out: w, Err: w}); err != nil {
		t.Fatal(err)
	}
	lines = make(chan string, 1000)
	go func() {
		defer r.Close()
		for s := bufio.NewScanner(r); s.Scan(); {
			lines <- s.Text()
		}
		close(lines)
	}()
	if l := <-lines; l != "ready" {
		t.Fatalf("the hunter says %q", l)
	}
	return lines, func() { stdin.Close() }
}

// huntOn tells whether a hunt goes on in which so many of five were caught: on a machine that is busy, until it shows something. With
// one CPU the hunter seldom gets to run between a fork and an execve.
func huntOn(began time.Time, caught int) bool {
	t := time.Since(began)
	return t < 5*time.Second && caught < 5 || t < time.Minute && caught == 0 && runtime.NumCPU() > 1
}

// nothingCaught ends a test whose hunter never saw a process before its execve.
func nothingCaught(t *testing.T) {
	t.Helper()
	if runtime.NumCPU() == 1 {
		t.Skip("the machine has one CPU: nobody was caught before an execve")
	}
	t.Fatal("the hunter never caught a process before its execve: the test shows nothing")
}

// TestAttackFrozenExec: a container stops a process that enters it before its execve, and leaves it so. Who asked for the exec
// waits, but the container can be killed, and then nobody waits any more.
func TestAttackFrozenExec(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	spec := attackSpec(t)
	c := started(t, e, spec)
	ctx := timeout(t)
	lines, _ := hunter(t, c, spec, "freeze")
	ended := make(chan error, 1)
	id, frozen := "", false
	for i, began := 0, time.Now(); !frozen; i++ {
		if !huntOn(began, 0) {
			nothingCaught(t)
		}
		id = "x" + itoa(i)
		c.AddExec(ctx, engine.ExecRequest{ID: id, Process: testkit.Spec("true").Process})
		go func(id string) {
			_, _, err := c.StartExec(ctx, id, engine.Stdio{})
			ended <- err
		}(id)
		for came := false; !came && !frozen; {
			select {
			case err := <-ended:
				if came = true; err != nil {
					t.Fatalf("try %d: %v", i, err)
				}
				c.Wait(ctx, id)
			case l := <-lines:
				frozen = l == "frozen" // else it was caught after its execve
			}
		}
	}
	if err := c.Kill(ctx, "", uint32(unix.SIGKILL), false); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil { // it was stopped after we had let it go
		if exit, err := c.Wait(ctx, id); err != nil || exit.Status != 137 {
			t.Errorf("the exec: %+v, %v", exit, err)
		}
	}
	if exit, err := c.Wait(ctx, ""); err != nil || exit.Status != 137 {
		t.Errorf("wait: %+v, %v", exit, err)
	}
	if _, err := c.Delete(ctx); err != nil {
		t.Error(err)
	}
}

// TestAttackEnteringExec: a container hunts for the processes that enter it, stops each as soon as it sees it and looks at
// it. It must never see the engine's file, and at a process before its execve nothing at all.
func TestAttackEnteringExec(t *testing.T) {
	testkit.NoLeaks(t)
	var own unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &own); err != nil {
		t.Fatal(err)
	}
	e, _ := newEngine(t)
	for _, userns := range []bool{false, true} {
		t.Run(fmt.Sprintf("userns=%t", userns), func(t *testing.T) {
			spec := attackSpec(t)
			if userns {
				spec = inUserNS(attackSpec(t, "CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH"))
			}
			c := started(t, e, spec)
			ctx := timeout(t)
			lines, stop := hunter(t, c, spec, "hunt")
			inWindow, after := 0, 0
			look := func(l string) {
				switch {
				case strings.Contains(l, fmt.Sprintf("inode %d:", own.Ino)):
					t.Errorf("got the engine's file: %s", l)
				case strings.HasPrefix(l, "caught exe permission denied"):
					inWindow++
					_, list, _ := strings.Cut(l, ": ")
					for _, way := range denied(strings.Split(list, ", ")) {
						t.Errorf("before execve: %s", way)
					}
				case strings.HasPrefix(l, "caught exe ok"):
					after++
				}
			}
			for i, began := 0, time.Now(); huntOn(began, inWindow) && !t.Failed(); i++ {
				id := "x" + itoa(i)
				c.AddExec(ctx, engine.ExecRequest{ID: id, Process: testkit.Spec("sleep", "0.002").Process})
				if _, _, err := c.StartExec(ctx, id, engine.Stdio{}); err != nil {
					t.Fatal(err)
				}
				c.Wait(ctx, id)
				c.DeleteExec(ctx, id)
				for len(lines) > 0 {
					look(<-lines)
				}
			}
			stop()
			for l := range lines {
				look(l)
			}
			t.Logf("caught %d processes before their execve, %d after", inWindow, after)
			if inWindow == 0 {
				nothingCaught(t)
			}
		})
	}
}
