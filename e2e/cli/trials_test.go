package cli

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func decode(text string, v any) error { return json.Unmarshal([]byte(text), v) }

// globalTrials are options before the command.
var globalTrials = []trial{
	{command: "", option: "--root", shown: "the container is recorded there", try: func(a *attempt) {
		a.do("create", "c")
		a.want(exists(filepath.Join(a.root, "c")), "nothing in %s", a.root)
	}},
	{command: "", option: "--log", shown: "an error is in the file", try: func(a *attempt) {
		a.globals = []string{"--log", a.path("log")}
		a.rig.run("state", "nothing")
		a.want(strings.Contains(a.read("log"), "does not exist"), "%s", a.read("log"))
	}},
	{command: "", option: "--log-format", shown: "json: an object with level, msg and time", try: func(a *attempt) {
		a.globals = []string{"--log", a.path("log"), "--log-format", "json"}
		a.rig.run("state", "nothing")
		var line struct{ Level, Msg, Time string }
		err := decode(a.read("log"), &line)
		a.want(err == nil && line.Level == "error" && line.Msg != "" && line.Time != "", "%s", a.read("log"))
	}},
	{command: "", option: "--log-level", shown: "debug: a creation leaves lines of that level", try: func(a *attempt) {
		a.globals = []string{"--log", a.path("log"), "--log-level", "debug"}
		a.do("create", "c")
		a.want(a.read("log") != "", "an empty log")
	}},
	{command: "", option: "--debug", shown: "a creation leaves lines of that level", try: func(a *attempt) {
		a.globals = []string{"--debug", "--log", a.path("log")}
		a.do("create", "c")
		a.want(a.read("log") != "", "an empty log")
	}},
	{command: "", option: "--rootless", shown: "true: root's containers all the same", try: func(a *attempt) {
		a.globals = []string{"--rootless=true"}
		a.do("create", "c")
	}},
	{command: "", option: "--criu", shown: "a path: accepted", try: func(a *attempt) {
		a.globals = []string{"--criu", "/usr/sbin/criu"}
		a.do("create", "c")
	}},
	{command: "", option: "--systemd-cgroup", shown: "a scope below the slice; an error without systemd", try: func(a *attempt) {
		a.globals = []string{"--systemd-cgroup"}
		a.systemd()
	}},
	{command: "", option: "--cgroup-manager", shown: "systemd, cgroupfs; disabled: the caller's cgroup", try: func(a *attempt) {
		a.globals = []string{"--cgroup-manager=cgroupfs"}
		a.do("create", "c")
		a.want(strings.Contains(a.cgroupOf("c"), a.cgroups), "cgroupfs: %s", a.cgroupOf("c"))
		a.remove()
		a.globals = []string{"--cgroup-manager=disabled"}
		a.do("create", "c")
		own, err := os.ReadFile("/proc/self/cgroup")
		a.check(err)
		a.equal(a.cgroupOf("c"), string(own))
		a.remove()
		a.globals = []string{"--cgroup-manager=systemd"}
		a.systemd()
	}},
}

// systemd creates a container whose cgroup systemd is to make.
func (a *attempt) systemd() {
	a.spec.Linux.CgroupsPath = "system.slice:gosuda:" + filepath.Base(a.cgroups)
	a.writeConfig()
	if exists("/run/systemd/system") {
		a.do("create", "c")
		scope := "/system.slice/gosuda-" + filepath.Base(a.cgroups) + ".scope"
		a.want(strings.Contains(a.cgroupOf("c"), scope), "%s", a.cgroupOf("c"))
		return
	}
	res := a.rig.run("create", "c")
	a.want(res.code != 0 && (strings.Contains(res.err, "systemd") || strings.Contains(res.err, "sd-bus")), "without systemd: %+v", res)
}

// cgroupOf is what the kernel says of a container's first process.
func (a *attempt) cgroupOf(id string) string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(a.pidOf(id)) + "/cgroup")
	a.want(err == nil, "%v", err)
	return string(data)
}

