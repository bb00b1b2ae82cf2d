package launch

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// prepared is what the caller opened for the child, by step.
type prepared struct {
	fds      []int        // the child keeps them; closed by close
	step     map[int]int  // step -> descriptor
	isDir    map[int]bool // step -> the bind's source is a directory
	empty    int          // an empty read-only tmpfs for masks, or -1
	pidNS    int          // for the clone, or -1
	root     int          // the container's root file system, or -1
	rootPath string       // where it lies on the host
	// covers are the host's whole mounts of proc and sysfs, for plan.Pivot that moves.
	covers []string
	// userNSs are the namespaces of id-mapped mounts, by their mapping.
	userNSs map[string]int
}

func (p *prepared) close() {
	for _, fd := range p.fds {
		unix.Close(fd)
	}
	for _, fd := range p.userNSs {
		unix.Close(fd)
	}
}

// release closes what only the child has a use for once it is there. Its caller has time for that while the child works, and not when the
// program runs.
func (p *prepared) release(pl *plan.Plan) {
	keep := []int{p.root} // see answerPoint
	for i, fd := range p.step {
		if _, ok := pl.Steps[i].Do.(plan.MountFS); ok {
			keep = append(keep, fd) // see copyUp
		}
	}
	p.fds = slices.DeleteFunc(p.fds, func(fd int) bool {
		drop := !slices.Contains(keep, fd)
		if drop {
			unix.Close(fd)
		}
		return drop
	})
}

func (p *prepared) take(i, fd int) {
	p.fds = append(p.fds, fd)
	p.step[i] = fd
}

// prepare opens what steps need before the fork, where errors are easy. The caller must close what it returns, also with
// an error.
func prepare(pl *plan.Plan) (*prepared, error) {
	p := &prepared{step: map[int]int{}, isDir: map[int]bool{}, empty: -1, pidNS: -1, root: -1}
	one := p.one
	if pl.ChildMounts {
		one = p.look
	}
	for i, s := range pl.Steps {
		if err := one(i, s.Do); err != nil {
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
		if a.Foreign {
			return checkForeign(fd, a)
		}
	case plan.Root:
		fd, err := openTree(a.Path, true)
		if err != nil {
			return err
		}
		p.take(i, fd)
		p.root, p.rootPath = fd, a.Path
		if dir, err := isDirectory(fd); err != nil || !dir {
			return errors.Join(fmt.Errorf("%s: %w", a.Path, unix.ENOTDIR), err)
		}
		return setattr(fd, true, 0, 0, a.Propagation)
	case plan.Pivot:
		if !a.Move {
			return nil
		}
		var err error
		p.covers, err = wholeMounts(p.rootPath)
		return err
	case plan.Bind:
		if a.Later {
			p.isDir[i] = true
			return nil
		}
		return p.bind(i, a)
	case plan.MountFS:
		return p.fs(i, a)
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
		fd, err := newFS(emptyFS(a.Label))
		if err != nil {
			return err
		}
		p.fds = append(p.fds, fd)
		p.empty = fd
	}
	return nil
}

// look is one for a child that makes the copies of mounts itself: what it will find is looked at, where errors are easy.
func (p *prepared) look(i int, a plan.Action) error {
	switch a := a.(type) {
	case plan.Root:
		p.rootPath = a.Path
		dir, err := isDirectoryAt(a.Path)
		if err == nil && !dir {
			err = fmt.Errorf("%s: %w", a.Path, unix.ENOTDIR)
		}
		return err
	case plan.Bind:
		var err error
		p.isDir[i], err = isDirectoryAt(a.Source)
		return err
	case plan.BindDevice:
		_, err := isDirectoryAt(a.Path)
		return err
	case plan.MountFS, plan.MaskPath:
		return nil
	}
	return p.one(i, a)
}

func isDirectoryAt(name string) (bool, error) {
	st, err := os.Stat(name)
	return err == nil && st.IsDir(), err
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

// checkForeign refuses a namespace that is this process's own.
func checkForeign(fd int, j plan.Join) error {
	own := "/proc/self/ns/" + j.Type.ProcFile()
	var theirs, ours unix.Stat_t
	if err := unix.Fstat(fd, &theirs); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	if err := unix.Stat(own, &ours); err != nil {
		return &os.PathError{Op: "stat", Path: own, Err: err}
	}
	if theirs.Dev == ours.Dev && theirs.Ino == ours.Ino {
		return fmt.Errorf("%s is the runtime's own %s namespace: linux.sysctl and linux.netDevices would change the host", j.Path, j.Type)
	}
	return nil
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
