package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestLife leads a container through create, start, state, kill and delete, each a process of its own: the creator is gone when
// start comes.
func TestLife(t *testing.T) {
	for name, create := range map[string][]string{
		"bundle option":             {"create", "--bundle", "BUNDLE", "c"},
		"option after the id":       {"create", "c", "--bundle", "BUNDLE"},
		"bundle as an argument":     {"create", "c", "BUNDLE"},
		"short option":              {"create", "-b", "BUNDLE", "c"},
		"value after an equals":     {"create", "--bundle=BUNDLE", "c"},
		"one dash, as go-runc does": {"create", "-bundle", "BUNDLE", "-no-subreaper", "c"},
		"the working directory":     {"create", "c"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "sh", "-c", "echo started > /dev/stdout; exec sleep 1000")
			for i := range create {
				create[i] = strings.Replace(create[i], "BUNDLE", r.bundle, 1)
			}
			out, err := os.Create(r.path("stdout"))
			r.check(err)
			cmd := r.command(create...)
			cmd.Stdout = out
			if res := r.finish(cmd); res.code != 0 {
				t.Fatalf("create: %d %s", res.code, res.err)
			}
			out.Close()
			c := r.expect("c", specs.StateCreated)
			if c.Bundle != r.bundle || c.Rootfs != filepath.Join(r.bundle, "rootfs") || c.Owner != "root" || c.ID != "c" || c.Pid == 0 {
				t.Errorf("%+v", c)
			}
			if text := r.read("stdout"); text != "" {
				t.Errorf("output before start: %q", text)
			}
			r.ok("start", "c")
			r.eventually("the output", func() bool { return r.read("stdout") == "started\n" })
			if again := r.expect("c", specs.StateRunning); again.Pid != c.Pid {
				t.Errorf("pid %d became %d", c.Pid, again.Pid)
			}
			r.fails("cannot start an already running container", "start", "c")
			r.fails("that is not stopped: running", "delete", "c")
			r.ok("kill", "c", "KILL")
			r.stopped("c")
			if c := r.state("c"); c.Pid != 0 {
				t.Errorf("a stopped container has pid %d", c.Pid)
			}
			r.fails("container not running", "kill", "c", "9")
			r.fails("cannot start a container that has stopped", "start", "c")
			r.ok("delete", "c")
			r.fails("container does not exist", "state", "c")
			r.fails("container does not exist", "delete", "c")
			r.ok("delete", "--force", "c")
		})
	}
}

// TestDeleteCreated: a container that was never started needs no force.
func TestDeleteCreated(t *testing.T) {
	r := newRig(t, "true")
	r.ok("create", "c")
	r.ok("delete", "c")
}

// TestDuplicate: an id is used once, and the first container is not disturbed.
func TestDuplicate(t *testing.T) {
	r := newRig(t, "true")
	r.ok("create", "c")
	r.fails("container with given ID already exists", "create", "c")
	r.expect("c", specs.StateCreated)
	r.ok("delete", "c")
}

// TestStartFails: start returns the error of execve, which no look at the file foretells, and the container is stopped.
func TestStartFails(t *testing.T) {
	r := newRig(t, "/bin/broken")
	r.spec.Mounts = append(r.spec.Mounts, specs.Mount{Destination: "/bin/broken", Source: r.path("broken"), Type: "bind", Options: []string{"bind"}})
	r.writeConfig()
	r.check(os.WriteFile(r.path("broken"), []byte("no program"), 0o755))
	t.Cleanup(func() { os.Remove(filepath.Join(shared.rootfs, "bin/broken")) }) // the mount point
	r.ok("create", "c")
	r.fails(`exec: \"/bin/broken\": exec format error`, "start", "c")
	r.stopped("c")
	r.ok("delete", "c")
}

