package containerdtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Tree is the working tree of the project.
type Tree string

// FindTree finds the tree that the current directory belongs to.
func FindTree() (Tree, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "e2e", "go.mod")); err == nil {
			return Tree(dir), nil
		}
	}
	return "", errors.New("find the tree: no parent directory has e2e/go.mod")
}

// Bin is where make build leaves the shim.
func (t Tree) Bin() string { return filepath.Join(string(t), "bin") }

// Runtime is the absolute path, in a directory without symbolic links, of an OCI runtime's command line: gosudacon, where make build leaves it, a peer ("runc" or "crun"), or any
// other by its path.
func (t Tree) Runtime(name string) (string, error) {
	path := name
	switch name {
	case "gosudacon":
		path = filepath.Join(t.Bin(), name)
	case "runc", "crun":
		dir, err := t.Peer(name)
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, name)
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find runtime %s: %w", name, err)
	}
	// The program's own name may be a symbolic link that it looks at.
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	return filepath.Abs(filepath.Join(dir, filepath.Base(path)))
}

// Peer is the directory in which make peers leaves a peer's programs: "containerd" has containerd, ctr and
// containerd-shim-runc-v2; "runc" has runc; "crun" has crun; "criu" has criu; "runtime-tools" has its validation programs; "nerdctl" has nerdctl; "cni"
// has the CNI plugins; "cri-tools" has crictl and critest; "busybox" has one with upstream's default configuration; "containerd-1.6" and "containerd-1.7" Debian's packages; "podman-4.3", "podman-5.8" and "docker-28" are roots of Debian 12
// and of sid.
func (t Tree) Peer(name string) (string, error) {
	dir := filepath.Join(string(t), ".cache", "peers", name)
	switch name {
	case "crun", "containerd-1.6", "containerd-1.7":
		dir = filepath.Join(dir, "usr", "bin")
	case "criu":
		dir = filepath.Join(dir, "usr", "sbin")
	}
	if _, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("find peer %s: %w (make peers builds it)", name, err)
	}
	return dir, nil
}
