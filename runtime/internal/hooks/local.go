package hooks

import (
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Starter starts a command and returns how to wait for it: the caller may have to know its children.
type Starter func(*exec.Cmd) (wait func() error, err error)

// Here returns the launcher of the hooks that run in the runtime's own namespaces. They start in dir, or in / when there is
// none any more.
func Here(dir string, start Starter) Launcher {
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		dir = "/"
	}
	return func(h *specs.Hook, stdin, output *os.File) (Process, error) {
		cmd := exec.Command(h.Path)
		if len(h.Args) > 0 {
			cmd.Args = h.Args
		}
		cmd.Dir, cmd.Env = dir, Env(h)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, output, output
		wait, err := start(cmd)
		if err != nil {
			return Process{}, err
		}
		return Process{Wait: wait, Kill: func() { cmd.Process.Kill() }}, nil
	}
}

// ours are variables of the environment by which containerd, a service manager or our own parent speak to this very process.
var ours = []string{"TTRPC_ADDRESS", "GRPC_ADDRESS", "NAMESPACE", "MAX_SHIM_VERSION", "OTEL_SERVICE_NAME", "GOMAXPROCS",
	"GOSUDA_UNSEALED", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID",
	"LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC"}

// Env is the environment of a hook in the runtime's view of the world: exactly the one it asks for. One that asks for none
// inherits the runtime's, as with runc, but for what is addressed to the runtime alone.
func Env(h *specs.Hook) []string {
	if h.Env != nil {
		return h.Env
	}
	return slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(ours, name)
	})
}
