package restart

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
)

const (
	lasting = 20 // containers that run all the time
	leaving = 5  // containers that end while containerd is away
)

// ticker writes numbered lines until SIGTERM, and then the last one.
const ticker = `trap 'echo bye; exit 30' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done`

// TestContainerdDies kills containerd under containers, execs, a terminal and a slow logger, and starts it again.
func TestContainerdDies(t *testing.T) {
	w := newWorld(t, "containerd")
	var events journal
	events.subscribe(t, w)

	var last, leave []*box
	for i := range lasting {
		last = append(last, w.start(t, fmt.Sprintf("last%d", i), ticker, boxOptions{}))
	}
	for i := range leaving {
		script := fmt.Sprintf("echo first words; until [ -e /host/go ]; do sleep 0.02; done; seq 1 1000; echo last words; exit %d", 40+i)
		leave = append(leave, w.start(t, fmt.Sprintf("leave%d", i), script, boxOptions{host: w.dir}))
	}
	home := last[0]
	_, stays := w.exec(t, home, "stays", `trap 'echo stayed; exit 51' TERM; while :; do sleep 0.05; done`)
	_, ends := w.exec(t, home, "ends", `sleep 1; echo ended; exit 52`)
	_, hard := w.exec(t, home, "hard", `while :; do sleep 0.05; done`)
	terminal := w.start(t, "terminal", `stty -echo; echo ready; while read line; do echo "got $line"; done`, boxOptions{terminal: true})
	logger, log := slowLogger(t, w)
	// It gets SIGTERM 2 s after its container's end; on the machines of short tests, a line takes it 50 ms.
	lines := 800
	if testing.Short() {
		lines = 120
	}
	logged := w.start(t, "logged", fmt.Sprintf("seq 1 %d; sleep 1; seq %d %d; exit 9", lines/2, lines/2+1, lines), boxOptions{logger: logger})

	eventually(t, "terminal", func() bool { return strings.Contains(terminal.io.output(), "ready") })
	fmt.Fprintln(terminal.io.keyboard, "before")
	eventually(t, "terminal", func() bool { return strings.Contains(terminal.io.output(), "got before") })
	eventually(t, "events of exec", func() bool { return events.has(home.id, "exec-started hard") })
	eventually(t, "events of logged", func() bool { return events.has(logged.id, "start") })

	// As a process the client that reads is containerd: its ends of the FIFOs go, too.
	w.die(t)
	all := append(append([]*streams{stays, ends, hard, terminal.io}, streamsOf(last)...), streamsOf(leave)...)
	for _, s := range all {
		s.leave()
	}
	relayed(t, w, &events)
	if err := os.WriteFile(filepath.Join(w.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, b := range leave {
		gone(t, b.pid)
	}
	time.Sleep(*awayFlag)
	w.rise(t, "containerd")
	for _, s := range all {
		s.read(t)
	}

	for _, b := range append(last, terminal) {
		w.runs(t, b)
	}
	for i, b := range leave {
		if _, err := w.find(b); err != nil && *runtimeFlag == runcRuntime {
			t.Logf("%s: containerd has dropped %s, and its exit code with it", runcRuntime, b.id)
			continue
		}
		w.ended(t, b, uint32(40+i))
		equal(t, "output of "+b.id, b.io.output(), "first words\n"+sequence(1, 1000)+"last words\n")
	}
	if *runtimeFlag == runcRuntime {
		t.Skip("what follows is about what it does not keep")
	}

	// The execs: one ended meanwhile, one gets a signal, one is killed.
	task := w.task(t, home)
	for _, e := range []struct {
		id     string
		signal syscall.Signal
		code   uint32
		io     *streams
		output string
	}{
		{"ends", 0, 52, ends, "ended\n"},
		{"stays", syscall.SIGTERM, 51, stays, "stayed\n"},
		{"hard", syscall.SIGKILL, 137, hard, ""},
	} {
		p, err := task.LoadProcess(w.ctx, e.id, e.io.attach)
		if err != nil {
			t.Errorf("load exec %s: %v", e.id, err)
			continue
		}
		if e.signal != 0 {
			if err := p.Kill(w.ctx, e.signal); err != nil {
				t.Errorf("kill exec %s: %v", e.id, err)
			}
		}
		equal(t, "exit code of exec "+e.id, wait(t, w.ctx, p, e.id).ExitCode(), e.code)
		if _, err := p.Delete(w.ctx); err != nil {
			t.Errorf("delete exec %s: %v", e.id, err)
		}
		equal(t, "output of exec "+e.id, e.io.output(), e.output)
	}

	// The terminal goes on where it was, and can be resized.
	if err := w.task(t, terminal).Resize(w.ctx, 99, 44); err != nil {
		t.Errorf("resize: %v", err)
	}
	fmt.Fprintln(terminal.io.keyboard, "after")
	eventually(t, "terminal", func() bool { return strings.Contains(terminal.io.output(), "got after") })
	fmt.Fprint(terminal.io.keyboard, "\x04")
	w.ended(t, terminal, 0)

	w.ended(t, logged, 9)
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "what the slow logger has written", string(text), sequence(1, lines))

	for _, b := range last {
		w.terminate(t, b, 30)
		counted(t, b)
	}
	for i, b := range leave {
		events.settles(t, b.id, fmt.Sprintf("create, start, exit %d, delete %d", 40+i, 40+i))
	}
	for _, b := range last[1:] {
		events.settles(t, b.id, "create, start, exit 30, delete 30")
	}
	events.settles(t, terminal.id, "create, start, exit 0, delete 0")
	events.settles(t, logged.id, "create, start, exit 9, delete 9")
	events.settles(t, home.id, "create, start, exec-added stays, exec-started stays, exec-added ends, exec-started ends, "+
		"exec-added hard, exec-started hard, exit ends 52, delete ends 52, exit stays 51, delete stays 51, exit hard 137, delete hard 137, "+
		"exit 30, delete 30")
}

func streamsOf(boxes []*box) (all []*streams) {
	for _, b := range boxes {
		all = append(all, b.io)
	}
	return all
}

// sequence is the output of seq.
func sequence(first, last int) string {
	var b strings.Builder
	for i := first; i <= last; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

// counted fails the test unless the output of a ticker has every number and the last word.
func counted(t *testing.T, b *box) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(b.io.output(), "\n"), "\n")
	for i, line := range lines[:len(lines)-1] {
		if line != strconv.Itoa(i) {
			t.Errorf("output of %s: line %d is %q", b.id, i, line)
			return
		}
	}
	equal(t, "last line of "+b.id, lines[len(lines)-1], "bye")
}

