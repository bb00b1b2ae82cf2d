package testkit

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/runtime/internal/host"
)

// NoLeaks compares, when the test ends, this process's children, file descriptors, the mounts and the cgroups with those
// at the call. Nothing may be left.
func NoLeaks(t testing.TB) {
	t.Helper()
	host.Probe() // opens files that stay
	host.PIDNS()
	name, _, _ := strings.Cut(t.Name(), "/")
	own := filepath.Join(os.TempDir(), name) // where T.TempDir makes the test's directories
	before := look(own)
	t.Cleanup(func() {
		left := news(before, own)
		// What ends by itself (a goroutine that closes its file, a zombie that is being reaped) gets the time to do so, on a
		// machine that others keep busy too.
		for end := time.Now().Add(20 * time.Second); len(left) > 0 && time.Now().Before(end); left = news(before, own) {
			time.Sleep(10 * time.Millisecond)
		}
		for _, item := range left {
			t.Errorf("left behind: %s", item)
		}
	})
}

// news lists what is there now and was not before.
func news(before map[string][]string, own string) []string {
	var out []string
	for kind, list := range look(own) {
		for _, item := range list {
			if !slices.Contains(before[kind], item) {
				out = append(out, kind+" "+item)
			}
		}
	}
	return out
}

func look(own string) map[string][]string {
	return map[string][]string{"child": children(), "file descriptor": descriptors(), "mount": mounts(own), "cgroup": cgroups()}
}

func children() []string {
	var out []string
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, name := range tasks {
		b, _ := os.ReadFile(name)
		for _, pid := range strings.Fields(string(b)) {
			cmd, _ := os.ReadFile("/proc/" + pid + "/comm")
			out = append(out, pid+" "+strings.TrimSpace(string(cmd)))
		}
	}
	return out
}

// descriptors lists what is open, by what it is: numbers are reused. Those of the Go poller and of other tests' temporary
// directories come and go.
func descriptors() []string {
	count := map[string]int{}
	list, _ := os.ReadDir("/proc/self/fd")
	for _, e := range list {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue
		}
		if i := strings.IndexByte(target, '['); i > 0 {
			target = target[:i]
		}
		switch target {
		case "anon_inode:", "anon_inode:pidfd":
			target = "anon_inode"
		}
		count[target]++
	}
	var out []string
	for target, n := range count {
		for i := range n {
			out = append(out, fmt.Sprintf("%s #%d", target, i+1))
		}
	}
	sort.Strings(out)
	return out
}

// mounts lists those in the test's own directories: other tests, and others on the machine, are at work too.
func mounts(own string) []string {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	var out []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && (strings.HasPrefix(f[4], own) || strings.Contains(f[4], Prefix)) {
			out = append(out, f[0]+" "+f[4])
		}
	}
	return out
}

// Prefix is how the cgroups of this test process begin, so that those of others on the machine do not matter.
var Prefix = fmt.Sprintf("gosuda-test-%d-", os.Getpid())

func cgroups() []string {
	var out []string
	filepath.WalkDir("/sys/fs/cgroup", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(p, Prefix) {
			out = append(out, p)
		}
		return nil
	})
	return out
}
