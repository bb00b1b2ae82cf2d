package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/store"
)

// The directory for sd_notify(3): its name in the container's state directory, and where the container finds it.
const (
	notifyName   = "notify"
	notifyTarget = "/run/notify"
	notifySocket = "notify.sock"
)

// addNotify gives the container's process a socket to say that it is ready.
func (c *Container) addNotify() {
	source := filepath.Join(c.engine.opts.Root, c.id, notifyName)
	c.spec.Mounts = append(c.spec.Mounts, specs.Mount{Destination: notifyTarget, Source: source, Type: "bind",
		Options: []string{"bind", "nosuid", "noexec", "nodev", "ro"}})
	if c.spec.Process != nil {
		c.spec.Process.Env = append(c.spec.Process.Env, "NOTIFY_SOCKET="+notifyTarget+"/"+notifySocket)
	}
}

// makeNotifyDir makes the directory. Whatever user the container has may look into it: the state directory above hides it from
// all others.
func makeNotifyDir(dir store.Dir) error {
	path := filepath.Join(string(dir), notifyName)
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, 0o755) // whatever the umask is
}

// NotifySocket returns where the container's process sends its notifications: whoever starts the container listens there. ""
// says that it was not created with CreateRequest.Notify.
func (d *Detached) NotifySocket() (string, error) {
	path := filepath.Join(string(d.dir), notifyName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", errorf(Internal, err, "container %s: %v", d.id, err)
	}
	return filepath.Join(path, notifySocket), nil
}
