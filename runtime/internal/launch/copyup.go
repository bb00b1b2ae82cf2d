package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// copyUp fills a file system that the caller has made with the files of the directory that it is to cover: the child waits
// with it open as dir.
func (f *flight) copyUp(ctx context.Context, step, dir int, m plan.MountFS) error {
	fd, err := f.borrow(dir)
	if err != nil {
		return fmt.Errorf("take the directory to copy: %w", err)
	}
	defer unix.Close(fd)
	from, err := openDir(fd, ".", m.Dest)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openDir(f.prep.step[step], ".", m.Dest)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := copyDir(ctx, from, to); err != nil {
		return err
	}
	has := func(key string) bool {
		return slices.ContainsFunc(m.Params, func(p plan.FSParam) bool { return p.Key == key })
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: m.Dest, Err: err}
	}
	if !has("uid") && !has("gid") {
		if err := to.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if !has("mode") {
		if err := unix.Fchmod(int(to.Fd()), st.Mode&0o7777); err != nil {
			return &os.PathError{Op: "fchmod", Path: m.Dest, Err: err}
		}
	}
	if m.IDMap == nil {
		return nil
	}
	return f.prep.setIDMap(f.prep.step[step], m.IDMap)
}

// openDir opens the directory name below dir; path is for errors. The caller closes it.
func openDir(dir int, name, path string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// copyDir copies what is in a directory, with owners, modes, times and extended attributes. Links are copied, not followed.
func copyDir(ctx context.Context, from, to *os.File) error {
	names, err := from.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := copyOne(ctx, from, to, name); err != nil {
			return fmt.Errorf("copy up: %w", err)
		}
	}
	return nil
}

func copyOne(ctx context.Context, from, to *os.File, name string) error {
	src, dst := int(from.Fd()), int(to.Fd())
	path := from.Name() + "/" + name
	var st unix.Stat_t
	err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err = unix.Mkdirat(dst, name, 0o700); err == nil {
			err = copySubdir(ctx, from, to, name, path)
		}
	case unix.S_IFREG:
		err = copyFile(ctx, src, dst, name, path)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		var n int
		if n, err = unix.Readlinkat(src, name, buf); err == nil {
			err = unix.Symlinkat(string(buf[:n]), dst, name)
		}
	default:
		err = unix.Mknodat(dst, name, st.Mode&unix.S_IFMT|0o600, int(st.Rdev))
	}
	if err == nil {
		err = unix.Fchownat(dst, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFLNK {
		err = unix.Fchmodat(dst, name, st.Mode&0o7777, 0)
	}
	if err == nil {
		err = unix.UtimesNanoAt(dst, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	}
	if errno := unix.Errno(0); errors.As(err, &errno) && err == error(errno) {
		return &os.PathError{Op: "copy", Path: path, Err: err}
	}
	return err
}

func copySubdir(ctx context.Context, from, to *os.File, name, path string) error {
	sub, err := openDir(int(from.Fd()), name, path)
	if err != nil {
		return err
	}
	defer sub.Close()
	made, err := openDir(int(to.Fd()), name, path)
	if err != nil {
		return err
	}
	defer made.Close()
	if err := copyXattrs(sub, made); err != nil {
		return err
	}
	return copyDir(ctx, sub, made)
}

// copyChunk is how much is copied between two looks at whether anybody still waits, in bytes.
const copyChunk = 16 << 20

func copyFile(ctx context.Context, src, dst int, name, path string) error {
	in, err := openRegular(src, name, path)
	if err != nil {
		return err
	}
	defer in.Close()
	fd, err := unix.Openat(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), path)
	defer out.Close()
	for err == nil {
		if err = ctx.Err(); err == nil {
			_, err = io.CopyN(out, in, copyChunk)
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	return copyXattrs(in, out)
}

// openRegular opens a regular file for reading. What another container may have put there meanwhile, such as a device, of which
// opening it is an act, is looked at first.
func openRegular(dir int, name, path string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s is no regular file any more", path)
	}
	again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(again), path), nil
}

// copyXattrs copies the extended attributes that the new file system takes.
func copyXattrs(from, to *os.File) error {
	src, dst := int(from.Fd()), int(to.Fd())
	size, err := unix.Flistxattr(src, nil)
	if size <= 0 || err != nil {
		return nil // none, or the file system knows none
	}
	list := make([]byte, size)
	if size, err = unix.Flistxattr(src, list); err != nil {
		return &os.PathError{Op: "flistxattr", Path: from.Name(), Err: err}
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:size]), "\x00"), "\x00") {
		n, err := unix.Fgetxattr(src, name, value)
		if err == nil {
			err = unix.Fsetxattr(dst, name, value[:n], 0)
		}
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENODATA) {
			return &os.PathError{Op: "copy the attribute " + name + " of", Path: from.Name(), Err: err}
		}
	}
	return nil
}
