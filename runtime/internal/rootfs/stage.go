package rootfs

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Point is where something is to be mounted below a root.
type Point struct {
	Path   string // absolute, below the root
	Source string // of a bind mount; "" for a file system of the container's own, on a directory
}

// Stage mounts the root file system on the directory at, for somebody who wants a mount of it that nothing covers, and makes the
// mount points in it that are missing, those in what is bound included. It returns where the points are, without links.
//
// Preconditions: the caller is in a mount namespace of its own (Privately).
func Stage(root, at string, points []Point) ([]string, error) {
	mount := func() error {
		if err := unix.Mount(root, at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s on %s: %w", root, at, err)
		}
		return nil
	}
	if err := mount(); err != nil {
		return nil, err
	}
	where, err := makePoints(at, points)
	// The mounts on the points were for the points in them only.
	if gone := Unmount(at); err == nil {
		err = gone
	}
	if err != nil {
		return nil, err
	}
	return where, mount()
}

func makePoints(at string, points []Point) ([]string, error) {
	root, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: at, Err: err}
	}
	defer unix.Close(root)
	where := make([]string, len(points))
	for i, p := range points {
		if where[i], err = p.make(root, at, points[:i]); err != nil {
			return nil, fmt.Errorf("make mount point %s: %w", p.Path, err)
		}
	}
	return where, nil
}

// make makes a point below root, which is open on the directory at, and binds what belongs there. before are the points that
// were made before.
func (p Point) make(root int, at string, before []Point) (string, error) {
	if hidden(p.Path, before) {
		return filepath.Clean(p.Path), nil
	}
	file := false
	if p.Source != "" {
		fi, err := os.Stat(p.Source)
		if err != nil {
			return "", err
		}
		file = !fi.IsDir()
	}
	fd, err := makeIn(root, p.Path, file)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	name := "/proc/thread-self/fd/" + strconv.Itoa(fd)
	full, err := os.Readlink(name)
	if err != nil {
		return "", err
	}
	path, ok := strings.CutPrefix(full, at)
	if !ok {
		return "", fmt.Errorf("it is at %s, not below %s", full, at)
	}
	if p.Source != "" {
		if err := unix.Mount(p.Source, name, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return "", fmt.Errorf("bind %s: %w", p.Source, err)
		}
	}
	return path, nil
}

// hidden tells whether a path is on a file system of the container's own, which comes with whatever is in it.
func hidden(path string, before []Point) bool {
	best, own := 0, false
	for _, p := range before {
		dir := filepath.Clean(p.Path)
		if rest, ok := strings.CutPrefix(filepath.Clean(path), dir); ok && strings.HasPrefix(rest, "/") && len(dir) >= best {
			best, own = len(dir), p.Source == ""
		}
	}
	return own
}

// makeIn opens a path below root, having made what is missing of it: directories, and at its end a file if that is asked for.
// Links are followed below root.
func makeIn(root int, path string, file bool) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	rel := strings.TrimPrefix(filepath.Clean(path), "/")
	if fd, err := unix.Openat2(root, cmp.Or(rel, "."), &how); !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	parent, err := makeIn(root, filepath.Dir("/"+rel), false)
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	name := filepath.Base(rel)
	if file {
		fd, err := unix.Openat(parent, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return -1, err
		}
		unix.Close(fd)
	} else if err := unix.Mkdirat(parent, name, 0o755); err != nil {
		return -1, err
	}
	return unix.Openat(parent, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}
