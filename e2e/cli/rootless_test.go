package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// These tests run the command line as an ordinary user, who exists in a mount namespace of the command's own, where they also
// have subordinate ids.
const (
	userID    = 61500
	userName  = "gosuda-test"
	subIDs    = 1 << 20 // first of
	subIDSize = 65536
)

// newUserRig is a rig of the ordinary user, with the config of spec --rootless.
func newUserRig(t *testing.T, args ...string) *rig {
	t.Helper()
	r := newRig(t, args...)
	r.cgroups = "/" + r.cgroups + "-never-made"
	r.check(os.Chmod(filepath.Dir(r.dir), 0o755)) // of all of the test
	r.root, r.ownRoot = r.path("run/gosudacon"), true
	r.env = []string{"XDG_RUNTIME_DIR=" + r.path("run"), "USER=" + userName}
	r.program = r.public(r.program, "gosudacon", 0)
	for _, dir := range []string{"run", "bundle"} {
		r.check(os.MkdirAll(r.path(dir), 0o700))
		r.check(os.Chown(r.path(dir), userID, userID))
	}
	r.wrap = r.asUser()
	r.ok("spec", "--rootless", "--file", "rootless.json")
	data, err := os.ReadFile(filepath.Join(r.bundle, "rootless.json"))
	r.check(err)
	r.spec = new(specs.Spec)
	r.check(json.Unmarshal(data, r.spec))
	r.spec.Process.Terminal, r.spec.Process.Args, r.spec.Root.Path = false, args, "own"
	r.writeConfig()
	r.check(os.Chown(filepath.Join(r.bundle, "config.json"), userID, userID))
	root := filepath.Join(r.bundle, "own")
	r.check(os.Mkdir(root, 0o755))
	r.check(containerdtest.WriteRootfs(root))
	if out, err := exec.Command("chown", "-R", fmt.Sprintf("%d:%[1]d", userID), root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

// public copies a program to where the user can execute it.
func (r *rig) public(program, name string, owner int) string {
	r.t.Helper()
	from, err := os.Open(program)
	r.check(err)
	defer from.Close()
	to, err := os.OpenFile(r.path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	r.check(err)
	_, err = io.Copy(to, from)
	r.check(err)
	r.check(to.Chown(owner, owner))
	r.check(to.Close())
	return to.Name()
}

// withRuncAsUser is withRunc of a user's rig.
func (r *rig) withRuncAsUser() *rig {
	r.t.Helper()
	other := r.withRunc()
	other.program, other.root = r.public(other.program, "runc", 0), r.path("run/runc")
	return other
}

// asUser returns a command line that executes another one as the user, with an /etc that knows them.
func (r *rig) asUser() []string {
	r.t.Helper()
	r.check(os.MkdirAll(r.path("etc"), 0o755))
	passwd, err := os.ReadFile("/etc/passwd")
	r.check(err)
	ids := fmt.Sprintf("%s:%d:%d\n", userName, subIDs, subIDSize)
	for name, text := range map[string]string{"subuid": ids, "subgid": ids,
		"passwd": string(passwd) + fmt.Sprintf("%s:x:%d:%[2]d::/:/bin/sh\n", userName, userID)} {
		r.check(os.WriteFile(r.path("etc/"+name), []byte(text), 0o644))
	}
	const script = `mount -t overlay -o ro,lowerdir="$0":/etc overlay /etc && exec setpriv --reuid="$1" --regid="$1" --clear-groups "${@:2}"`
	return []string{"unshare", "--mount", "--propagation", "private", "bash", "-c", script, r.path("etc"), strconv.Itoa(userID)}
}

// runs waits until a container's program runs: runc's start returns earlier, and its exec finds no container then that is the
// user's.
func (r *rig) runs(id string) {
	r.t.Helper()
	if r.program != r.path("gosudacon") {
		r.eventually("exec in "+id, func() bool { return r.run("exec", id, "true").code == 0 })
	}
}

// TestRootless leads a user's container through its life, each command a process of its own, beside runc.
func TestRootless(t *testing.T) {
	ours := newUserRig(t, "sleep", "1000")
	for _, r := range []*rig{ours, ours.withRuncAsUser()} {
		name := filepath.Base(r.program)
		r.ok("create", "c")
		c := r.expect("c", specs.StateCreated)
		if want := map[string]string{"gosudacon": userName, "runc": "#61500"}[name]; name == "gosudacon" && c.Owner != want {
			t.Errorf("owner %q, want %q", c.Owner, want)
		}
		r.ok("start", "c")
		r.expect("c", specs.StateRunning)
		r.runs("c")
		if list := r.ok("list", "-q"); list != "c\n" {
			t.Errorf("%s: list: %q", name, list)
		}
		maps := "         0      61500          1\n"
		if got := r.ok("exec", "c", "sh", "-c", "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; hostname; cat /proc/1/cmdline"); got !=
			"0\n0\n"+maps+maps+"deny\n"+r.spec.Hostname+"\nsleep\x001000\x00" {
			t.Errorf("%s: exec: %q", name, got)
		}
		if res := r.run("exec", "c", "sh", "-c", "exit 7"); res.code != 7 {
			t.Errorf("%s: exec: %+v", name, res)
		}
		if name == "gosudacon" { // runc wants a terminal of its own first
			if got := r.ok("exec", "--tty", "c", "sh", "-c", "test -t 1 && echo terminal"); got != "terminal\r\n" {
				t.Errorf("%s: exec --tty: %q", name, got)
			}
		}
		r.fails("", "exec", "c", "/nothing")
		r.ok("exec", "--detach", "c", "sleep", "2000")
		if name == "gosudacon" { // runc asks the cgroup, which there is not
			if got := strings.Count(r.ok("ps", "c"), "sleep "); got != 2 {
				t.Errorf("ps shows %d processes", got)
			}
			var pids []int
			r.check(json.Unmarshal([]byte(r.ok("ps", "--format", "json", "c")), &pids))
			if len(pids) != 2 || pids[0] != c.Pid {
				t.Errorf("ps: %v, want %d first", pids, c.Pid)
			}
			for _, args := range [][]string{{"pause", "c"}, {"update", "--memory", "100M", "c"}, {"events", "--stats", "c"}} {
				r.fails("the container has no cgroup of its own", args...)
			}
			r.fails("that is not stopped", "delete", "c")
		}
		if own, _ := os.ReadFile("/proc/self/cgroup"); true {
			if its, err := os.ReadFile("/proc/" + strconv.Itoa(c.Pid) + "/cgroup"); err != nil || string(its) != string(own) {
				t.Errorf("%s: in the cgroups %q, %v; the caller is in %q", name, its, err, own)
			}
		}
		r.ok("kill", "c", "KILL")
		r.stopped("c")
		r.ok("delete", "c")
		r.ok("run", "--detach", "again")
		r.ok("delete", "--force", "again")
	}
}

// TestRootlessSees: what a user's container sees is what it sees of runc.
func TestRootlessSees(t *testing.T) {
	const look = `id; awk '{ for (i = 7; $i != "-"; i++); print $5, $(i+1) }' /proc/self/mountinfo | sort; ls -ln /dev /dev/ | cut -c1-60 | sort; cat /proc/self/cgroup /proc/self/oom_score_adj
grep -E 'Cap|NoNewPrivs|Seccomp:|Groups|Umask' /proc/self/status; ulimit -n; env | sort; cat /proc/keys | wc -c; ls /sys/firmware /proc/acpi /mnt
for f in /sys/fs/cgroup /proc/sys /root /mnt /sys; do touch $f/new && rm $f/new && echo $f can be written to; done; cat /proc/sys/net/ipv4/ip_forward; hostname; cat /proc/self/timens_offsets`
	ours := newUserRig(t, "sh", "-c", look+" 2>&1")
	runc := ours.withRuncAsUser()
	for _, tc := range []struct {
		name   string
		change func(*specs.Spec)
	}{
		{"as spec writes it", func(*specs.Spec) {}},
		{"own network", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
		}},
		{"own cgroup namespace", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
		}},
		{"binds and devices", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/mnt", Source: ours.path("run"), Type: "bind", Options: []string{"rbind", "ro"}},
				specs.Mount{Destination: "/root/config.json", Source: filepath.Join(ours.bundle, "config.json"), Options: []string{"rbind"}})
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: 11}}
		}},
		{"clocks ahead", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1e9, Nanosecs: 5}, "monotonic": {Secs: -1}}
		}},
		{"a read-only root", func(s *specs.Spec) { s.Root.Readonly = true }},
		{"a higher oom score", func(s *specs.Spec) { s.Process.OOMScoreAdj = new(500) }},
		{"createContainer hooks", func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "mount -t tmpfs tmpfs $PWD/mnt && touch $PWD/mnt/hook"}, Env: []string{"PATH=/bin:/usr/bin"}}},
				CreateRuntime: []specs.Hook{{Path: "/bin/true"}}, Poststart: []specs.Hook{{Path: "/bin/true"}}, Poststop: []specs.Hook{{Path: "/bin/true"}}}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fresh := ours.spec
			defer func() { ours.spec = fresh }()
			data, err := json.Marshal(fresh)
			ours.check(err)
			ours.spec = new(specs.Spec)
			ours.check(json.Unmarshal(data, ours.spec))
			ours.spec.Root.Readonly = false
			tc.change(ours.spec)
			ours.writeConfig()
			a, b := ours.ok("run", "c"), runc.ok("run", "c")
			for name, diff := range map[string][]string{"gosudacon": onlyIn(a, b), "runc": onlyIn(b, a)} {
				for _, line := range diff {
					if name == "runc" && line == "/sys/fs/cgroup can be written to\n" {
						continue // spec says that this mount is read-only: it forgets its tmpfs
					}
					t.Errorf("only with %s: %s", name, line)
				}
			}
		})
	}
}

