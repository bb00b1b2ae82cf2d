package cgroup

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/sys"
)

// The files of cgroupfs are opened by path: there are no symbolic links in it, and a container cannot put anything but
// directories there.

// writeFile writes a value to a cgroup file with one write.
func writeFile(path, value string) error {
	fd, err := sys.Open(path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return write(fd, path, value)
}

// write repeats a write that a signal interrupted: shrinking memory.limit_in_bytes is one.
func write(fd int, path, value string) error {
	for {
		_, err := unix.Write(fd, []byte(value))
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &fs.PathError{Op: "write", Path: path, Err: err}
		}
	}
}

// readFile returns the content of a cgroup file without white space around it.
func readFile(path string) (string, error) {
	data, err := readInto(nil, path)
	return strings.TrimSpace(string(data)), err
}

// readInto reads a cgroup file into buf, which grows when it is too small, and returns what it read.
func readInto(buf []byte, path string) ([]byte, error) {
	fd, err := sys.Open(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return pread(buf, fd, path)
}

// pread reads a whole cgroup file from its start, which makes the kernel write it anew.
func pread(buf []byte, fd int, path string) ([]byte, error) {
	if cap(buf) == 0 {
		buf = make([]byte, 512)
	}
	buf = buf[:cap(buf)]
	total := 0
	for {
		n, err := unix.Pread(fd, buf[total:], int64(total))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return buf[:total], nil
		}
		if total += n; total == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
	}
}

// mkdir makes one cgroup directory and reports whether it was missing.
func mkdir(path string) (made bool, err error) {
	err = unix.Mkdir(path, 0o755)
	if err == unix.EEXIST {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	return true, nil
}

// rmdir removes one cgroup directory; that it is missing is no error.
func rmdir(path string) error {
	err := unix.Rmdir(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &fs.PathError{Op: "rmdir", Path: path, Err: err}
}

// lookup returns the number after a key in a file of "key number" lines, 0 when the key is missing.
func lookup(content, key string) uint64 {
	for line := range strings.Lines(content) {
		if rest, ok := strings.CutPrefix(line, key); ok && rest != "" && rest[0] == ' ' {
			n, _ := strconv.ParseUint(strings.TrimSpace(rest), 10, 64)
			return n
		}
	}
	return 0
}
