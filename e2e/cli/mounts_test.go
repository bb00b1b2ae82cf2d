package cli

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// mounts writes a file for the command of that name.
func (r *rig) mounts(list ...specs.Mount) string {
	r.t.Helper()
	data, err := json.Marshal(list)
	r.check(err)
	r.check(os.WriteFile(r.path("mounts.json"), data, 0o600))
	return r.path("mounts.json")
}

// TestMounts: crun's command. Mounts come and go in a live container as if config.json had them, also in one that is paused or not started,
// and in a user namespace; a path of the container leads nowhere else.
func TestMounts(t *testing.T) {
	for name, change := range map[string]func(*specs.Spec){
		"root": func(*specs.Spec) {},
		"user namespace": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
			s.Linux.GIDMappings = s.Linux.UIDMappings
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "sleep", "1000")
			change(r.spec)
			r.check(os.MkdirAll(r.path("source"), 0o755))
			r.check(os.WriteFile(r.path("source/file"), []byte("here\n"), 0o644))
			for d := r.dir; d != os.TempDir() && len(d) > 1; d = d[:strings.LastIndex(d, "/")] {
				r.check(os.Chmod(d, 0o755)) // for the mapped user
			}
			r.writeConfig()
			r.ok("create", "c")
			t.Cleanup(func() { r.ok("delete", "-f", "c") })
			exec := func(script string) string { t.Helper(); return r.ok("exec", "c", "sh", "-c", script) }

			bind := specs.Mount{Destination: "/dev/made/dir", Type: "bind", Source: r.path("source"), Options: []string{"bind", "ro"}}
			file := specs.Mount{Destination: "/dev/made/file", Type: "bind", Source: r.path("source/file"), Options: []string{"bind"}}
			fs := specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=64k", "noexec", "mode=700"}}
			all := r.mounts(bind, file, fs)
			r.ok("mounts", "add", "c", all) // before start
			if out := exec("cat /dev/made/dir/file /dev/made/file; grep ' /tmp ' /proc/self/mountinfo; stat -c %u:%a /tmp /dev/made"); !strings.HasPrefix(out, "here\nhere\n") ||
				!strings.Contains(out, "noexec") || !strings.Contains(out, "size=64k") || !strings.HasSuffix(out, "\n0:700\n0:755\n") {
				t.Errorf("%s", out)
			}
			if res := r.run("exec", "c", "touch", "/dev/made/dir/file"); !strings.Contains(res.err, "Read-only") {
				t.Errorf("%+v", res)
			}
			r.ok("start", "c")
			r.ok("pause", "c")
			r.ok("mounts", "remove", "c", all)
			r.ok("resume", "c")
			if out := exec("ls /dev/made/dir | wc -l; wc -c < /dev/made/file; grep -c ' /tmp ' /proc/self/mountinfo || :"); out != "0\n0\n0\n" {
				t.Errorf("after the removal: %q", out)
			}
			r.fails("invalid argument", "mounts", "remove", "c", all)

			// Links of the container lead to places in the container.
			exec("ln -s ../../../../../../dev/inside/dir /dev/link; ln -s /proc/1/attr /dev/proc")
			bind.Destination = "/dev/link"
			links := r.mounts(bind)
			r.ok("mounts", "add", "c", links)
			if out := exec("cat /dev/inside/dir/file"); out != "here\n" {
				t.Errorf("%q", out)
			}
			r.ok("mounts", "remove", "c", links)
			bind.Destination = "/dev/proc"
			r.fails("not permitted", "mounts", "add", "c", r.mounts(bind))

			for want, m := range map[string]specs.Mount{
				"mounts[0].destination: is empty":   {Type: "tmpfs"},
				"mounts[0].type: is empty":          {Destination: "/x"},
				"mounts[0].source: is empty":        {Destination: "/x", Type: "bind"},
				"would cover the root file system":  {Destination: "/", Type: "tmpfs"},
				"no such file or directory":         {Destination: "/tmp", Type: "bind", Source: "/no/such"},
				"would hide a part of /proc":        {Destination: "/proc/1", Type: "tmpfs", Source: "tmpfs"},
				"mounts[0]: mount nofs on /dev/new": {Destination: "/dev/new", Type: "nofs", Source: "none"},
			} {
				r.fails(want, "mounts", "add", "c", r.mounts(m))
			}
			r.fails("root file system", "mounts", "remove", "c", r.mounts(specs.Mount{Destination: "/.."}))
			r.fails("neither add nor remove", "mounts", "change", "c", links)
			r.ok("kill", "c", "KILL")
			r.stopped("c")
			r.fails("not running", "mounts", "add", "c", links)
		})
	}
	r := newRig(t, "sleep", "1000")
	r.spec.Mounts = nil
	r.spec.Linux.Namespaces = r.spec.Linux.Namespaces[:4]
	r.writeConfig()
	r.ok("create", "c")
	r.fails("linux.namespaces: without a mount namespace of its own", "mounts", "add", "c", r.mounts(specs.Mount{Destination: "/tmp", Type: "tmpfs"}))
	r.ok("delete", "-f", "c")
}