// launchTrials are those of create and run, which have most options in common.
func launchTrials(command string) []trial {
	// launch makes a container that prints what the script does, and returns that.
	launch := func(a *attempt, script string, options ...string) string {
		a.spec.Process.Args = []string{"sh", "-c", "(" + script + ") > /dev/out/text"}
		a.check(os.MkdirAll(a.path("out"), 0o777))
		a.spec.Mounts = append(a.spec.Mounts, specs.Mount{Destination: "/dev/out", Type: "bind", Source: a.path("out"), Options: []string{"bind"}})
		a.writeConfig()
		a.do(append(append([]string{command}, options...), a.id)...)
		if command == "create" {
			a.do("start", a.id)
			a.status(specs.StateStopped)
			a.remove()
		}
		return a.read("out/text")
	}
	// detached makes a container that stays.
	detached := func(a *attempt, options ...string) {
		if command == "run" {
			options = append([]string{"--detach"}, options...)
		}
		a.do(append(append([]string{command}, options...), "c")...)
	}
	list := []trial{
		{option: "", shown: map[string]string{"create": "created, by the first process's pid", "run": "its output, its status, and nothing stays"}[command], try: func(a *attempt) {
			if command == "create" {
				a.do("create", "c")
				a.status(specs.StateCreated)
				a.want(a.pidOf("c") > 0, "no pid")
				return
			}
			a.spec.Process.Args = []string{"sh", "-c", "echo here; exit 7"}
			a.writeConfig()
			res := a.rig.run("run", "c")
			a.want(res.code == 7 && res.out == "here\n" && !exists(filepath.Join(a.root, "c")), "%+v", res)
		}},
		{option: "--bundle", shown: "another directory's config.json", try: func(a *attempt) {
			detached := func(options ...string) {
				cmd := a.command(append([]string{command}, options...)...)
				cmd.Dir = "/"
				a.succeeds(cmd)
			}
			if command == "run" {
				detached("--detach", "--bundle", a.bundle, "c")
			} else {
				detached("--bundle", a.bundle, "c")
			}
		}},
		{option: "--config", shown: "another config.json", try: func(a *attempt) {
			a.check(os.Rename(filepath.Join(a.bundle, "config.json"), a.path("other.json")))
			detached(a, "--config", a.path("other.json"))
		}},
		{option: "--console-socket", shown: "the terminal's master comes", try: func(a *attempt) {
			a.spec.Process.Terminal = true
			a.writeConfig()
			received := a.receive("console")
			detached(a, "--console-socket", a.path("console"))
			_, master := received()
			defer master.Close()
			_, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
			a.want(err == nil, "not a terminal's master: %v", err)
		}},
		{option: "--pidfd-socket", shown: "a pidfd of the first process comes", try: func(a *attempt) {
			received := a.receive("pidfd")
			detached(a, "--pidfd-socket", a.path("pidfd"))
			_, f := received()
			defer f.Close()
			a.want(a.pidOf("c") == pidOfFD(f), "pid %d, pidfd of %d", a.pidOf("c"), pidOfFD(f))
		}},
		{option: "--pid-file", shown: "the pid, when the command returns", try: func(a *attempt) {
			detached(a, "--pid-file", a.path("pid"))
			a.equal(a.read("pid"), strconv.Itoa(a.pidOf("c")))
		}},
		{option: "--no-pivot", shown: "the root file system, without pivot_root", try: func(a *attempt) {
			a.equal(launch(a, "ls -d /bin", "--no-pivot"), "/bin\n")
		}},
		{option: "--no-new-keyring", shown: "no session keyring of its own", try: func(a *attempt) {
			count := func(id string, options ...string) string {
				a.id = id + filepath.Base(a.cgroups) // no other container's
				return launch(a, "grep -c "+a.id+" /proc/keys || :", options...)
			}
			a.equal(count("with-"), "1\n")
			a.equal(count("without-", "--no-new-keyring"), "0\n")
		}},
		{option: "--no-subreaper", shown: "accepted", try: func(a *attempt) { detached(a, "--no-subreaper") }},
		{option: "--preserve-fds", shown: "the next descriptors, and no others", try: func(a *attempt) {
			args := []string{command, "--preserve-fds=1"}
			if command == "run" {
				args = append(args, "--detach")
			}
			a.spec.Process.Args = []string{"sleep", "1000"}
			a.writeConfig()
			cmd := a.command(append(args, "c")...)
			for range 2 {
				f, err := os.Open("/dev/zero")
				a.check(err)
				defer f.Close()
				cmd.ExtraFiles = append(cmd.ExtraFiles, f)
			}
			a.succeeds(cmd)
			if command == "create" {
				a.do("start", "c")
			}
			var fds string
			for range 200 { // until it has executed sleep
				fds = strings.Join(names("/proc/"+strconv.Itoa(a.pidOf("c"))+"/fd"), " ")
				if fds == "0 1 2 3" {
					return
				}
				pause(10)
			}
			a.equal(fds, "0 1 2 3")
		}},
	}
	if command == "run" {
		list = append(list,
			trial{option: "--detach", shown: "it goes on alone", try: func(a *attempt) {
				a.do("run", "--detach", "c")
				a.status(specs.StateRunning)
			}},
			trial{option: "--keep", shown: "it stays, stopped", try: func(a *attempt) {
				a.spec.Process.Args = []string{"true"}
				a.writeConfig()
				a.do("run", "--keep", "c")
				a.status(specs.StateStopped)
			}})
	}
	return of(command, list)
}

