package cli

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// What callers find out of the last error in log.json: podman which exit code to tell, containerd's shim whether there is nothing to do.
var meanings = []struct{ what, pattern string }{
	{"126", `(?i)permission denied|operation not permitted`},
	{"127", `(?i)executable file not found in|no such file or directory|open executable`},
	{"finished", `os: process already finished|no such process`},
	{"not running", `container not running|process not found`},
	{"gone", `does not exist`},
	{"tty", `cannot allocate tty`},
	{"id", `container with given ID already exists`},
	{"not stopped", `cannot delete container \S+ that is not stopped`},
}

func meaningsOf(msg string) (list []string) {
	for _, m := range meanings {
		if regexp.MustCompile(m.pattern).MatchString(msg) {
			list = append(list, m.what)
		}
	}
	return list
}

// TestLogSameAsRunc: a command that fails with runc fails with gosudacon, the last object in its JSON log is an error with the same keys,
// and what callers look for in the message is there or not with both.
func TestLogSameAsRunc(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*rig)
		before []string
		args   []string
	}{
		"no such program":   {func(r *rig) { r.spec.Process.Args[0] = "nothing" }, nil, []string{"create", "c"}},
		"no such file":      {func(r *rig) { r.spec.Process.Args[0] = "/no/thing" }, nil, []string{"create", "c"}},
		"not executable":    {func(r *rig) { r.spec.Process.Args[0] = "/etc/passwd" }, nil, []string{"run", "c"}},
		"a directory":       {func(r *rig) { r.spec.Process.Args[0] = "/etc" }, nil, []string{"run", "c"}},
		"no root":           {func(r *rig) { r.spec.Root.Path = "nothing" }, nil, []string{"create", "c"}},
		"no bundle":         {nil, nil, []string{"create", "--bundle", "/no/such", "c"}},
		"no console socket": {func(r *rig) { r.spec.Process.Terminal = true }, nil, []string{"create", "c"}},
		"no mount source": {func(r *rig) {
			r.spec.Mounts = append(r.spec.Mounts, specs.Mount{Destination: "/tmp", Type: "bind", Source: "/no/such", Options: []string{"bind"}})
		}, nil, []string{"create", "c"}},
		"no namespace":         {func(r *rig) { r.spec.Linux.Namespaces[1].Path = "/no/such" }, nil, []string{"create", "c"}},
		"no hook":              {func(r *rig) { r.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/no/such"}}} }, nil, []string{"create", "c"}},
		"hook fails":           {func(r *rig) { r.hook("createRuntime", "exit 3") }, nil, []string{"create", "c"}},
		"relative cwd":         {func(r *rig) { r.spec.Process.Cwd = "here" }, nil, []string{"create", "c"}},
		"unknown limit":        {func(r *rig) { r.spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} }, nil, []string{"create", "c"}},
		"id is wrong":          {nil, nil, []string{"create", "a/b"}},
		"id is used":           {nil, []string{"create", "c"}, []string{"create", "c"}},
		"state of none":        {nil, nil, []string{"state", "c"}},
		"start of none":        {nil, nil, []string{"start", "c"}},
		"kill of none":         {nil, nil, []string{"kill", "c", "9"}},
		"delete of none":       {nil, nil, []string{"delete", "c"}},
		"exec of none":         {nil, nil, []string{"exec", "c", "true"}},
		"delete of a live one": {nil, []string{"run", "--detach", "c"}, []string{"delete", "c"}},
		"no such exec":         {nil, []string{"run", "--detach", "c"}, []string{"exec", "c", "nothing"}},
		"exec without rights":  {nil, []string{"run", "--detach", "c"}, []string{"exec", "c", "/etc/passwd"}},
		"a second start":       {nil, []string{"run", "--detach", "c"}, []string{"start", "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "sleep", "1000")
			if tc.change != nil {
				tc.change(r)
				r.writeConfig()
			}
			try := func(r *rig) (code int, last map[string]string) {
				if tc.before != nil {
					r.ok(tc.before...)
					defer r.remove("c")
				}
				log := r.path(filepath.Base(r.program) + ".json")
				r.globals = []string{"--log", log, "--log-format", "json"}
				defer func() { r.globals = nil }()
				res := r.run(tc.args...)
				data, err := os.ReadFile(log)
				r.check(err)
				for line := range strings.Lines(string(data)) { // containerd's shim reads all
					object := map[string]string{}
					r.check(json.Unmarshal([]byte(line), &object))
					if object["level"] == "error" {
						last = object
					}
				}
				if _, err := time.Parse(time.RFC3339, last["time"]); err != nil || !strings.Contains(res.err, last["msg"]) {
					t.Errorf("%s: %v, %q on the standard error of %q", r.program, err, res.err, last["msg"])
				}
				return res.code, last
			}
			code, ours := try(r)
			runcCode, runcs := try(r.withRunc())
			keys := func(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
			if code != runcCode || !slices.Equal(keys(ours), keys(runcs)) || !slices.Equal(meaningsOf(ours["msg"]), meaningsOf(runcs["msg"])) {
				t.Errorf("gosudacon %d %v %v\nrunc      %d %v %v", code, ours, meaningsOf(ours["msg"]), runcCode, runcs, meaningsOf(runcs["msg"]))
			}
		})
	}
}

// remove removes a container whose first process is a child of this process.
func (r *rig) remove(id string) {
	r.t.Helper()
	r.globals = nil
	if pid := r.state(id).Pid; pid != 0 {
		r.reapAtEnd(pid)
	}
	r.ok("delete", "--force", id)
}
