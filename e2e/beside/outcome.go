package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gosuda/gosudacon/e2e/client"
)

// outcome is what the tests of a suite did with one runtime.
type outcome struct {
	name  string
	took  time.Duration // all of it
	order []string      // of the tests, as they began
	tests map[string]*test
	rest  strings.Builder // what the program printed beside its tests
}

// test is one that has no tests below it, unless it ran commands of its own.
type test struct {
	result   string // pass, fail or skip; "" for one that was not finished
	output   strings.Builder
	commands []command
}

type command struct {
	name  string
	flags []string
	took  time.Duration // 0: unknown
}

// event is a line of go test -json.
type event struct {
	Action, Test, Output, Key, Value string
	Elapsed                          float64
}

// read takes what go test -json prints.
func read(r io.Reader, name string) (*outcome, error) {
	o := &outcome{name: name, tests: map[string]*test{}}
	for d := json.NewDecoder(r); ; {
		var e event
		switch err := d.Decode(&e); {
		case errors.Is(err, io.EOF):
			return o, nil
		case err != nil:
			return nil, fmt.Errorf("read the output of go test: %w", err)
		}
		if err := o.add(e); err != nil {
			return nil, err
		}
	}
}

func (o *outcome) add(e event) error {
	if e.Test == "" {
		switch e.Action {
		case "output":
			o.rest.WriteString(e.Output)
		case "pass", "fail", "skip":
			o.took = time.Duration(e.Elapsed * float64(time.Second))
		}
		return nil
	}
	t := o.tests[e.Test]
	if t == nil {
		t = &test{}
		o.tests[e.Test] = t
		o.order = append(o.order, e.Test)
	}
	switch e.Action {
	case "pass", "fail", "skip":
		t.result = e.Action
	case "output":
		if !strings.HasPrefix(strings.TrimSpace(e.Output), "---") && !strings.HasPrefix(e.Output, "===") {
			t.output.WriteString(e.Output)
		}
	case "attr":
		if e.Key != client.NoteKey {
			break
		}
		f := strings.Split(e.Value, "\t")
		took, err := time.ParseDuration(f[0])
		if err != nil || len(f) < 2 {
			return fmt.Errorf("%s: no command: %q", e.Test, e.Value)
		}
		t.commands = append(t.commands, command{f[1], f[2:], took})
	}
	return nil
}

// leaf tells whether a test is one, and not a list of others.
func (o *outcome) leaf(name string) bool {
	for _, other := range o.order {
		if strings.HasPrefix(other, name+"/") {
			return len(o.tests[name].commands) > 0
		}
	}
	return true
}

// count counts tests that ended so.
func (o *outcome) count(result string) (n int) {
	for _, name := range o.order {
		if o.leaf(name) && o.tests[name].result == result {
			n++
		}
	}
	return n
}
