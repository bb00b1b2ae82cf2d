// Package ociruntime finds the runtimes that are compared by their command line, and gives each a root of its own.
package ociruntime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// The runtimes that are known by name.
const (
	Gosudacon = "gosudacon"
	Runc      = "runc"
	Crun      = "crun"
)

// patience is how long a runtime may take to clean up.
const patience = 20 * time.Second

// Runtime is a program with runc's command line.
type Runtime struct {
	Name, Path string
	Root       string // its --root: nobody else's containers are in there
}

// Find finds a runtime in the tree, and makes a root for it below dir.
func Find(tree containerdtest.Tree, name, dir string) (Runtime, error) {
	r := Runtime{Name: name, Root: filepath.Join(dir, "root-"+name)}
	switch name {
	case Gosudacon:
		r.Path = filepath.Join(tree.Bin(), name)
	case Runc, Crun:
		peer, err := tree.Peer(name)
		if err != nil {
			return r, err
		}
		r.Path = filepath.Join(peer, name)
	default:
		return r, fmt.Errorf("find runtime %q: %s, %s and %s are known", name, Gosudacon, Runc, Crun)
	}
	if _, err := os.Stat(r.Path); err != nil {
		return r, fmt.Errorf("find runtime %s: %w (make build peers)", name, err)
	}
	if name == Crun {
		if err := r.hideUnified(dir); err != nil {
			return r, err
		}
	}
	return r, os.MkdirAll(r.Root, 0o711)
}

// controllers lists what a hybrid host has left to cgroup v2.
const controllers = "/sys/fs/cgroup/unified/cgroup.controllers"

// hideUnified puts a program in the runtime's place that shows it an empty list of cgroup v2 controllers, in a mount namespace of its
// own: crun starts nothing on a host whose cgroup2 hierarchy, beside those of v1, has any.
func (r *Runtime) hideUnified(dir string) error {
	if text, err := os.ReadFile(controllers); err != nil || len(strings.TrimSpace(string(text))) == 0 {
		return nil
	}
	path := filepath.Join(dir, r.Name+"-hybrid")
	text := fmt.Sprintf("#!/bin/sh\nexec unshare --mount --propagation slave sh -c 'mount --bind /dev/null %s && exec \"$0\" \"$@\"' '%s' \"$@\"\n",
		controllers, r.Path)
	r.Path = path
	return os.WriteFile(path, []byte(text), 0o755)
}

// Command is one call, with the runtime's root.
func (r Runtime) Command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, r.Path, append([]string{"--root", r.Root}, args...)...)
}

// Wrapper writes a program to dir that calls the runtime with its root, for callers that know nothing of --root, and returns its path.
// before is a line of shell that runs first, with the caller's arguments.
func (r Runtime) Wrapper(dir, before string) (string, error) {
	path := filepath.Join(dir, r.Name)
	text := fmt.Sprintf("#!/bin/sh\n%s\nexec '%s' --root '%s' \"$@\"\n", before, r.Path, r.Root)
	return path, os.WriteFile(path, []byte(text), 0o755)
}

// Containers lists what is in the runtime's root, by the ids.
func (r Runtime) Containers() ([]string, error) {
	entries, err := os.ReadDir(r.Root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") { // crun's cache
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// Clean deletes the containers that are left. What delete --force leaves in the root is an error.
func (r Runtime) Clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ids, err := r.Containers()
	if err != nil {
		return err
	}
	var all error
	for _, id := range ids {
		if text, err := r.Command(ctx, "delete", "--force", id).CombinedOutput(); err != nil {
			all = errors.Join(all, fmt.Errorf("%s delete --force %s: %w: %s", r.Name, id, err, strings.TrimSpace(string(text))))
		}
	}
	if ids, err = r.Containers(); err != nil || len(ids) > 0 {
		all = errors.Join(all, err, fmt.Errorf("%s leaves %s in its root", r.Name, strings.Join(ids, ", ")))
	}
	return all
}

// State asks for a container's state and returns the fields of its JSON object.
func (r Runtime) State(ctx context.Context, id string) (map[string]any, error) {
	text, err := r.Command(ctx, "state", id).Output()
	if err != nil {
		return nil, fmt.Errorf("%s state %s: %w", r.Name, id, err)
	}
	var state map[string]any
	if err := json.Unmarshal(text, &state); err != nil {
		return nil, fmt.Errorf("%s state %s: %w", r.Name, id, err)
	}
	return state, nil
}
