// Package client runs the programs by which people use containers (nerdctl, podman, docker) and looks at what they say.
package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// limit is how long one run of a client may take.
const limit = time.Minute

// Client is one such program.
type Client struct {
	// Name is its name in messages.
	Name string
	// Command prepares the program with arguments; it ends with ctx.
	Command func(ctx context.Context, args ...string) *exec.Cmd
}

// Result is how a run ended. In Stderr, quotes that were quoted are quotes again.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Run runs the program, at most for a minute, and tells how it ended.
func (c Client) Run(t *testing.T, args ...string) Result { return c.RunIn(t, nil, args...) }

// RunIn is Run with something on its standard input.
func (c Client) RunIn(t *testing.T, in io.Reader, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit) // also in cleanups
	defer cancel()
	cmd := c.Command(ctx, args...)
	cmd.WaitDelay = 5 * time.Second // a grandchild that holds the output must not hold the test
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	Note(t, c.Name, time.Since(began), args)
	if ctx.Err() != nil {
		t.Fatalf("%s %s: not done in a minute\n%s%s", c.Name, strings.Join(args, " "), &stdout, &stderr)
	}
	if ended := (*exec.ExitError)(nil); err != nil && !errors.As(err, &ended) && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatalf("%s %s: %v\n%s", c.Name, strings.Join(args, " "), err, &stderr)
	}
	words := strings.ReplaceAll(stderr.String(), `\"`, `"`) // errors in errors
	return Result{stdout.String(), words, cmd.ProcessState.ExitCode()}
}

// Must runs the program and fails the test unless it succeeds; it returns what it printed, without white space around it.
func (c Client) Must(t *testing.T, args ...string) string {
	t.Helper()
	r := c.Run(t, args...)
	if r.Code != 0 {
		t.Fatalf("%s %s: exit code %d\n%s%s", c.Name, strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// Refused runs the program, which must fail and say want.
func (c Client) Refused(t *testing.T, want string, args ...string) {
	t.Helper()
	r := c.Run(t, args...)
	if r.Code == 0 || !strings.Contains(r.Stderr, want) {
		t.Errorf("%s %s: exit code %d, %q; want a failure with %q", c.Name, strings.Join(args, " "), r.Code, r.Stderr, want)
	}
}

// Eventually waits for what no signal tells.
func Eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within thirty seconds: %s", what)
		}
	}
}

// Equal fails the test unless got is want.
func Equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