// TestRootlessBeforeStart: a user's container is entered by execs and startContainer hooks before its process runs, as with runc, and
// as they enter it later.
func TestRootlessBeforeStart(t *testing.T) {
	const look = `id; env | sort; cat /proc/self/uid_map /proc/self/gid_map; grep -E 'Cap|NoNewPrivs|Seccomp:|Groups|Umask' /proc/self/status; ulimit -n; hostname; pwd
ls / /dev; cut -d ' ' -f 5 /proc/self/mountinfo; cat /proc/self/cgroup /proc/self/oom_score_adj; wc -c < /proc/keys`
	ours := newUserRig(t, "sh", "-c", "echo process >> /tmp/log; exec sleep 1000")
	ours.spec.Mounts = append(ours.spec.Mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"})
	ours.spec.Linux.Namespaces = append(ours.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace}, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	hook := func(text string, env ...string) specs.Hook {
		return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", text}, Env: env}
	}
	ours.spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{
		hook(`{ cat; echo; `+look+`; } > /tmp/hook 2>&1; echo one >> /tmp/log`, "A=b", "PATH=/bin"), hook("env | sort > /tmp/env; echo two >> /tmp/log")}}
	runc := ours.withRuncAsUser()
	users := []specs.LinuxIDMapping{{ContainerID: 0, HostID: userID, Size: 1}, {ContainerID: 1, HostID: subIDs, Size: subIDSize}}
	for _, tc := range []struct {
		name    string
		maps    []specs.LinuxIDMapping
		process specs.User
		beside  []*rig
		enters  string // whose exec comes in before the start, too
	}{
		{"the user", users[:1], specs.User{}, []*rig{ours, runc}, "gosudacon runc"},
		{"another user", users, specs.User{UID: 1000, GID: 100}, []*rig{ours, runc}, "gosudacon"},
		{"another root", []specs.LinuxIDMapping{{HostID: subIDs, Size: 10}}, specs.User{}, []*rig{ours}, "gosudacon"}, // runc's FIFO cannot be theirs
	} {
		t.Run(tc.name, func(t *testing.T) {
			ours.spec.Linux.UIDMappings, ours.spec.Linux.GIDMappings, ours.spec.Process.User = tc.maps, tc.maps, tc.process
			ours.writeConfig()
			ours.check(os.Chmod(ours.bundle, 0o755))
			var said [][]string
			for _, shared := range tc.beside {
				r := *shared
				r.t = t
				name := filepath.Base(r.program)
				r.ok("create", "c")
				before := ""
				if strings.Contains(tc.enters, name) {
					before = r.ok("exec", "c", "sh", "-c", look)
					if got := r.ok("exec", "--user", "0:0", "--cwd", "/tmp", "--env", "C=d", "c", "sh", "-c", "pwd; echo $C; id -u; touch exec"); got != "/tmp\nd\n0\n" {
						t.Errorf("%s: exec before the start: %q", name, got)
					}
				} else {
					r.fails("ermission denied", "exec", "c", "true")
				}
				r.expect("c", specs.StateCreated)
				r.ok("start", "c")
				r.runs("c")
				r.eventually("the process", func() bool { return strings.Contains(r.ok("exec", "c", "cat", "/tmp/log"), "process") })
				after := r.ok("exec", "c", "sh", "-c", look)
				if before != "" && before != after {
					t.Errorf("%s: an exec sees %q before the start and %q after", name, onlyIn(before, after), onlyIn(after, before))
				}
				out := []string{after}
				for _, file := range []string{"log", "hook", "env"} {
					out = append(out, r.ok("exec", "c", "cat", "/tmp/"+file))
				}
				r.ok("delete", "--force", "c")
				if want := "one\ntwo\nprocess\n"; out[1] != want {
					t.Errorf("%s: the log: %q, want %q", name, out[1], want)
				}
				said = append(said, out)
			}
			for i := range said[0] {
				for _, line := range onlyIn(said[0][i], said[len(said)-1][i]) {
					t.Errorf("%d: only with gosudacon: %s", i, line)
				}
				for _, line := range onlyIn(said[len(said)-1][i], said[0][i]) {
					t.Errorf("%d: only with runc: %s", i, line)
				}
			}
		})
	}
	t.Run("fails", func(t *testing.T) {
		ours := *ours
		ours.t = t
		for want, h := range map[string]specs.Hook{"exit status 3: why": hook("echo why; exit 3"), "timed out after 1 s": {Path: "/bin/sleep", Args: []string{"sleep", "1000"}, Timeout: new(1)}} {
			ours.spec.Hooks.StartContainer = []specs.Hook{h}
			ours.writeConfig()
			ours.ok("create", "c")
			ours.fails(want, "start", "c") // runc's start knows nothing of it
			ours.stopped("c")
			ours.ok("delete", "c")
			ours.fails(want, "run", "c")
			ours.fails("", "state", "c")
		}
	})
}

