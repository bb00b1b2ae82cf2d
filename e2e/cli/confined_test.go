package cli

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// criuFor is the directory of criu; missing is what criu misses in this kernel, "" for nothing.
func criuFor(t *testing.T, tree containerdtest.Tree, crun string) (dir, missing string) {
	t.Helper()
	dir, missing, err := tree.Criu()
	if err != nil {
		t.Fatalf("without criu there is no table: %v (make criu)", err)
	}
	if glob(filepath.Join(filepath.Dir(crun), "../lib/*/libcriu.so.2")) == nil {
		t.Fatal("without the libcriu.so.2 that crun loads there is no table (make crun)")
	}
	return dir, missing
}

// strayHierarchy names a hierarchy of cgroup v1 that is not below /sys/fs/cgroup. crun 1.28 makes no cgroup there, but may take the container's
// path in it, the root, for that of all hierarchies. They come and go: the kernel keeps an unmounted one for a while.
func strayHierarchy() string {
	data, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(data)) {
		_, rest, _ := strings.Cut(line, ":")
		name, _, _ := strings.Cut(rest, ":")
		name = cmp.Or(strings.TrimPrefix(name, "name="), "unified")
		if !exists("/sys/fs/cgroup/cgroup.procs") && !exists(filepath.Join("/sys/fs/cgroup", name)) {
			return "the cgroup hierarchy " + name + " is not below /sys/fs/cgroup, and crun would restore into the root of all of them"
		}
	}
	return ""
}

// confined is crun with a cgroup of its own for the root of all cgroups, and no others in sight: should it take the root for the cgroup of what it
// restores (strayHierarchy), it freezes and later kills all that is in there, without this every process of the machine.
func confined(t *testing.T, program string) string {
	t.Helper()
	if exists("/sys/fs/cgroup/cgroup.procs") {
		return program // cgroup2 has one hierarchy
	}
	name := fmt.Sprintf("gosuda-cli-%d-crun", os.Getpid())
	var dirs []string
	for _, root := range glob("/sys/fs/cgroup/*") {
		fi, err := os.Lstat(root)
		if err != nil || !fi.IsDir() || !exists(filepath.Join(root, "cgroup.procs")) {
			continue // a link to one of the others
		}
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { removeTree(t, dir) })
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // without them it takes no processes
			if data, err := os.ReadFile(filepath.Join(root, file)); err == nil && filepath.Base(root) == "cpuset" {
				if err := os.WriteFile(filepath.Join(dir, file), data, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		dirs = append(dirs, dir)
	}
	const join = `for d in /sys/fs/cgroup/*/"$0"; do echo $$ > $d/cgroup.procs || exit 125; done; `
	namespace := filepath.Join(t.TempDir(), "cgroup")
	if err := os.WriteFile(namespace, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-c", join+"exec unshare --cgroup="+namespace+" true", name).CombinedOutput(); err != nil {
		t.Fatalf("make a cgroup namespace for crun: %v: %s", err, out)
	}
	t.Cleanup(func() { unix.Unmount(namespace, 0) })
	script := filepath.Join(t.TempDir(), "crun")
	text := "#!/bin/sh\n" + strings.ReplaceAll(join, `"$0"`, name) +
		"exec nsenter --cgroup=" + namespace + " unshare --mount --propagation slave sh -c '"
	for _, dir := range dirs {
		text += "mount --bind " + dir + " " + filepath.Dir(dir) + " && "
	}
	text += `exec "$0" "$@"' ` + program + ` "$@"` + "\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return script
}

// removeTree removes a cgroup with those below it, and ends what is in there.
func removeTree(t *testing.T, dir string) {
	t.Helper()
	r := &rig{t: t}
	var dirs []string
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	slices.Reverse(dirs)
	for _, d := range dirs {
		r.removeCgroup(d)
	}
}