// TestCreateFails: what callers look for in the error, and nothing is left.
func TestCreateFails(t *testing.T) {
	for want, change := range map[string]func(*rig){
		"executable file not found in $PATH":        func(r *rig) { r.spec.Process.Args[0] = "nothing" },
		"stat /no/thing: no such file or directory": func(r *rig) { r.spec.Process.Args[0] = "/no/thing" },
		"permission denied":                         func(r *rig) { r.spec.Process.Args[0] = "/etc/passwd" },
		"cannot allocate tty":                       func(r *rig) { r.spec.Process.Terminal = true },
		"config.json: no such file or directory":    func(r *rig) { r.check(os.Remove(filepath.Join(r.bundle, "config.json"))) },
		"the kernel killed it for want of memory": func(r *rig) {
			r.spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: new(int64(1000))}
		},
		"process.cwd": func(r *rig) { r.spec.Process.Cwd = "relative" },
		"hooks.createRuntime[0] /bin/sh: exit status 3: bad": func(r *rig) { r.hook("createRuntime", "echo bad; exit 3") },
	} {
		t.Run(want, func(t *testing.T) {
			r := newRig(t, "true")
			change(r)
			if exists(filepath.Join(r.bundle, "config.json")) {
				r.writeConfig()
			}
			if res := r.fails(want, "create", "c"); res.code != 1 {
				t.Errorf("exit code %d", res.code)
			}
			r.fails("container does not exist", "state", "c")
		})
	}
}

// hook adds a shell script as a hook.
func (r *rig) hook(at, script string) {
	if r.spec.Hooks == nil {
		r.spec.Hooks = &specs.Hooks{}
	}
	h := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}}}
	switch at {
	case "createRuntime":
		r.spec.Hooks.CreateRuntime = h
	case "poststart":
		r.spec.Hooks.Poststart = h
	case "poststop":
		r.spec.Hooks.Poststop = h
	}
}

// TestHooks: each in its command, with the state on its standard input; poststop also when the bundle is gone.
func TestHooks(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	for _, at := range []string{"createRuntime", "poststart", "poststop"} {
		r.hook(at, "cat > "+r.path(at))
	}
	r.writeConfig()
	status := func(at string) string {
		var s specs.State
		if err := json.Unmarshal([]byte(r.read(at)), &s); err != nil || s.ID != "c" || s.Bundle != r.bundle {
			t.Errorf("%s: %+v, %v", at, s, err)
		}
		return string(s.Status)
	}
	r.ok("create", "c")
	if s := status("createRuntime"); s != "creating" {
		t.Errorf("createRuntime: %s", s)
	}
	r.ok("start", "c")
	if s := status("poststart"); s != "running" {
		t.Errorf("poststart: %s", s)
	}
	r.check(os.Remove(filepath.Join(r.bundle, "config.json")))
	r.ok("delete", "-f", "c")
	if s := status("poststop"); s != "stopped" {
		t.Errorf("poststop: %s", s)
	}
}

// TestTimerSlack: ours is our own affair.
func TestTimerSlack(t *testing.T) {
	r := newRig(t, "cat", "/proc/self/timerslack_ns")
	for _, at := range []string{"createRuntime", "poststart", "poststop"} {
		r.hook(at, "cat /proc/self/timerslack_ns >"+r.path(at))
	}
	r.writeConfig()
	const usual = "50000\n"
	if s := r.ok("run", "c"); s != usual {
		t.Errorf("in the container: %q, want %q", s, usual)
	}
	for _, at := range []string{"createRuntime", "poststart", "poststop"} {
		if s := r.read(at); s != usual {
			t.Errorf("hook %s: %q, want %q", at, s, usual)
		}
	}
}

// TestSignals: whatever the caller has gosudacon ignore, a container ignores nothing.
func TestSignals(t *testing.T) {
	r := newRig(t, "grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status")
	r.wrap = []string{"env", "--ignore-signal", "--block-signal=USR1"}
	if s, want := r.ok("run", "c"), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n"; s != want {
		t.Errorf("%q, want %q", s, want)
	}
}

// TestClosedStreams: where the caller has no standard streams, a container has /dev/null, and nothing that gosudacon opened.
func TestClosedStreams(t *testing.T) {
	r := newRig(t, "sh", "-c", "ls -l /proc/self/fd >/log")
	r.spec.Root.Readonly = false
	r.spec.Mounts = append(r.spec.Mounts, specs.Mount{Destination: "/log", Type: "bind", Source: r.path("log"), Options: []string{"bind"}})
	r.writeConfig()
	for _, closed := range []string{"<&-", "<&- >&-", "<&- >&- 2>&-"} {
		r.check(os.WriteFile(r.path("log"), nil, 0o600))
		r.wrap = []string{"sh", "-c", `exec "$@" ` + closed, "sh"}
		r.ok("run", "c")
		for _, line := range strings.Split(strings.TrimSpace(r.read("log")), "\n") {
			_, link, ok := strings.Cut(line, " -> ")
			if ok && !slices.Contains([]string{"/dev/null", "/log"}, link) && !strings.HasPrefix(link, "/proc/") && !strings.HasPrefix(link, r.dir) {
				t.Errorf("%s: %s", closed, line)
			}
		}
	}
}

