package docker

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ofContainers lists what Docker still knows of.
func ofContainers() (left []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for what, args := range map[string]string{
		"container": "ps --all --quiet --no-trunc", "volume": "volume ls --quiet", "network": "network ls --quiet --filter type=custom",
	} {
		out, err := command(ctx, strings.Fields(args)...).Output()
		if err != nil {
			left = append(left, fmt.Sprintf("docker %s: %v", args, err))
		}
		for id := range strings.FieldsSeq(string(out)) {
			left = append(left, what+" "+id)
		}
	}
	return left
}

// ofMachine lists what is left when Docker has ended. Processes are for package alone to find.
func ofMachine() (left []string) {
	patterns := []string{
		"/run/docker/runtime-*/moby/*",                                        // state of runc-style runtimes
		"/run/containerd/*/moby/*",                                            // state of shims' engines
		"/run/docker/containerd/daemon/io.containerd.runtime.v2.task/*/*",     // bundles
		"/var/lib/docker/containerd/daemon/io.containerd.runtime.v2.task/*/*", // their work directories
		"/run/docker/netns/[0-9a-f]*",                                         // network namespaces
	}
	if *runtimeFlag == shimRuntime { // runc's shim leaves some
		patterns = append(patterns, "/run/containerd/s/*")
	}
	for _, pattern := range patterns {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		left = append(left, err.Error())
	}
	for mount := range strings.Lines(string(mounts)) {
		if point := strings.Fields(mount)[4]; strings.HasPrefix(point, "/var/lib/docker/") || strings.HasPrefix(point, "/run/docker/") {
			left = append(left, "mount "+point)
		}
	}
	return append(left, cgroups()...)
}

// cgroups lists those below Docker's, in every hierarchy, and removes them all. Docker's own stays for its next container, and so does another
// parent (TestRun's), under every runtime.
func cgroups() (left []string) {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*/docker")
	for _, root := range append(roots, "/sys/fs/cgroup/docker") {
		var dirs []string
		_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		slices.Reverse(dirs) // children first
		for _, dir := range dirs {
			if dir != root && filepath.Base(dir) != "parent" {
				left = append(left, "cgroup "+dir)
			}
			_ = os.Remove(dir)
		}
	}
	return left
}
