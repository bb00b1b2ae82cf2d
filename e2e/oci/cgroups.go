package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// parentName is the cgroup that programs have their containers made below. A runtime takes away a container's own cgroup alone, and
// a hierarchy that has others cannot be unmounted or change hands.
const parentName = "testdir"

// parents lists the cgroups of that name in all hierarchies.
func parents() []string {
	var found []string
	for _, pattern := range []string{"/sys/fs/cgroup/" + parentName, "/sys/fs/cgroup/*/" + parentName} {
		list, _ := filepath.Glob(pattern) // the patterns are good
		found = append(found, list...)
	}
	return found
}

// removeParents removes those that were not there before, with the empty cgroups below them. A cgroup is busy for a moment after its last
// process has ended.
func removeParents(before []string) error {
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		err = nil
		for _, dir := range parents() {
			if !slices.Contains(before, dir) {
				err = errors.Join(err, removeTree(dir))
			}
		}
		if err == nil {
			return nil
		}
	}
	return err
}

// removeTree removes directories from the leaves up. The files of a cgroup go with it.
func removeTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, d := range slices.Backward(dirs) {
		err = errors.Join(err, os.Remove(d))
	}
	return err
}
