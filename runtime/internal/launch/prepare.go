package launch

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// prepared is what the caller opened for the child, by step.
type prepared struct {
	fds   []int        // the child keeps them; closed by close
	step  map[int]int  // step -> descriptor
	isDir map[int]bool // step -> the bind's source is a directory
	empty int          // an empty read-only tmpfs for masks, or -1
	pidNS int          // for the clone, or -1
}

func (p *prepared) close() {
	for _, fd := range p.fds {
		unix.Close(fd)
	}
}

func (p *prepared) take(i, fd int) {
	p.fds = append(p.fds, fd)
	p.step[i] = fd
}

// prepare opens what steps need before the fork, where errors are easy. The caller must close what it returns, also with
// an error.
func prepare(pl *plan.Plan) (*prepared, error) {
	p := &prepared{step: map[int]int{}, isDir: map[int]bool{}, empty: -1, pidNS: -1}
	for i, s := range pl.Steps {
		if err := p.one(i, s.Do); err != nil {
			return p, NewStepError(pl, i, err)
		}
	}
	return p, nil
}

func (p *prepared) one(i int, a plan.Action) error {
	switch a := a.(type) {
	case plan.Clone:
		if a.PidNS == "" {
			return nil
		}
		fd, err := openNamespace(a.PidNS, plan.NewPID)
		if err != nil {
			return err
		}
		p.take(i, fd)
		p.pidNS = fd
	case plan.Join:
		fd, err := openNamespace(a.Path, a.Type)
		if err != nil {
			return err
		}
		p.take(i, fd)
	case plan.Root:
		fd, err := openTree(a.Path, true)
		if err != nil {
			return err
		}
		p.take(i, fd)
		if dir, err := isDirectory(fd); err != nil || !dir {
			return errors.Join(fmt.Errorf("%s: %w", a.Path, unix.ENOTDIR), err)
		}
		return setattr(fd, true, 0, 0, a.Propagation)
	case plan.Bind:
		return p.bind(i, a)
	case plan.BindDevice:
		fd, err := openTree(a.Path, false)
		if err != nil {
			return err
		}
		p.take(i, fd)
		return isDevice(fd, a)
	case plan.MaskPath:
		if p.empty >= 0 {
			return nil
		}
		fd, err := emptyDir()
		if err != nil {
			return err
		}
		p.fds = append(p.fds, fd)
		p.empty = fd
	}
	return nil
}

func (p *prepared) bind(i int, b plan.Bind) error {
	fd, err := openTree(b.Source, b.Recursive)
	if err != nil {
		return err
	}
	p.take(i, fd)
	if p.isDir[i], err = isDirectory(fd); err != nil {
		return err
	}
	// The copy is a peer of the host's mount: cut the tie before the container sees it, unless the config says otherwise.
	if err := setattr(fd, true, 0, 0, b.Base); err != nil {
		return err
	}
	return setBind(fd, b)
}

func setBind(fd int, b plan.Bind) error {
	if b.IDMap != nil {
		ns, err := userNamespace(b.IDMap.UID, b.IDMap.GID)
		if err != nil {
			return err
		}
		defer unix.Close(ns)
		flags := uint(unix.AT_EMPTY_PATH)
		if b.IDMap.Recursive {
			flags |= unix.AT_RECURSIVE
		}
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)}
		if err := unix.MountSetattr(fd, "", flags, &attr); err != nil {
			return fmt.Errorf("mount_setattr idmap: %w", err)
		}
	}
	if c := b.Attr; c.Set != 0 || c.Clear != 0 {
		if err := setattr(fd, false, c.Set, c.Clear, 0); err != nil {
			return err
		}
	}
	if c := b.RecAttr; c.Set != 0 || c.Clear != 0 {
		return setattr(fd, true, c.Set, c.Clear, 0)
	}
	return nil
}

// setattr changes a mount, or all below it.
func setattr(fd int, recursive bool, set, clear plan.Attr, prop plan.Propagation) error {
	if (set|clear)&plan.AttrAtime != 0 {
		clear |= plan.AttrAtime // the kernel wants the whole field cleared to set one of its values
	}
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := unix.MountAttr{Attr_set: uint64(set), Attr_clr: uint64(clear), Propagation: uint64(prop &^ plan.Recursive)}
	if err := unix.MountSetattr(fd, "", flags, &attr); err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	return nil
}

// openTree returns a detached copy of the mount at a path of the host.
func openTree(path string, recursive bool) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, flags)
	if err != nil {
		return -1, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	return fd, nil
}

func isDirectory(fd int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, fmt.Errorf("fstat: %w", err)
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// isDevice makes sure that a node of the host is the device that config.json names by its numbers.
func isDevice(fd int, d plan.BindDevice) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	typ := map[byte]uint32{'c': unix.S_IFCHR, 'b': unix.S_IFBLK}[d.Type]
	if st.Mode&unix.S_IFMT != typ || uint64(st.Rdev) != unix.Mkdev(d.Major, d.Minor) {
		return fmt.Errorf("the host's %s is not the device %c %d:%d: %w", d.Path, d.Type, d.Major, d.Minor, unix.ENODEV)
	}
	return nil
}

// emptyDir returns a detached, empty, read-only tmpfs.
func emptyDir() (int, error) {
	ctx, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen tmpfs: %w", err)
	}
	defer unix.Close(ctx)
	for _, kv := range [][2]string{{"source", "tmpfs"}, {"mode", "0755"}, {"nr_inodes", "1"}, {"nr_blocks", "1"}} {
		if err := unix.FsconfigSetString(ctx, kv[0], kv[1]); err != nil {
			return -1, fmt.Errorf("fsconfig tmpfs %s: %w", kv[0], err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return -1, fmt.Errorf("fsconfig tmpfs: %w", err)
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC,
		unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsmount tmpfs: %w", err)
	}
	return fd, nil
}

// openNamespace opens a namespace file and checks its type.
func openNamespace(path string, want plan.Namespaces) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	typ, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil || plan.Namespaces(typ) != want {
		unix.Close(fd)
		return -1, fmt.Errorf("%s is not a %s namespace", path, want)
	}
	return fd, nil
}