// TestRootlessPodBeforeStart: so is a container that joins the namespaces of another one of the user.
func TestRootlessPodBeforeStart(t *testing.T) {
	r := newUserRig(t, "sleep", "1000")
	r.spec.Linux.Namespaces = append(r.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
	r.writeConfig()
	r.ok("run", "--detach", "pause")
	pid := strconv.Itoa(r.state("pause").Pid)
	for i, n := range r.spec.Linux.Namespaces {
		if n.Type != specs.MountNamespace {
			r.spec.Linux.Namespaces[i].Path = "/proc/" + pid + "/ns/" + strings.Replace(string(n.Type), "network", "net", 1)
		}
	}
	r.spec.Linux.UIDMappings, r.spec.Linux.GIDMappings, r.spec.Hostname = nil, nil, ""
	r.spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "readlink /proc/self/ns/net /proc/self/ns/pid > /tmp/hook; cat /proc/1/comm >> /tmp/hook"}}}}
	r.spec.Mounts = append(r.spec.Mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"})
	r.writeConfig()
	const look = `for n in user pid net uts ipc; do readlink /proc/self/ns/$n; done; cat /proc/1/comm`
	r.ok("create", "c")
	before := r.ok("exec", "c", "sh", "-c", look)
	if pods := r.ok("exec", "pause", "sh", "-c", look); before != pods || !strings.HasSuffix(before, "]\nsleep\n") {
		t.Errorf("before the start: %q; the pod has %q", before, pods)
	}
	its := pidInside(t, r.state("c").Pid)
	for _, file := range []string{"exe", "root", "cwd"} {
		if res := r.run("exec", "pause", "readlink", "/proc/"+its+"/"+file); res.code == 0 {
			t.Errorf("the pod sees the waiting init's %s: %+v", file, res)
		}
	}
	r.ok("start", "c")
	if res := r.run("exec", "pause", "readlink", "/proc/"+its+"/exe"); res.out != "/bin/busybox\n" {
		t.Errorf("the pod does not see a process of its own: %+v", res)
	}
	r.ok("delete", "--force", "c")
	r.reap() // the pod's first process does not
	r.ok("delete", "--force", "pause")
}

