package podman

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

// parents are the cgroups below which podman and buildah make those of containers and pods, where they do without systemd.
var parents = []string{"libpod_parent", "buildah-*"}

// leftovers lists what is left when all containers are removed, and removes it. Processes are for package alone to find.
func leftovers() (left []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for what, args := range map[string]string{
		"container": "ps --all --quiet", "pod": "pod ps --quiet", "volume": "volume ls --quiet",
	} {
		out, err := command(ctx, strings.Fields(args)...).Output()
		if err != nil {
			left = append(left, fmt.Sprintf("podman %s: %v", args, err))
		}
		for id := range strings.FieldsSeq(string(out)) {
			left = append(left, what+" "+id)
		}
	}
	for _, pattern := range []string{
		"/run/" + filepath.Base(runtimePath) + "/*", // containers' state
		"/run/netns/*", // namespaces that podman made
		"/var/lib/containers/storage/*-containers/*/", // layers
	} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		left = append(left, err.Error())
	}
	for mount := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(mount); strings.Contains(fields[4], "/containers/") && strings.Contains(fields[4], "/merged") ||
			strings.Contains(fields[4], "/userdata/") {
			left = append(left, "mount "+fields[4])
		}
	}
	return append(left, cgroups()...)
}

// cgroups lists those below the parents, in every hierarchy, and removes them all. A parent is not counted: runtimes make it on the way and
// keep it for the next. Nor is the one into which podman puts every conmon, nor those of pods where podman does not look for them: in
// hierarchies without controllers.
func cgroups() (left []string) {
	for _, name := range parents {
		for _, pattern := range []string{filepath.Join("/sys/fs/cgroup", name), filepath.Join("/sys/fs/cgroup/*", name)} {
			roots, _ := filepath.Glob(pattern)
			for _, root := range roots {
				var dirs []string
				_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
					if err == nil && e.IsDir() {
						dirs = append(dirs, path)
					}
					return nil
				})
				slices.Reverse(dirs) // children first
				for _, dir := range dirs {
					ofPod := !strings.Contains(dir, "libpod-") && (strings.Contains(dir, "/systemd/") || strings.Contains(dir, "/unified/"))
					if dir != root && filepath.Base(dir) != "conmon" && !ofPod {
						left = append(left, "cgroup "+dir)
					}
					_ = os.Remove(dir)
				}
			}
		}
	}
	return left
}