// slowLogger writes a program that takes its time for what a container writes, and returns where it logs.
func slowLogger(t *testing.T, w *world) (program, log string) {
	t.Helper()
	program, log = filepath.Join(w.dir, "logger"), filepath.Join(w.dir, "log")
	script := "#!/bin/sh\nexec 5>&-\nwhile read line; do echo $line; sleep 0.003; done <&3 >" + log + "\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return program, log
}

// TestUpgrade starts a newer containerd on the state of an older one, and the older one again.
func TestUpgrade(t *testing.T) {
	for _, old := range []string{"containerd-1.6", "containerd-1.7"} {
		t.Run(old, func(t *testing.T) {
			w := newWorld(t, old)
			stays := w.start(t, "stays", ticker, boxOptions{})
			leaves := w.start(t, "leaves", "until [ -e /host/go ]; do sleep 0.02; done; echo last words; exit 61", boxOptions{host: w.dir})
			_, exec := w.exec(t, stays, "old", `trap 'echo stayed; exit 51' TERM; while :; do sleep 0.05; done`)

			// There.
			w.die(t)
			if err := os.WriteFile(filepath.Join(w.dir, "go"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			gone(t, leaves.pid)
			w.rise(t, "containerd")
			w.runs(t, stays)
			w.ended(t, leaves, 61)
			equal(t, "output", leaves.io.output(), "last words\n")
			w.says(t, stays, "new")
			young := w.start(t, "young", ticker, boxOptions{})
			back := w.start(t, "back", "until [ -e /host/back ]; do sleep 0.02; done; exit 62", boxOptions{host: w.dir})

			// And back.
			w.die(t)
			if err := os.WriteFile(filepath.Join(w.dir, "back"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			gone(t, back.pid)
			w.rise(t, old)
			w.runs(t, stays)
			w.says(t, stays, "newer")
			p, err := w.task(t, stays).LoadProcess(w.ctx, "old", exec.attach)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Kill(w.ctx, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			equal(t, "exit code of the exec", wait(t, w.ctx, p, "old").ExitCode(), 51)
			if _, err := p.Delete(w.ctx); err != nil {
				t.Error(err)
			}
			w.terminate(t, stays, 30)
			counted(t, stays)
			w.runs(t, young)
			w.terminate(t, young, 30)
			counted(t, young)
			w.ended(t, back, 62)
		})
	}
}

// says runs an exec in a box and fails the test unless its output arrives.
func (w *world) says(t *testing.T, b *box, id string) {
	t.Helper()
	p, s := w.exec(t, b, id, "echo "+id)
	equal(t, "exit code of exec "+id, wait(t, w.ctx, p, id).ExitCode(), 0)
	if _, err := p.Delete(w.ctx, client.WithProcessKill); err != nil {
		t.Errorf("delete exec %s: %v", id, err)
	}
	equal(t, "output of exec "+id, s.output(), id+"\n")
}