// pidOfFD is the process of a pidfd.
func pidOfFD(f *os.File) int {
	info, _ := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(int(f.Fd())))
	_, rest, _ := strings.Cut(string(info), "Pid:\t")
	line, _, _ := strings.Cut(rest, "\n")
	pid, _ := strconv.Atoi(line)
	return pid
}

// names lists a directory.
func names(dir string) (list []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// lifeTrials are commands that know a container by its id, and those without one.
var lifeTrials = []trial{
	{command: "start", shown: "the program runs", try: func(a *attempt) {
		a.start()
		a.status(specs.StateRunning)
	}},
	{command: "state", shown: "JSON with the fields of the runtime-spec and more", try: func(a *attempt) {
		a.do("create", "c")
		var s container
		err := decode(a.do("state", "c"), &s)
		a.want(err == nil && s.ID == "c" && s.Bundle == a.bundle && s.Rootfs != "" && !s.Created.IsZero() && s.Version != "", "%+v, %v", s, err)
	}},
	{command: "kill", shown: "a signal by name, and by number", try: func(a *attempt) {
		a.start()
		a.do("kill", "c", "SIGCONT")
		a.do("kill", "c", "9")
		a.status(specs.StateStopped)
	}},
	{command: "kill", option: "--all", shown: "every process, not the first alone", try: func(a *attempt) {
		a.sharedPIDs()
		a.do("kill", "--all", "c", "TERM")
		a.status(specs.StateStopped)
		for range 60 {
			if a.rig.reap(); a.rig.run("ps", "-f", "json", "c").code != 0 || a.empty() {
				return
			}
			pause(10)
		}
		a.want(false, "a process lives")
	}},
	{command: "kill", option: "--regex", shown: "containers by a pattern", try: func(a *attempt) {
		a.start()
		a.do("kill", "--regex", "[a-d]", "KILL")
		a.status(specs.StateStopped)
	}},
	{command: "delete", shown: "nothing stays of a stopped container", try: func(a *attempt) {
		a.start()
		a.do("kill", "c", "KILL")
		a.status(specs.StateStopped)
		a.do("delete", "c")
		a.equal(a.do("list", "-q"), "")
	}},
	{command: "delete", option: "--force", shown: "a running one; and what does not exist", try: func(a *attempt) {
		a.start()
		a.remove()
		a.do("delete", "--force", "c")
	}},
	{command: "delete", option: "--regex", shown: "containers by a pattern", try: func(a *attempt) {
		a.start()
		a.do("kill", "c", "KILL")
		a.status(specs.StateStopped)
		a.do("delete", "--regex", "[a-d]")
		a.equal(a.do("list", "-q"), "")
	}},
	{command: "list", shown: "a table with id, pid, status, bundle, created, owner", try: func(a *attempt) {
		a.do("create", "c")
		title, row, _ := strings.Cut(a.do("list"), "\n")
		a.want(strings.Join(strings.Fields(title), " ") != "" && strings.HasPrefix(strings.Join(strings.Fields(row), " "),
			"c "+strconv.Itoa(a.pidOf("c"))+" created "+a.bundle), "%s", row)
	}},
	{command: "list", option: "--format", shown: "json", try: func(a *attempt) {
		a.do("create", "c")
		var list []specs.State
		err := decode(a.do("list", "--format", "json"), &list)
		a.want(err == nil && len(list) == 1 && list[0].ID == "c", "%+v, %v", list, err)
	}},
	{command: "list", option: "--quiet", shown: "ids", try: func(a *attempt) {
		a.do("create", "c")
		a.equal(a.do("list", "--quiet"), "c\n")
	}},
	{command: "ps", shown: "lines of ps(1), with options for that", try: func(a *attempt) {
		a.start()
		pid := strconv.Itoa(a.pidOf("c"))
		a.want(strings.Contains(a.do("ps", "c"), pid), "without process %s", pid)
		_, row, _ := strings.Cut(a.do("ps", "c", "-o", "pid,comm"), "\n")
		a.equal(strings.Join(strings.Fields(row), " "), pid+" sleep")
	}},
	{command: "ps", option: "--format", shown: "json: pids", try: func(a *attempt) {
		a.start()
		var pids []int
		err := decode(a.do("ps", "--format", "json", "c"), &pids)
		a.want(err == nil && len(pids) == 1 && pids[0] == a.pidOf("c"), "%v, %v", pids, err)
	}},
	{command: "mounts", shown: "add and remove, from a file", try: func(a *attempt) {
		a.start()
		a.check(os.MkdirAll(a.path("source"), 0o755))
		a.check(os.WriteFile(a.path("source/file"), []byte("here\n"), 0o644))
		a.check(os.WriteFile(a.path("mounts.json"), []byte(`[{"destination": "/tmp", "type": "bind", "source": "`+a.path("source")+`", "options": ["bind", "ro"]}]`), 0o644))
		a.do("mounts", "add", "c", a.path("mounts.json"))
		a.equal(a.do("exec", "c", "cat", "/tmp/file"), "here\n")
		a.want(a.rig.run("exec", "c", "touch", "/tmp/file").code != 0, "the mount is not read-only")
		a.do("mounts", "remove", "c", a.path("mounts.json"))
		a.want(a.rig.run("exec", "c", "cat", "/tmp/file").code != 0, "the mount is still there")
	}},
	{command: "pause", shown: "paused", try: func(a *attempt) {
		a.start()
		a.do("pause", "c")
		a.status("paused")
		a.do("resume", "c")
	}},
	{command: "resume", shown: "running again", try: func(a *attempt) {
		a.start()
		a.do("pause", "c")
		a.do("resume", "c")
		a.status(specs.StateRunning)
	}},
	{command: "events", shown: "figures, again and again", try: func(a *attempt) { a.events("events", "c") }},
	{command: "events", option: "--interval", shown: "how often", try: func(a *attempt) { a.events("events", "--interval=100ms", "c") }},
	{command: "events", option: "--stats", shown: "once", try: func(a *attempt) {
		a.start()
		var e struct{ Type, ID string }
		err := decode(a.do("events", "--stats", "c"), &e)
		a.want(err == nil && e.Type == "stats" && e.ID == "c", "%+v, %v", e, err)
	}},
	{command: "features", shown: "JSON of the runtime-spec's features.md", try: func(a *attempt) {
		var f struct{ OCIVersionMin, OCIVersionMax string }
		err := decode(a.do("features"), &f)
		a.want(err == nil && f.OCIVersionMin != "" && f.OCIVersionMax != "", "%+v, %v", f, err)
	}},
	{command: "spec", shown: "a config.json that runs", try: func(a *attempt) {
		a.check(os.Remove(filepath.Join(a.bundle, "config.json")))
		a.do("spec")
		a.runs(filepath.Join(a.bundle, "config.json"))
	}},
	{command: "spec", option: "--bundle", shown: "in another directory", try: func(a *attempt) {
		a.check(os.Mkdir(a.path("other"), 0o755))
		a.do("spec", "--bundle", a.path("other"))
		a.want(exists(a.path("other/config.json")), "no config.json")
	}},
	{command: "spec", option: "--file", shown: "under another name", try: func(a *attempt) {
		a.do("spec", "--file", a.path("other.json"))
		a.want(exists(a.path("other.json")), "no file")
	}},
	{command: "spec", option: "--rootless", shown: "with a user namespace", try: func(a *attempt) {
		a.check(os.Remove(filepath.Join(a.bundle, "config.json")))
		a.do("spec", "--rootless")
		var s specs.Spec
		a.check(decode(a.read("bundle/config.json"), &s))
		user := func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace }
		a.want(slices.ContainsFunc(s.Linux.Namespaces, user), "no user namespace")
	}},
}

