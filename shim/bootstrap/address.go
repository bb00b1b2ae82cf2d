package bootstrap

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// unixScheme begins the address of a socket in the file system.
const unixScheme = "unix://"

// defaultSocketDir holds the sockets of every shim of a host, whatever containerd's own directories are.
const defaultSocketDir = "/run/containerd/s"

// maxSocketDir is containerd's limit for the directory: with '/', the 64 digits of the name and a NUL it fills sun_path.
const maxSocketDir = 42

// socketPath returns the path of the socket of a group's shim. Clients of containerd compute the same.
func socketPath(dir, address, namespace, group string, debug bool) string {
	name := filepath.Join(address, namespace, group)
	if debug {
		name = filepath.Join(name, "debug")
	}
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(dir, hex.EncodeToString(sum[:]))
}

// openSocketDir makes the directory of the sockets, and returns its path and an open handle that the caller closes. An
// empty dir, which containerd before 2.3 and a caller that does not know send, is the default of the user.
func openSocketDir(dir string) (string, *os.File, error) {
	candidates := []string{dir}
	if dir == "" {
		candidates = defaultSocketDirs(os.Geteuid(), os.Getenv("XDG_RUNTIME_DIR"))
	}
	var errs []error
	for _, dir := range candidates {
		handle, err := makeSocketDir(dir)
		if err == nil {
			return dir, handle, nil
		}
		errs = append(errs, err)
	}
	return "", nil, errors.Join(errs...)
}

// defaultSocketDirs returns where the sockets of a user's shims may be, in containerd's order.
func defaultSocketDirs(uid int, runtimeDir string) []string {
	dirs := []string{defaultSocketDir}
	if uid == 0 {
		return dirs
	}
	if runtimeDir != "" {
		dirs = append(dirs, filepath.Join(runtimeDir, "containerd", "s"))
	}
	id := strconv.Itoa(uid)
	return append(dirs, "/run/"+id+"/containerd/s", "/tmp/containerd-s-"+id)
}

func makeSocketDir(dir string) (*os.File, error) {
	if len(dir) > maxSocketDir {
		return nil, fmt.Errorf("socket directory %s: longer than %d bytes", dir, maxSocketDir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make socket directory: %w", err)
	}
	root := os.Geteuid() == 0
	flags := os.O_RDONLY | syscall.O_DIRECTORY
	if !root {
		flags |= syscall.O_NOFOLLOW
	}
	handle, err := os.OpenFile(dir, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("open socket directory: %w", err)
	}
	if root {
		return handle, nil // what the administrator configured
	}
	// /tmp/containerd-s-UID could be somebody else's.
	info, err := handle.Stat()
	if err == nil && info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
		err = &fs.PathError{Op: "use socket directory", Path: dir, Err: syscall.EPERM}
	}
	if err != nil {
		handle.Close()
		return nil, err
	}
	return handle, nil
}

// pathOf returns the path in an address, "" for a socket that is not in the file system.
func pathOf(address string) string {
	path, ok := strings.CutPrefix(address, unixScheme)
	if !ok {
		return ""
	}
	return path
}
