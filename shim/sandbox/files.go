package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/shim/config"
	api "github.com/gosuda/gosudacon/shim/internal/sandboxapi"
)

// files are what every container of a pod sees in the same place, in a directory of the sandbox's bundle. CRI's own controller has
// them in directories of CRI, which a shim does not know.
type files struct {
	dir, shm string
	mounted  bool // shm
}

// shmSize is the size of a pod's /dev/shm, as containerd has it.
const shmSize = 64 << 20

// The files of the directory, by the path at which containers see them.
var etcFiles = []struct{ name, destination string }{
	{"hostname", "/etc/hostname"},
	{"hosts", "/etc/hosts"},
	{"resolv.conf", "/etc/resolv.conf"},
}

const devShm = "/dev/shm"

func (f *files) path(name string) string { return filepath.Join(f.dir, name) }

func filesIn(bundle string) files {
	return files{dir: filepath.Join(bundle, config.PodFiles), shm: filepath.Join(bundle, config.PodShm)}
}

// make writes the files, for root of the pod, and mounts its /dev/shm unless that is the host's.
func (f *files) make(c *api.PodSandboxConfig, uid, gid int) error {
	if err := os.Mkdir(f.dir, 0o700); err != nil {
		return fmt.Errorf("make the pod's files: %w", err)
	}
	for name, text := range map[string]func() (string, error){
		"hostname":    func() (string, error) { return hostname(c.Hostname) },
		"hosts":       func() (string, error) { return ofHost("/etc/hosts") },
		"resolv.conf": func() (string, error) { return resolvConf(c.DNS) },
	} {
		s, err := text()
		if errors.Is(err, fs.ErrNotExist) {
			continue // the containers have what their images have
		}
		if err == nil {
			err = os.WriteFile(f.path(name), []byte(s), 0o644)
		}
		if err == nil {
			err = os.Chmod(f.path(name), 0o644) // whatever the umask
		}
		if err == nil && uid+gid > 0 {
			err = os.Lchown(f.path(name), uid, gid)
		}
		if err != nil {
			return fmt.Errorf("make the pod's /etc/%s: %w", name, err)
		}
	}
	if c.Linux.Security.Namespaces.IPC == api.ModeNode {
		return nil
	}
	if err := os.Mkdir(f.shm, 0o700); err != nil {
		return fmt.Errorf("make the pod's %s: %w", devShm, err)
	}
	data := fmt.Sprintf("mode=1777,size=%d", shmSize)
	if err := unix.Mount("shm", f.shm, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, data); err != nil {
		return fmt.Errorf("mount the pod's %s: %w", devShm, err)
	}
	f.mounted = true
	return nil
}

// remove removes what make has made. It can be called again.
func (f *files) remove() error {
	if f.mounted {
		if err := unix.Unmount(f.shm, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
			return &engine.Error{Kind: engine.Internal, Msg: fmt.Sprintf("unmount %s: %v", f.shm, err), Err: err}
		}
		f.mounted = false
	}
	return os.RemoveAll(f.dir)
}

func hostname(name string) (string, error) {
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return "", err
		}
	}
	return name + "\n", nil
}

func ofHost(name string) (string, error) {
	text, err := os.ReadFile(name)
	return string(text), err
}

// resolvConf is the host's, unless the pod has settings, even if there is nothing in them.
func resolvConf(dns *api.DNSConfig) (string, error) {
	if dns == nil {
		return ofHost("/etc/resolv.conf")
	}
	var b strings.Builder
	if len(dns.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(dns.Searches, " "))
	}
	for _, server := range dns.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(dns.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(dns.Options, " "))
	}
	return b.String(), nil
}
