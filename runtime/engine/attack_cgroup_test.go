package engine_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// TestAttackCgroupOfAnother: a container asks for the cgroup of another, or one above it, so that its end would be theirs.
func TestAttackCgroupOfAnother(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	spec := testkit.Spec("sleep", "1000")
	parent := newID()
	spec.Linux.CgroupsPath = "/" + parent + "/inner"
	ctx := timeout(t)
	c, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/" + parent + "/inner", "/" + parent, "/" + parent + "/x/../inner", "//" + parent + "/inner/."} {
		thief := testkit.Spec("sleep", "1000")
		thief.Linux.CgroupsPath = path
		other, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, thief)})
		if err == nil {
			other.Delete(ctx)
		}
		if err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("%s: %v", path, err)
		}
		if s := statOf(t, c.Pid()); s != "T" {
			t.Fatalf("%s: the other container's init is %s", path, s)
		}
	}
	if _, err := c.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	removeCgroups(parent)
}

// removeCgroups removes empty cgroups that a test had made above its container's.
func removeCgroups(name string) {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + name)
	for _, d := range append(dirs, "/sys/fs/cgroup/"+name) {
		os.Remove(d)
	}
}

// TestAttackCgroupMount: a container whose root is the host's, in a user namespace or not, with and without a cgroup namespace,
// writes to the cgroups that it sees, and wants to be in others: CVE-2023-25809. It gets no further than its own. The exception is
// cgroup2 mounted writable for the host's root in the host's cgroup namespace: that mount is the whole tree, there is no other (runc
// and crun mount it too, for those who ask for it), and a config without "ro" says so.
func TestAttackCgroupMount(t *testing.T) {
	for _, tc := range []struct {
		name             string
		userns, cgroupns bool
	}{{"host", false, false}, {"cgroup namespace", false, true}, {"user namespace", true, false}, {"both", true, true}} {
		t.Run(tc.name, func(t *testing.T) {
			testkit.NoLeaks(t)
			mark := newID() + "-mark"
			spec := testkit.Spec("sh", "-c", `for d in /sys/fs/cgroup /sys/fs/cgroup/* /sys/fs/cgroup/*/*; do
				mkdir $d/`+mark+` && echo made $d
				for f in cgroup.procs tasks; do echo $$ > $d/`+mark+`/$f && echo entered $d; done
				done 2>/dev/null; ls -d /sys/fs/cgroup/*/ | wc -l; true`)
			if tc.userns {
				identityUserNS(spec)
			}
			if tc.cgroupns {
				spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
			}
			spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid"}})
			e, _ := newEngine(t)
			ctx := timeout(t)
			own := newID()
			spec.Linux.CgroupsPath = "/" + own
			c, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Wait(ctx, ""); err != nil {
				t.Fatal(err)
			}
			inside := 0
			whole := exists("/sys/fs/cgroup/cgroup.controllers") && !tc.userns && !tc.cgroupns
			filepath.WalkDir("/sys/fs/cgroup", func(p string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() && d.Name() == mark {
					if inside++; !strings.Contains(p, "/"+own+"/") {
						if !whole {
							t.Errorf("made %s", p)
						}
						os.Remove(p)
					}
				}
				return nil
			})
			if !tc.userns && inside == 0 {
				t.Error("it made nothing in its own cgroups either: the test shows nothing")
			}
			if _, err := c.Delete(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}
