// Package hooks runs the hooks of a config.json that belong to the runtime's own namespaces.
package hooks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Starter starts a command and returns how to wait for it: the caller may have to know its children.
type Starter func(*exec.Cmd) (wait func() error, err error)

// outputLimit bounds what is kept of a hook's output for its error.
const outputLimit = 4 << 10

// Run runs hooks in order, the container's state on their standard input, and stops at the first that fails. at names the
// list in config.json.
//
// A hook has exactly the environment that it asks for; one that asks for none gets PATH alone: the runtime's own variables are
// not its business.
func Run(ctx context.Context, at string, list []specs.Hook, state specs.State, start Starter) error {
	if len(list) == 0 {
		return nil
	}
	input, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode the container's state: %w", err)
	}
	for i, h := range list {
		if err := run(ctx, h, input, start); err != nil {
			return fmt.Errorf("hooks.%s[%d] %s: %w", at, i, h.Path, err)
		}
	}
	return nil
}

func run(ctx context.Context, h specs.Hook, state []byte, start Starter) error {
	if h.Timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
		defer cancel()
	}
	var out limited
	cmd := exec.CommandContext(ctx, h.Path)
	cmd.Args = h.Args
	if len(h.Args) == 0 {
		cmd.Args = []string{h.Path}
	}
	cmd.Env = h.Env
	if h.Env == nil {
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	}
	cmd.Stdin = bytes.NewReader(state)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // a grandchild may keep the output open
	wait, err := start(cmd)
	if err != nil {
		return err
	}
	err = wait()
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("timed out: %w", err)
	}
	if text := strings.TrimSpace(out.String()); err != nil && text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// limited keeps the first bytes written to it.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := outputLimit - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
