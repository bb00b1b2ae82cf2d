package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	api "github.com/gosuda/gosudacon/shim/internal/sandboxapi"
)

// first is the first process of a pod whose containers share their process ids: a container of the engine, with the sandbox's id, in
// the sandbox's bundle, so that `delete` finds it when the shim is gone.
type first struct {
	mu        sync.Mutex
	container *engine.Container
	mounted   bool // rootfs
	closed    bool
}

const (
	pausePath = "/pause" // as everybody calls it who looks into a pod
	nobody    = 65535    // whom everybody else's runs as
)

// start starts the process, unless it is there, and returns its id.
func (f *first) start(ctx context.Context, p *pod) (pid int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return 0, refuse(engine.FailedPrecondition, "sandbox %s has ended", p.id)
	case f.container != nil:
		return f.container.Pid(), nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.removeLocked(ctx, p.bundle))
		}
	}()
	if err := f.writeBundle(p); err != nil {
		return 0, fmt.Errorf("make the first process of sandbox %s: %w", p.id, err)
	}
	c, err := p.engine.Create(ctx, engine.CreateRequest{ID: p.id, Bundle: p.bundle, SystemdCgroup: p.options.SystemdCgroup, NoNewKeyring: true,
		NoPivotRoot: p.options.NoPivotRoot})
	if err != nil {
		return 0, fmt.Errorf("make the first process of sandbox %s: %w", p.id, err)
	}
	f.container = c
	if err := c.Start(ctx); err != nil {
		return 0, fmt.Errorf("start the first process of sandbox %s: %w", p.id, err)
	}
	return c.Pid(), nil
}

// stop ends and removes the process. After an error it can be called again.
func (f *first) stop(ctx context.Context, bundle string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return f.removeLocked(ctx, bundle)
}

func (f *first) removeLocked(ctx context.Context, bundle string) error {
	if c := f.container; c != nil {
		if err := c.Kill(ctx, "", uint32(unix.SIGKILL), true); err != nil {
			return err
		}
		if _, err := c.Wait(ctx, ""); err != nil {
			return err
		}
		if _, err := c.Delete(ctx); err != nil {
			return err
		}
		f.container = nil
	}
	root := filepath.Join(bundle, "rootfs")
	if f.mounted {
		if err := unix.Unmount(root, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
			return fmt.Errorf("unmount %s: %w", root, err)
		}
		f.mounted = false
	}
	return nil
}

// writeBundle makes the bundle of the process: a root file system, of which it needs nothing else, on a mount of its own, because
// bundles may be where nothing can be executed.
func (f *first) writeBundle(p *pod) error {
	root := filepath.Join(p.bundle, "rootfs")
	if err := os.MkdirAll(root, 0o711); err != nil {
		return err
	}
	uid, gid := p.rootIDs() // who makes /dev in it
	data := fmt.Sprintf("mode=755,size=64k,nr_inodes=64,uid=%d,gid=%d", uid, gid)
	if err := unix.Mount("pause", root, "tmpfs", unix.MS_NOSUID, data); err != nil {
		return fmt.Errorf("mount %s: %w", root, err)
	}
	f.mounted = true
	program := filepath.Join(root, pausePath)
	if err := os.WriteFile(program, pause(), 0o755); err != nil {
		return err
	}
	if err := os.Chmod(program, 0o755); err != nil { // whatever the umask
		return err
	}
	text, err := json.Marshal(p.firstSpec(root))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.bundle, "config.json"), text, 0o600)
}

// firstSpec is the config of the process: no privileges, and the pod's namespaces.
func (p *pod) firstSpec(root string) *specs.Spec {
	shares := uint64(2) // the least
	s := &specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{Args: []string{pausePath}, Cwd: "/", User: specs.User{UID: nobody, GID: nobody}, NoNewPrivileges: true},
		Root:    &specs.Root{Path: root, Readonly: true},
		Linux: &specs.Linux{
			CgroupsPath: cgroupsPath(p.config.Linux.CgroupParent, p.id),
			Resources:   &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}},
			Namespaces:  []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}},
		},
	}
	join := func(t specs.LinuxNamespaceType, path string) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
	}
	ofThread := func(t specs.LinuxNamespaceType) { join(t, fmt.Sprintf("/proc/%d/ns/%s", p.tid, procName(t))) }
	if !p.hostNetwork() {
		ofThread(specs.NetworkNamespace)
		ofThread(specs.UTSNamespace)
	}
	if p.namespaces().IPC != api.ModeNode {
		ofThread(specs.IPCNamespace)
	}
	if u := p.userNamespace(); u != nil {
		join(specs.UserNamespace, p.user)
		s.Linux.UIDMappings, s.Linux.GIDMappings = specMaps(u.UIDs), specMaps(u.GIDs)
	}
	return s
}

func specMaps(list api.IDMappings) (maps []specs.LinuxIDMapping) {
	for _, m := range list {
		maps = append(maps, specs.LinuxIDMapping{ContainerID: m.ContainerID, HostID: m.HostID, Size: m.Length})
	}
	return maps
}

// cgroupsPath is where CRI puts the containers of a pod: a scope of systemd when the parent is a slice.
func cgroupsPath(parent, id string) string {
	switch base := filepath.Base(parent); {
	case parent == "":
		return ""
	case strings.HasSuffix(base, ".slice"):
		return base + ":cri-containerd:" + id
	}
	return filepath.Join(parent, id)
}
