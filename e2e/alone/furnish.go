package alone

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// stage is a directory of every Debian machine on which the new root is put together, in the mount namespace of the program alone.
const stage = "/mnt"

// furnish makes new namespaces fit to work in.
func (c Config) furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make / private in the new mount namespace: %w", err)
	}
	if c.Processes {
		if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mount proc of the new PID namespace: %w", err)
		}
	}
	if err := loopback(); err != nil {
		return err
	}
	if c.Root == "" {
		return empty("/", c.Empty)
	}
	return c.enterRoot()
}

func empty(root string, directories []string) error {
	for _, dir := range directories {
		dir = filepath.Join(root, dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
		}
	}
	return nil
}

// enterRoot makes the system in c.Root that of the program: below it a read-only layer, above it one in memory, and the machine's kernel file
// systems. It is a pivoted root, not a changed one: in the latter the kernel makes no user namespaces.
func (c Config) enterRoot() error {
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	lower, err := filepath.EvalSymlinks(c.Root)
	if err != nil {
		return fmt.Errorf("find the root: %w", err)
	}
	if err := empty("/", []string{stage}); err != nil {
		return err
	}
	root := filepath.Join(stage, "root")
	for _, name := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(stage, name), 0o755); err != nil {
			return err
		}
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, stage, stage)
	if err := unix.Mount("overlay", root, "overlay", 0, layers); err != nil {
		return fmt.Errorf("mount an overlay of %s: %w", lower, err)
	}
	if err := bind(root, "/proc", "/sys", "/dev"); err != nil {
		return err
	}
	// Some keep locks in /dev/shm.
	if err := empty(root, append([]string{"/tmp", "/run", "/dev/shm"}, c.Empty...)); err != nil {
		return err
	}
	if err := bind(root, c.Bind...); err != nil {
		return err
	}
	if err := pivot(root); err != nil {
		return err
	}
	for _, env := range [][2]string{{"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"}, {"TMPDIR", "/tmp"}, {"HOME", "/root"}} {
		if err := os.Setenv(env[0], env[1]); err != nil {
			return err
		}
	}
	if err := os.Chmod("/tmp", 0o1777|os.ModeSticky); err != nil {
		return err
	}
	return os.Chdir(cwd)
}

// bind makes directories, with what is mounted below them, visible in root.
func bind(root string, directories ...string) error {
	for _, dir := range directories {
		target := filepath.Join(root, dir)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(dir, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s: %w", dir, err)
		}
	}
	return nil
}

func pivot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot to %s: %w", root, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the machine's root: %w", err)
	}
	return os.Chdir("/")
}