// pidInside returns a process's pid in the innermost pid namespace that it is in.
func pidInside(t *testing.T, pid int) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			list := strings.Fields(ids)
			return list[len(list)-1]
		}
	}
	t.Fatalf("no NSpid of %d", pid)
	return ""
}

// onlyIn returns the lines of a text that another one does not have as often.
func onlyIn(a, b string) (rest []string) {
	have := map[string]int{}
	for line := range strings.Lines(b) {
		have[line]++
	}
	for line := range strings.Lines(a) {
		if have[line]--; have[line] < 0 {
			rest = append(rest, line)
		}
	}
	return rest
}

// TestRootlessRefused: what an ordinary user cannot have is refused, as by runc, and nothing is left of it.
func TestRootlessRefused(t *testing.T) {
	ours := newUserRig(t, "true")
	runc := ours.withRuncAsUser()
	limit := int64(100 << 20)
	for _, tc := range []struct {
		want   string
		change func(*specs.Spec)
		ours   bool // runc takes it
	}{
		{"linux.namespaces: the runtime runs as the ordinary user 61500, whose containers need a user namespace", func(s *specs.Spec) {
			s.Linux.Namespaces = s.Linux.Namespaces[:len(s.Linux.Namespaces)-1]
			s.Linux.UIDMappings, s.Linux.GIDMappings = nil, nil
		}, false},
		{"linux.resources.memory.limit: make a cgroup in /sys/fs/cgroup", func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
		}, false},
		{"permission denied", func(s *specs.Spec) { s.Linux.CgroupsPath = "/x/y" }, false},
		{"process.oomScoreAdj: set oom_score_adj to -500: permission denied", func(s *specs.Spec) { s.Process.OOMScoreAdj = new(-500) }, false},
		{"process.rlimits: ", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1 << 30, Soft: 1 << 30}}
		}, false},
		{"process.user.uid: 5 is not in linux.uidMappings", func(s *specs.Spec) { s.Process.User.UID = 5 }, false},
		{"process.user.additionalGids: ", func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{0} }, false},
		{"mounts[2].options: gid=5 is not in linux.gidMappings", func(s *specs.Spec) { s.Mounts[2].Options = append(s.Mounts[2].Options, "gid=5") }, false},
		{"/dev/none: no such file or directory", func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/none", Type: "c", Major: 10, Minor: 1}}
		}, false},
		{"no such device", func(s *specs.Spec) { // not what the host has there
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 5}}
		}, true},
		{"newuidmap: uid range [0-1) -> [0-1) not allowed", func(s *specs.Spec) { s.Linux.UIDMappings[0].HostID = 0 }, false},
		{"newgidmap: gid range [1-11) -> [5-15) not allowed", func(s *specs.Spec) {
			s.Linux.GIDMappings = append(s.Linux.GIDMappings, specs.LinuxIDMapping{ContainerID: 1, HostID: 5, Size: 10})
		}, false},
		{"mounts[7]: an id-mapped mount ", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/mnt", Source: "/", Type: "bind", Options: []string{"bind", "idmap"},
				UIDMappings: s.Linux.UIDMappings, GIDMappings: s.Linux.GIDMappings})
		}, false},
		{"linux.cgroupsPath", func(s *specs.Spec) { s.Linux.CgroupsPath = "a.slice:b:c" }, true},
	} {
		data, err := json.Marshal(ours.spec)
		ours.check(err)
		spec := new(specs.Spec)
		ours.check(json.Unmarshal(data, spec))
		fresh := ours.spec
		ours.spec = spec
		tc.change(spec)
		ours.writeConfig()
		ours.spec = fresh
		ours.fails(tc.want, "run", "c")
		if !tc.ours {
			runc.fails("", "run", "c")
		}
	}
	ours.writeConfig()
	ours.globals = []string{"--rootless", "false"}
	ours.fails("permission denied", "run", "c") // to make a cgroup
	ours.globals = []string{"--cgroup-manager", "systemd"}
	ours.fails("linux.cgroupsPath", "run", "c")
	ours.globals = []string{"--rootless", "maybe"}
	ours.fails("is none of true, false and auto", "run", "c")
	ours.globals = []string{"--rootless", "true"}
	ours.ok("run", "c")
}

