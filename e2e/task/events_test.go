package task

import (
	"bufio"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

const testImage = containerdtest.Image

// eventLog is what a running ctr events has printed.
type eventLog struct {
	mu     sync.Mutex
	topics map[string][]string // by container, in order of arrival; those of an exec have " EXEC" behind them
	more   *sync.Cond
	ended  bool
}

// watchEvents subscribes to the events of d until the end of the test, and returns when the subscription stands.
func watchEvents(t *testing.T, d *containerdtest.Daemon) *eventLog {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := d.Ctr(ctx, "events")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l := &eventLog{topics: map[string][]string{}}
	l.more = sync.NewCond(&l.mu)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			l.add(lines.Text())
		}
		l.mu.Lock()
		l.ended = true
		l.more.Broadcast()
		l.mu.Unlock()
	}()
	t.Cleanup(func() { cancel(); <-done; _ = cmd.Wait() })
	// ctr says nothing when it has subscribed; the first event that arrives does. Every label makes one.
	for i := 0; ; i++ {
		must(t, d, "namespaces", "label", d.Namespace, "e2e=events")
		l.mu.Lock()
		seen := len(l.topics) > 0
		l.mu.Unlock()
		if seen {
			return l
		}
		if i == 100 {
			t.Fatal("ctr events shows nothing")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// add takes a line: date, time, zone and zone name, namespace, topic, JSON.
func (l *eventLog) add(line string) {
	head, body, ok := strings.Cut(line, " {")
	if !ok {
		return
	}
	fields := strings.Fields(head)
	var e struct {
		ContainerID string `json:"container_id"`
		ID          string `json:"id"`
		ExecID      string `json:"exec_id"`
	}
	_ = json.Unmarshal([]byte("{"+body), &e) // other services' events have other fields
	topic := fields[len(fields)-1]
	switch {
	case e.ExecID != "":
		topic += " " + e.ExecID
	case e.ID != "" && e.ID != e.ContainerID && topic == "/tasks/exit":
		topic += " " + e.ID
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.topics[e.ContainerID] = append(l.topics[e.ContainerID], topic)
	l.more.Broadcast()
}

// until waits for the first event of a topic from a container and returns the topics of that container's events so far.
func (l *eventLog) until(t *testing.T, id, topic string) []string {
	t.Helper()
	topics, ok := l.wait(id, topic, time.Minute)
	if !ok {
		t.Fatalf("events of %s: %q, no %s", id, topics, topic)
	}
	return topics
}

// wait is until that tells with ok whether the event came.
func (l *eventLog) wait(id, topic string, patience time.Duration) (topics []string, ok bool) {
	late := false
	alarm := time.AfterFunc(patience, func() {
		l.mu.Lock()
		late = true
		l.more.Broadcast()
		l.mu.Unlock()
	})
	defer alarm.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for _, got := range l.topics[id] {
			if got == topic {
				return slices.Clone(l.topics[id]), true
			}
		}
		if late || l.ended {
			return slices.Clone(l.topics[id]), false
		}
		l.more.Wait()
	}
}

// TestEventOrder runs true many times: its life is so short that a runtime that sends its events from several places
// mixes them up.
func TestEventOrder(t *testing.T) {
	events := watchEvents(t, shared.daemon)
	const want = "/tasks/create /tasks/start /tasks/exit /tasks/delete"
	ids := make([]string, *eventRuns)
	for i := range ids {
		ids[i] = newID(t, shared.daemon)
	}
	inParallel(len(ids), 3, func(i int) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		out, err := shared.daemon.Ctr(ctx, "run", "--rm", "--null-io", "--runtime", *runtimeFlag, testImage, ids[i], "true").CombinedOutput()
		if err != nil {
			t.Errorf("run true: %v: %s", err, out)
		}
	})
	if t.Failed() {
		return
	}
	wrong := map[string]int{}
	deadline := time.Now().Add(time.Minute) // for all of them together
	for _, id := range ids {
		events.wait(id, "/tasks/exit", time.Until(deadline))
		topics, _ := events.wait(id, "/tasks/delete", time.Until(deadline))
		if got := strings.Join(topics, " "); got != want {
			wrong[got]++
		}
	}
	if len(wrong) > 0 {
		onRunc(t, "it is known to mix up the events of short lives")
		for order, n := range wrong {
			t.Errorf("%d of %d: %s", n, len(ids), order)
		}
	}
}

func TestEventsOfExec(t *testing.T) {
	events := watchEvents(t, shared.daemon)
	id := detached(t, shared.daemon, nil, "sleep", "1000")
	must(t, shared.daemon, "task", "exec", "--exec-id", "e1", id, "true")
	must(t, shared.daemon, "task", "kill", "--signal", "SIGKILL", id)
	got := events.until(t, id, "/tasks/exit")
	kept := got[:0:0]
	for _, topic := range got {
		if !strings.HasPrefix(topic, "/tasks/delete") && !strings.HasPrefix(topic, "/containers") {
			kept = append(kept, topic)
		}
	}
	equal(t, "events", strings.Join(kept, ", "), "/tasks/create, /tasks/start, /tasks/exec-added e1, /tasks/exec-started e1, /tasks/exit e1, /tasks/exit")
}

func TestEventsOfPause(t *testing.T) {
	events := watchEvents(t, shared.daemon)
	id := detached(t, shared.daemon, nil, "sleep", "1000")
	must(t, shared.daemon, "task", "pause", id)
	must(t, shared.daemon, "task", "resume", id)
	got := events.until(t, id, "/tasks/resumed")
	equal(t, "events", strings.Join(got, ", "), "/tasks/create, /tasks/start, /tasks/paused, /tasks/resumed")
}
