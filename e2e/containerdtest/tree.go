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

// Peer is the directory in which make peers leaves a peer's programs: "containerd" has containerd, ctr and
// containerd-shim-runc-v2; "runc" has runc; "crun" has crun; "runtime-tools" has its validation programs; "nerdctl" has nerdctl; "cni"
// has the CNI plugins that nerdctl uses; "containerd-1.6" and "containerd-1.7" Debian's packages.
func (t Tree) Peer(name string) (string, error) {
	dir := filepath.Join(string(t), ".cache", "peers", name)
	switch name {
	case "crun", "containerd-1.6", "containerd-1.7":
		dir = filepath.Join(dir, "usr", "bin")
	}
	if _, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("find peer %s: %w (make peers builds it)", name, err)
	}
	return dir, nil
}