// TestRootlessSubIDs: a user's subordinate ids are mapped by newuidmap and newgidmap, whose refusal, or absence, is told.
func TestRootlessSubIDs(t *testing.T) {
	r := newUserRig(t, "sh", "-c", "id -u; id -G; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; touch /tmp/mine && stat -c '%u %g' /tmp/mine")
	maps := []specs.LinuxIDMapping{{ContainerID: 0, HostID: userID, Size: 1}, {ContainerID: 1, HostID: subIDs, Size: subIDSize}}
	r.spec.Linux.UIDMappings, r.spec.Linux.GIDMappings = maps, maps
	r.spec.Process.User = specs.User{UID: 1000, GID: 100, AdditionalGids: []uint32{5, 7}}
	r.spec.Mounts[2].Options = append(r.spec.Mounts[2].Options, "gid=5")
	r.spec.Mounts = append(r.spec.Mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"})
	r.writeConfig()
	const table = "         0      61500          1\n         1    1048576      65536\n"
	want := "1000\n100 5 7\n" + table + table + "allow\n1000 100\n"
	if got := r.ok("run", "c"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	runc := r.withRuncAsUser()
	runc.fails("cannot set any additional groups", "run", "c") // crun and the kernel allow it
	r.spec.Process.User.AdditionalGids = nil
	r.spec.Process.Args = []string{"sleep", "1000"}
	r.writeConfig()
	for _, r := range []*rig{r, runc} {
		r.ok("run", "--detach", "c")
		r.runs("c")
		if got := r.ok("exec", "--user", "65536:3", "c", "id"); !strings.HasPrefix(got, "uid=65536 gid=3") {
			t.Errorf("%s: exec: %q", r.program, got)
		}
		if r == runc {
			r.ok("delete", "--force", "c")
			continue // it wants a terminal of its own first
		}
		if got := r.ok("exec", "--tty", "--user", "7:7", "c", "sh", "-c", "id -u; stat -c %u /dev/pts/0"); got != "7\r\n7\r\n" {
			t.Errorf("%s: exec --tty: %q", r.program, got)
		}
		r.ok("delete", "--force", "c")
	}
	// A container whose root is not the user: who may not even enter the user's directories.
	r.spec.Linux.UIDMappings, r.spec.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: subIDs, Size: 10}}, []specs.LinuxIDMapping{{HostID: subIDs, Size: 10}}
	r.spec.Process.Args, r.spec.Process.User = []string{"cat", "/proc/self/uid_map"}, specs.User{}
	r.writeConfig()
	r.check(os.Chmod(r.bundle, 0o700))
	r.fails("root of the container's user namespace may not enter a directory above it", "run", "c")
	r.check(os.Chmod(r.bundle, 0o755))
	if got := r.ok("run", "c"); got != "         0    1048576         10\n" {
		t.Errorf("%q", got)
	}
	r.env = append(r.env, "PATH="+r.path("no")) // the last one counts
	r.wrap = append([]string{"env", "PATH=" + os.Getenv("PATH")}, append(r.wrap, "env", "PATH="+r.path("no"))...)
	r.fails(`linux.uidMappings: map ids: uid 0:1048576:10 gid 0:1048576:10 by newuidmap and newgidmap: other ids than the user's own are mapped by the program newuidmap, of Debian's package uidmap`, "run", "c")
}

