package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// sendListener returns a function that sends the listener of a seccomp filter to its agent, with the state of the process as
// runtime-spec has it (config-linux.md, "The Container Process State"): one message on a connection of its own, the
// descriptor beside it. state gets the process's pid and returns the container's state.
func sendListener(state func(pid int) specs.State) func(ctx context.Context, pid, fd int, a plan.Listener) error {
	return func(ctx context.Context, pid, fd int, a plan.Listener) error {
		text, err := json.Marshal(specs.ContainerProcessState{Version: specs.Version, Fds: []string{specs.SeccompFdName},
			Pid: pid, Metadata: a.Metadata, State: state(pid)})
		if err != nil {
			return fmt.Errorf("encode the state of the process: %w", err)
		}
		conn, err := new(net.Dialer).DialContext(ctx, "unix", a.Path)
		if err != nil {
			return err
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		agent := conn.(*net.UnixConn)
		n, _, err := agent.WriteMsgUnix(text, unix.UnixRights(fd), nil)
		if err == nil && n < len(text) {
			_, err = agent.Write(text[n:])
		}
		return err
	}
}