// sharedPIDs starts a container of two processes without a pid namespace, whose first does not take the other with it.
func (a *attempt) sharedPIDs() {
	a.start(func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] })
	a.do("exec", "--detach", "c", "sleep", "2000")
}

// empty tells whether the container's cgroup has no process.
func (a *attempt) empty() bool {
	data, err := os.ReadFile(filepath.Join(cgroupDir(a.t, a.cgroups+"/c", "pids"), "cgroup.procs"))
	return err != nil || len(data) == 0
}

// events reads the first event of a command that goes on.
func (a *attempt) events(args ...string) {
	a.start()
	cmd := a.command(args...)
	out, err := cmd.StdoutPipe()
	a.check(err)
	cmd.Stderr, err = os.Create(a.path("err"))
	a.check(err)
	a.check(cmd.Start())
	alarm := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	line, _ := bufio.NewReader(out).ReadString('\n')
	alarm.Stop()
	cmd.Process.Kill()
	cmd.Wait()
	var e struct{ Type, ID string }
	if err := decode(line, &e); err != nil || e.Type != "stats" || e.ID != "c" {
		panic(disappointment{unknownOption.MatchString(a.read("err")), line + a.read("err")})
	}
}

// runs has a config print something, after the changes that a person makes to it.
func (a *attempt) runs(config string) {
	var s specs.Spec
	data, err := os.ReadFile(config)
	a.check(err)
	a.check(json.Unmarshal(data, &s))
	a.spec = &s
	a.spec.Process.Terminal, a.spec.Process.Args = false, []string{"echo", "hello"}
	a.spec.Linux.CgroupsPath = a.cgroups + "/c"
	a.writeConfig()
	a.equal(a.do("run", "c"), "hello\n")
}
