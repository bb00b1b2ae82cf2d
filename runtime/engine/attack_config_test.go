package engine_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// TestAttackConfig: the bundle's owner puts something in config.json's place that shall keep the shim waiting, fill its memory or
// mean one thing to who checks it and another to the kernel. Each is refused in no time, by a clear error, and leaves nothing.
func TestAttackConfig(t *testing.T) {
	plain := func(change func(*specs.Spec)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			spec := testkit.Spec("true")
			spec.Linux.CgroupsPath = "/" + newID()
			change(spec)
			testkit.WriteConfig(t, dir, spec)
		}
	}
	text := func(s string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	in := func(f func(name string) error) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			name := filepath.Join(dir, "config.json")
			os.Remove(name)
			if err := f(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := testkit.Bundle(t, testkit.Spec("true"))
	for _, tc := range []struct {
		name string
		make func(t *testing.T, dir string)
		want string
	}{
		{"a FIFO", in(func(name string) error { return unix.Mkfifo(name, 0o600) }), "is not a regular file"},
		{"a directory", in(func(name string) error { return os.Mkdir(name, 0o700) }), "is not a regular file"},
		{"a link to an endless device", in(func(name string) error { return os.Symlink("/dev/zero", name) }), "is not a regular file"},
		{"a link to itself", in(func(name string) error { return os.Symlink("config.json", name) }), "too many levels"},
		{"a terabyte of nothing", in(func(name string) error {
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(name, 1<<40)
		}), "is too large"},
		{"a string of 15 MB", plain(func(s *specs.Spec) { s.Hostname = strings.Repeat("x", 15<<20) }), "hostname: "},
		{"a hundred thousand mounts", text(`{"ociVersion":"1.2.0","root":{"path":"rootfs"},"mounts":[` + strings.Repeat(`{},`, 100_000) + `{}]}`), "mounts: 100001 entries"},
		{"deep nesting", text(strings.Repeat(`{"process":`, 1_000_000)), "is nested more than 10000 deep"},
		{"deep lists", text(`{"mounts":` + strings.Repeat(`[`, 1_000_000)), "mounts[0]: cannot take an array"},
		{"not UTF-8", text("{\"ociVersion\":\"1.2.0\",\n\"hostname\":\"\xff\"}"), "line 2: is not UTF-8"},
		{"two values", text(`{"ociVersion":"1.2.0"}{"ociVersion":"1.2.0"}`), "after the document"},
		{"null", text(`null`), "root.path: is missing"},
		{"a list", text(`[]`), "cannot take an array"},
		{"a negative id", text(`{"ociVersion":"1.2.0","process":{"user":{"uid":-1}}}`), "cannot take the number -1"},
		{"an id beyond 32 bits", text(`{"ociVersion":"1.2.0","process":{"user":{"uid":4294967296}}}`), "cannot take the number 4294967296"},
		{"the id that is none", plain(func(s *specs.Spec) { s.Process.User.UID = 1<<32 - 1 }), "process.user.uid"},
		{"a NUL in a mount point", plain(func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/proc\x00/harmless", Type: "bind", Source: "/etc", Options: []string{"rbind"}})
		}), "mounts[7].destination: contains a NUL byte"},
		{"a NUL in the root", plain(func(s *specs.Spec) { s.Root.Path = "rootfs\x00/../../.." }), "root.path: contains a NUL byte"},
		{"a NUL in the cgroup", plain(func(s *specs.Spec) { s.Linux.CgroupsPath = "/x\x00y" }), "linux.cgroupsPath: contains a NUL byte"},
		{"a NUL in an argument", plain(func(s *specs.Spec) { s.Process.Args = []string{"true", "a\x00b"} }), "process.args[1]: contains a NUL byte"},
		{"a NUL in an annotation", plain(func(s *specs.Spec) { s.Annotations = map[string]string{"k": "\x00"} }), "annotations.k: contains a NUL byte"},
		{"a negative size of a mapping", text(`{"ociVersion":"1.2.0","linux":{"uidMappings":[{"size":-1}]}}`), "cannot take the number -1"},
		{"mappings that overlap", plain(func(s *specs.Spec) {
			inUserNS(s)
			s.Linux.UIDMappings = append(s.Linux.UIDMappings, specs.LinuxIDMapping{ContainerID: 65536, HostID: 100001, Size: 1})
		}), "linux.uidMappings[1]: maps to ids of the host that linux.uidMappings[0]"},
		{"a mapping and a user namespace that is ours", plain(func(s *specs.Spec) {
			inUserNS(s)
			s.Linux.Namespaces[len(s.Linux.Namespaces)-1].Path = "/proc/self/ns/user"
		}), "linux.namespaces"},
		{"a namespace of another type", plain(func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/proc/self/ns/net" }), "is not a pid namespace"},
		{"a FIFO for a namespace", func(t *testing.T, dir string) {
			if err := unix.Mkfifo(filepath.Join(dir, "ns"), 0o600); err != nil {
				t.Fatal(err)
			}
			plain(func(s *specs.Spec) { s.Linux.Namespaces[0].Path = filepath.Join(dir, "ns") })(t, dir)
		}, "is not a pid namespace"},
		{"a sysctl that is not the container's", plain(func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net/../kernel/core_pattern": "|/evil"}
		}), "linux.sysctl.net/../kernel/core_pattern"},
		{"a sysctl of the host", plain(func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.core_pattern": "|/evil"} }), "would change the host"},
		{"a rootfs that is a link to the host's", func(t *testing.T, dir string) {
			if err := os.Symlink("/", filepath.Join(dir, "out")); err != nil {
				t.Fatal(err)
			}
			plain(func(s *specs.Spec) { s.Root.Path = "out" })(t, dir)
		}, "root.path: \"out\" is a symbolic link out of the bundle"},
		{"a rootfs below a link", func(t *testing.T, dir string) {
			if err := os.Symlink("/", filepath.Join(dir, "out")); err != nil {
				t.Fatal(err)
			}
			plain(func(s *specs.Spec) { s.Root.Path = "out/etc" })(t, dir)
		}, "root.path: \"out/etc\" is a symbolic link out of the bundle"},
		{"cgroup: above the root", plain(func(s *specs.Spec) { s.Linux.CgroupsPath = "/../../etc" }), "linux.cgroupsPath"},
		{"cgroup: above the own", plain(func(s *specs.Spec) { s.Linux.CgroupsPath = "../../../../x" }), "linux.cgroupsPath"},
		{"cgroup: the root", plain(func(s *specs.Spec) { s.Linux.CgroupsPath = "/" }), "linux.cgroupsPath"},
		{"cgroup: the root, another spelling", plain(func(s *specs.Spec) { s.Linux.CgroupsPath = "//x/../." }), "linux.cgroupsPath"},
		{"cgroup: a line more", plain(func(s *specs.Spec) { s.Linux.CgroupsPath = "/x\ny" }), "linux.cgroupsPath"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			testkit.NoLeaks(t)
			for _, f := range []string{"config.json", "out", "ns"} {
				os.RemoveAll(filepath.Join(dir, f))
			}
			tc.make(t, dir)
			e, ev := newEngine(t)
			c, err := e.Create(timeout(t), engine.CreateRequest{ID: newID(), Bundle: dir})
			if err == nil {
				c.Delete(timeout(t))
				t.Fatal("it was created")
			}
			if text := err.Error(); !strings.Contains(text, tc.want) || len(text) > 2000 {
				t.Errorf("%.300s (%d bytes), want %q", text, len(text), tc.want)
			}
			if len(ev.kinds()) > 0 {
				t.Errorf("events: %v", ev.kinds())
			}
		})
	}
}

// TestAttackExecSpec: an exec's process does not come from a file; what is wrong with it is said all the same.
func TestAttackExecSpec(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	c := create(t, e, testkit.Spec("sleep", "1000"), nil)
	ctx := timeout(t)
	for i, tc := range []struct {
		change func(*specs.Process)
		want   string
	}{
		{func(p *specs.Process) { p.Args = []string{"true\x00x"} }, "NUL"},
		{func(p *specs.Process) { p.Args[0] = "" }, "process.args[0]"},
		{func(p *specs.Process) { p.Env = []string{"A=\x00"} }, "NUL"},
		{func(p *specs.Process) { p.Env = []string{"=A"} }, "process.env[0]"},
		{func(p *specs.Process) { p.Cwd = "/\x00/etc" }, "NUL"},
		{func(p *specs.Process) { p.Cwd = "etc" }, "process.cwd"},
		{func(p *specs.Process) { p.User.GID = 1<<32 - 1 }, "process.user.gid"},
		{func(p *specs.Process) { p.User.AdditionalGids = []uint32{1<<32 - 1} }, "process.user.additionalGids[0]"},
		{func(p *specs.Process) { p.Args = append(p.Args, strings.Repeat("x", 1<<20)) }, "process.args[1]: 1048576 bytes"},
		{func(p *specs.Process) {
			for i := range 100 {
				p.Env = append(p.Env, fmt.Sprintf("V%d=%s", i, strings.Repeat("x", 100_000)))
			}
		}, "argument list too long"},
	} {
		p := testkit.Spec("true").Process
		tc.change(p)
		id := "x" + itoa(i)
		if err := c.AddExec(ctx, engine.ExecRequest{ID: id, Process: p}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.StartExec(ctx, id, engine.Stdio{}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.100q: %.300v, want %q", p.Args, err, tc.want)
		}
	}
}
