package engine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/internal/criu"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/rootfs"
)

// devNull is what hides a masked file.
const devNull = "/dev/null"

// dumpedMounts names the mounts of files that are not the container's: by their mount points, as runc does, and masked files
// by what is on them.
func dumpedMounts(p *plan.Plan, pid int) ([]criu.Pair, error) {
	root, err := unix.Open(procRoot(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: procRoot(pid), Err: err}
	}
	defer unix.Close(root)
	var list []criu.Pair
	add := func(path, name string, file bool) error {
		at, dir, err := lookUp(root, path)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || file && dir {
			return nil
		}
		if err != nil {
			return &os.PathError{Op: "look up in the container", Path: path, Err: err}
		}
		if name == "" {
			name = at
		}
		list = append(list, criu.Pair{Key: at, Value: name})
		return nil
	}
	for _, s := range p.Steps {
		switch a := s.Do.(type) {
		case plan.Bind:
			err = add(a.Dest, "", false)
		case plan.BindDevice:
			err = add(a.Path, "", false)
		case plan.MaskPath:
			err = add(a.Path, devNull, true)
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// lookUp returns a path below root without links, as its mount namespace sees it, and whether it is a directory.
func lookUp(root int, path string) (at string, dir bool, err error) {
	rel := strings.TrimPrefix(path, "/")
	if rel == "" {
		rel = "."
	}
	fd, err := unix.Openat2(root, rel, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return "", false, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", false, err
	}
	at, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	return at, st.Mode&unix.S_IFMT == unix.S_IFDIR, err
}

// mountPoints are the points that a plan mounts on, in order.
func mountPoints(p *plan.Plan) []rootfs.Point {
	var list []rootfs.Point
	for _, s := range p.Steps {
		switch a := s.Do.(type) {
		case plan.Bind:
			list = append(list, rootfs.Point{Path: a.Dest, Source: a.Source})
		case plan.BindDevice:
			list = append(list, rootfs.Point{Path: a.Path, Source: a.Path})
		case plan.MountFS:
			list = append(list, rootfs.Point{Path: a.Dest})
		}
	}
	return list
}

// restoredMounts says what is on the points of a plan that are bound; where are their paths without links.
func restoredMounts(points []rootfs.Point, where []string) []criu.Pair {
	list := []criu.Pair{{Key: devNull, Value: devNull}} // the name of what is on masked files
	for i, p := range points {
		if p.Source != "" {
			source := p.Source
			if real, err := filepath.EvalSymlinks(source); err == nil { // of a link criu would mount the link; what is missing is for criu to tell
				source = real
			}
			list = append(list, criu.Pair{Key: where[i], Value: source})
		}
	}
	return list
}

// boundAttributes are those that a plan sets on what it binds: of several mounts of one file system criu makes some without.
// where is as in restoredMounts.
func boundAttributes(p *plan.Plan, points []rootfs.Point, where []string) []rootfs.Attributes {
	var list []rootfs.Attributes
	for _, s := range p.Steps {
		b, ok := s.Do.(plan.Bind)
		if !ok {
			continue
		}
		at := where[slices.IndexFunc(points, func(p rootfs.Point) bool { return p.Path == b.Dest })]
		for _, change := range []struct {
			set       plan.Attr
			recursive bool
		}{{b.Attr.Set, false}, {b.RecAttr.Set, true}} {
			if set := change.set &^ plan.AttrAtime; set != 0 {
				list = append(list, rootfs.Attributes{Path: at, Set: uint64(set), Recursive: change.recursive})
			}
		}
	}
	return list
}

// refuseIDMaps refuses mounts with ids of their own, which criu would make without.
func refuseIDMaps(p *plan.Plan) error {
	for _, s := range p.Steps {
		b, bind := s.Do.(plan.Bind)
		fs, own := s.Do.(plan.MountFS)
		if bind && b.IDMap != nil || own && fs.IDMap != nil {
			return errorf(FailedPrecondition, nil, "checkpoint: %s: criu cannot restore an idmapped mount", s.From)
		}
	}
	return nil
}