// TestProcessors: a container and a hook may run on every processor that gosudacon's caller may, and so may gosudacon once it stays.
func TestProcessors(t *testing.T) {
	look := func(pid string) string {
		text, err := os.ReadFile("/proc/" + pid + "/status")
		if err != nil {
			t.Fatal(err)
		}
		_, list, _ := strings.Cut(string(text), "Cpus_allowed_list:\t")
		list, _, _ = strings.Cut(list, "\n")
		return list
	}
	all := look("self")
	const print = "grep Cpus_allowed_list /proc/self/status | cut -f 2"
	r := newRig(t, "sh", "-c", print)
	for _, at := range []string{"createRuntime", "poststart", "poststop"} {
		r.hook(at, print+" >"+r.path(at))
	}
	r.writeConfig()
	if s := strings.TrimSpace(r.ok("run", "c")); s != all {
		t.Errorf("in the container: %q, want %q", s, all)
	}
	for _, at := range []string{"createRuntime", "poststart", "poststop"} {
		if s := strings.TrimSpace(r.read(at)); s != all {
			t.Errorf("hook %s: %q, want %q", at, s, all)
		}
	}
	r.ok("create", "c")
	r.ok("start", "c")
	r.ok("delete", "-f", "c")
	for _, at := range []string{"createRuntime", "poststart", "poststop"} {
		if s := strings.TrimSpace(r.read(at)); s != all {
			t.Errorf("hook %s of create, start, delete: %q, want %q", at, s, all)
		}
	}
	r.spec.Process.Args = []string{"sleep", "1000"}
	r.writeConfig()
	cmd := r.command("run", "c")
	r.check(cmd.Start())
	r.eventually("the container runs", func() bool { return r.run("state", "c").code == 0 && r.state("c").Status == specs.StateRunning })
	r.eventually("every thread has all processors", func() bool {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", cmd.Process.Pid))
		return err == nil && len(tasks) > 2 && !slices.ContainsFunc(tasks, func(task string) bool { return look(strings.TrimPrefix(task, "/proc/")) != all })
	})
	r.ok("kill", "c", "KILL")
	cmd.Wait()
}

// TestNoFile: containers and hooks have the caller's RLIMIT_NOFILE, which the program's entry lowers and the Go runtime raises.
func TestNoFile(t *testing.T) {
	const look = "ulimit -Sn; ulimit -Hn"
	r := newRig(t, "sh", "-c", look)
	r.hook("createRuntime", "{ "+look+"; } >"+r.path("hook"))
	r.writeConfig()
	for _, limits := range []string{"777\n1999\n", "100\n100\n"} {
		soft, hard, _ := strings.Cut(strings.TrimSpace(limits), "\n")
		r.wrap = []string{"sh", "-c", "ulimit -Sn " + soft + "; ulimit -Hn " + hard + `; exec "$@"`, "sh"}
		if s := r.ok("run", "c"); s != limits {
			t.Errorf("in the container: %q, want %q", s, limits)
		}
		if s := r.read("hook"); s != limits {
			t.Errorf("in the hook: %q, want %q", s, limits)
		}
	}
}

// TestPidFile: it is there, whole, when create returns, and names the process that state names.
func TestPidFile(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	r.ok("create", "--pid-file", r.path("pid"), "c")
	if got, want := r.read("pid"), strconv.Itoa(r.state("c").Pid); got != want {
		t.Errorf("the pid file has %q, want %q", got, want)
	}
	r.ok("delete", "c")
	r.fails("--pid-file", "create", "--pid-file", r.path("no/such/directory"), "c")
	r.fails("container does not exist", "state", "c") // undone
}