// TestRootlessStateRoot: a user's containers are recorded below $XDG_RUNTIME_DIR, in a directory of the user's own.
func TestRootlessStateRoot(t *testing.T) {
	r := newUserRig(t, "true")
	r.ok("list")
	st, err := os.Stat(r.root)
	r.check(err)
	if st.Mode() != os.ModeDir|os.ModeSticky|0o700 || st.Sys().(*syscall.Stat_t).Uid != userID {
		t.Errorf("%s: mode %v, owner %d", r.root, st.Mode(), st.Sys().(*syscall.Stat_t).Uid)
	}
	r.check(os.Chown(r.root, 0, 0))
	r.fails("it belongs to user 0", "list")
	r.check(os.Chown(r.root, userID, userID))
	r.check(os.Chmod(r.root, 0o770))
	r.fails("others may write to it", "list")
	r.check(os.Remove(r.root))
	r.check(os.Symlink(r.path("bundle"), r.root))
	r.fails("not a directory", "list")
	r.check(os.Remove(r.root))
	r.check(os.Chown(r.path("run"), 0, 0))
	r.fails("make the state root below $XDG_RUNTIME_DIR, which must be the user's own", "list")
	r.env = nil
	r.fails("$XDG_RUNTIME_DIR, which is not set", "run", "c")
	r.ownRoot, r.root = false, r.path("bundle/state")
	r.ok("run", "c")
}