// TestLog: a failed command leaves exactly one JSON object, as podman parses the file, and the same text on the standard error.
func TestLog(t *testing.T) {
	r := newRig(t, "nothing")
	r.spec.Process.Capabilities.Ambient = []string{"CAP_KILL"} // worth a warning
	r.writeConfig()
	r.globals = []string{"--log", r.path("log.json"), "--log-format", "json"}
	res := r.fails("executable file not found in $PATH", "create", "c")
	var line struct{ Level, Msg, Time string }
	if err := json.Unmarshal([]byte(r.read("log.json")), &line); err != nil || line.Level != "error" || line.Time == "" || line.Msg+"\n" != res.err {
		t.Errorf("log %q (%v), standard error %q", r.read("log.json"), err, res.err)
	}
	r.fails("does not exist", "state", "c")
	if n := strings.Count(r.read("log.json"), "\n"); n != 2 {
		t.Errorf("%d lines after two failures", n)
	}
	r.globals = []string{"--log", r.path("log.text")}
	r.fails("does not exist", "state", "c")
	if text := r.read("log.text"); !strings.HasPrefix(text, `time="`) || !strings.Contains(text, `level=error msg="container does not exist"`) {
		t.Errorf("log %q", text)
	}
}

// TestRaces: among many starts and many deletes at once, one of each succeeds.
func TestRaces(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	r.ok("create", "c")
	race := func(args ...string) (won int) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for range 6 {
			cmd := r.command(args...)
			wg.Go(func() {
				if cmd.Run() == nil {
					mu.Lock()
					won++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		return won
	}
	if n := race("start", "c"); n != 1 {
		t.Errorf("%d starts succeeded", n)
	}
	r.expect("c", specs.StateRunning)
	r.ok("kill", "c", "KILL")
	r.stopped("c")
	if n := race("delete", "c"); n != 1 {
		t.Errorf("%d deletes succeeded", n)
	}
	if n := race("create", "c"); n != 1 {
		t.Errorf("%d creates succeeded", n)
	}
	if n := race("delete", "--force", "c"); n != 6 {
		t.Errorf("%d forced deletes succeeded, want all", n)
	}
}

// TestCreatorKilled kills creators at moments spread over the creation: delete --force leaves nothing, whatever was made.
func TestCreatorKilled(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	gate := r.path("gate")
	for i := range 40 {
		if i%4 == 3 { // in the middle, for certain
			r.hook("createRuntime", "touch "+gate+"; sleep 1000")
		} else {
			r.spec.Hooks = nil
		}
		r.writeConfig()
		cmd := r.command("create", "c")
		r.check(cmd.Start())
		if r.spec.Hooks != nil {
			r.eventually("the hook runs", func() bool { return exists(gate) })
			os.Remove(gate)
		} else {
			pause(i)
		}
		cmd.Process.Kill()
		cmd.Wait()
		killHooks(gate)
		r.ok("delete", "--force", "c")
		if exists(filepath.Join(r.root, "c")) {
			t.Fatalf("round %d: the record is left", i)
		}
		left, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", r.cgroups, "c"))
		if len(left) > 0 {
			t.Fatalf("round %d: left behind: %s", i, left)
		}
	}
}

// TestList: as a table, as JSON, and ids alone.
func TestList(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	if out := r.ok("list", "-f", "json"); out != "null\n" {
		t.Errorf("no containers: %q", out)
	}
	r.ok("create", "b")
	r.spec.Linux.CgroupsPath = r.cgroups + "/a"
	r.writeConfig()
	r.ok("create", "a")
	r.ok("start", "a")
	var list []container
	if err := json.Unmarshal([]byte(r.ok("list", "--format=json")), &list); err != nil || len(list) != 2 || list[0].ID != "a" ||
		list[0].Status != specs.StateRunning || list[1].Status != specs.StateCreated {
		t.Errorf("%+v, %v", list, err)
	}
	if out := r.ok("list", "-q"); out != "a\nb\n" {
		t.Errorf("ids: %q", out)
	}
	lines := strings.Split(r.ok("list"), "\n")
	if f := strings.Fields(lines[1]); len(lines) != 4 || f[0] != "a" || f[1] != strconv.Itoa(list[0].Pid) || f[2] != "running" || f[3] != r.bundle {
		t.Errorf("table: %q", lines)
	}
	r.ok("delete", "-f", "a")
	r.ok("delete", "-f", "b")
}

// TestListWhileOthersWork: containers that come and go meanwhile do not disturb a list.
func TestListWhileOthersWork(t *testing.T) {
	r := newRig(t, "true")
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				r.command("run", "c").Run()
			}
		}
	}()
	for range 60 {
		if res := r.run("list", "-f", "json"); res.code != 0 {
			t.Errorf("list: %+v", res)
		}
		if res := r.run("state", "c"); res.code != 0 && !strings.Contains(res.err, "container does not exist") {
			t.Errorf("state: %+v", res)
		}
	}
	close(stop)
	<-done
}