// TestRootlessStranger: a user's container is nobody else's to look into, and root's is not the user's.
func TestRootlessStranger(t *testing.T) {
	r := newUserRig(t, "sleep", "1000")
	r.ok("run", "--detach", "c")
	other := *r
	other.wrap, other.ownRoot = append([]string(nil), r.wrap...), false
	other.wrap[len(other.wrap)-1] = strconv.Itoa(userID + 1)
	other.bundle = "/"
	for _, args := range [][]string{{"state", "c"}, {"exec", "c", "true"}, {"kill", "c", "KILL"}, {"delete", "--force", "c"}} {
		other.fails("permission denied", args...)
	}
	r.expect("c", specs.StateRunning)
	r.ok("delete", "--force", "c")
}

// TestRootlessSealed: a program that its user could overwrite is not what waits in a user's container (CVE-2019-5736).
func TestRootlessSealed(t *testing.T) {
	r := newUserRig(t, "sleep", "1000")
	for owner, want := range map[int]string{0: r.program, userID: "/memfd:gosudacon-sealed (deleted)"} {
		r.check(os.Chown(r.program, owner, owner))
		r.ok("create", "c")
		got, err := os.Readlink("/proc/" + strconv.Itoa(r.state("c").Pid) + "/exe")
		if err != nil || got != want {
			t.Errorf("a program of user %d: %s, %v; want %s", owner, got, err, want)
		}
		if res := r.run("exec", "c", "cat", "/proc/1/exe"); res.code == 0 || !strings.Contains(res.err, "Permission denied") {
			t.Errorf("a program of user %d, seen from the container before its start: %+v", owner, res)
		}
		r.ok("delete", "--force", "c")
	}
}

// insideScript leads a container through its life. In a pid namespace of its own it cannot be done by several commands.
const insideScript = `
set -e
R() { "$RUNTIME" --root "$STATE" "$@" </dev/null; }
R create c
test "$(R state c | grep -o created | head -n 1)" = created
R exec c true
R start c
R exec c sh -c 'id -u; stat -c "%t:%T" /dev/null; touch /sys/x 2>&1'  || true
R exec --tty c sh -c 'test -t 0 && echo terminal'
R ps c | grep -c sleep
R kill c KILL
while R state c | grep -q running; do sleep 0.01; done
R delete c
R list -q
`

// TestInsideUserNamespace: root of a user namespace that somebody else has made, with whatever other namespaces, makes containers with
// and without a user namespace of their own.
func TestInsideUserNamespace(t *testing.T) {
	r := newUserRig(t, "sleep", "1000")
	user := r.spec.Linux.Namespaces[len(r.spec.Linux.Namespaces)-1]
	for _, flags := range []string{"--map-root-user --mount --fork --pid --mount-proc --ipc --uts --net --cgroup", "--map-root-user --mount --fork --pid --mount-proc",
		"--map-root-user --mount", "--map-root-user --net", "--map-root-user",
		"--map-root-user --map-auto --mount"} {
		for _, nested := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, nested %t", flags, nested), func(t *testing.T) {
				r.spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
					{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}}
				r.spec.Linux.UIDMappings, r.spec.Linux.GIDMappings = nil, nil
				if nested {
					r.spec.Linux.Namespaces = append(r.spec.Linux.Namespaces, user)
					r.spec.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}}
					r.spec.Linux.GIDMappings = r.spec.Linux.UIDMappings
				}
				r.writeConfig()
				args := append(append([]string(nil), r.wrap[1:]...), "unshare")
				args = append(args, strings.Fields(flags)...)
				cmd := exec.Command(r.wrap[0], append(args, "bash", "-c", insideScript)...)
				cmd.Dir, cmd.Env = r.bundle, append([]string{"PATH=" + os.Getenv("PATH"), "RUNTIME=" + r.program, "STATE=" + r.path("run/state")}, r.env...)
				const want = "0\n1:3\ntouch: /sys/x: Read-only file system\nterminal\r\n1\n"
				if res := r.finish(cmd); res.code != 0 || res.out != want {
					t.Errorf("%d %q %s, want %q", res.code, res.out, res.err, want)
				}
				r.reap()
			})
		}
	}
	// Without a /proc of its own pid namespace nothing could be done to the right process.
	cmd := exec.Command(r.wrap[0], append(append([]string(nil), r.wrap[1:]...), "unshare", "--map-root-user", "--fork", "--pid", r.program, "run", "c")...)
	cmd.Dir, cmd.Env = r.bundle, append([]string{"PATH=" + os.Getenv("PATH")}, r.env...)
	if res := r.finish(cmd); res.code == 0 || !strings.Contains(res.err, "/proc is that of another pid namespace") {
		t.Errorf("%+v", res)
	}
}

// TestCgroupDisabled: no cgroup is made, the container stays in its caller's, and what takes a cgroup is ignored or refused, as by crun.
func TestCgroupDisabled(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	if got := r.ok("explain"); !strings.Contains(got, "enter the cgroup") {
		t.Errorf("explain has no cgroup: %s", got)
	}
	r.globals = []string{"--cgroup-manager", "disabled"}
	if got := r.ok("explain"); strings.Contains(got, "enter the cgroup") || !strings.Contains(got, "stay in the caller's cgroup") {
		t.Errorf("explain of a container without a cgroup: %s", got)
	}
	r.ok("run", "--detach", "c")
	c := r.expect("c", specs.StateRunning)
	own, err := os.ReadFile("/proc/self/cgroup")
	r.check(err)
	if its, err := os.ReadFile("/proc/" + strconv.Itoa(c.Pid) + "/cgroup"); err != nil || string(its) != string(own) {
		t.Errorf("in the cgroups %q, %v; the caller is in %q", its, err, own)
	}
	r.ok("exec", "--detach", "c", "sleep", "2000")
	if got := strings.Count(r.ok("ps", "c"), "sleep "); got != 2 {
		t.Errorf("ps shows %d processes", got)
	}
	for _, args := range [][]string{{"pause", "c"}, {"update", "--memory", "100M", "c"}, {"events", "--stats", "c"}} {
		r.fails("the container has no cgroup of its own", args...)
	}
	r.ok("kill", "c", "KILL")
	r.stopped("c")
	r.ok("delete", "c")

	// Processes of a shared pid namespace end with init, too, as far as they descend from it.
	r.spec.Linux.Namespaces = r.spec.Linux.Namespaces[1:]
	r.spec.Process.Args = []string{"sh", "-c", "sleep 3000 & sleep 1000; true"}
	r.writeConfig()
	r.ok("run", "--detach", "c")
	var pids []int
	r.eventually("three processes", func() bool {
		r.check(json.Unmarshal([]byte(r.ok("ps", "--format", "json", "c")), &pids))
		return len(pids) == 3
	})
	r.ok("kill", "c", "KILL")
	r.eventually("their end", func() bool {
		r.reap()
		for _, pid := range pids {
			if unix.Kill(pid, 0) == nil {
				return false
			}
		}
		return true
	})
	r.ok("delete", "c")

	// Limits mean nothing, which is told.
	limit, allow := int64(100<<20), specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: "r"}
	r.spec.Process.Args = []string{"true"}
	r.spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}, Pids: &specs.LinuxPids{Limit: &limit},
		Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}, allow}}
	r.writeConfig()
	r.globals = append(r.globals, "--debug")
	res := r.run("run", "c")
	for _, want := range []string{"memory.limit", "pids.limit", "devices[1]"} {
		if res.code != 0 || !strings.Contains(res.err, "linux.resources."+want+": ignored, cgroups are disabled") {
			t.Errorf("%d %s, want a warning about %s", res.code, res.err, want)
		}
	}
}
