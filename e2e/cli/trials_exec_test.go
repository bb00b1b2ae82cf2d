package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// sh executes a script in the container with options of exec, and returns its output.
func (a *attempt) sh(script string, options ...string) string {
	return a.do(append(append([]string{"exec"}, options...), "c", "sh", "-c", script)...)
}

// execTrials are those of exec.
var execTrials = []trial{
	{option: "", shown: "its output and its status", try: func(a *attempt) {
		a.start()
		res := a.rig.run("exec", "c", "sh", "-c", "hostname; exit 9")
		a.want(res.code == 9 && res.out == "test\n", "%+v", res)
	}},
	{option: "--additional-gids", shown: "the groups", try: func(a *attempt) {
		a.start()
		a.equal(a.sh("id -G", "--additional-gids", "10", "--additional-gids", "20"), "0 10 20\n")
	}},
	{option: "--apparmor", shown: "the profile; an error where the kernel has no AppArmor", try: func(a *attempt) {
		a.start()
		if exists("/sys/kernel/security/apparmor") {
			a.equal(a.sh("cat /proc/self/attr/apparmor/current", "--apparmor", "unconfined"), "unconfined\n")
			return
		}
		a.refuses("apparmor", "exec", "--apparmor", "some-profile", "c", "true")
	}},
	{option: "--cap", shown: "one capability more", try: func(a *attempt) {
		a.start()
		a.equal(a.sh(`sed -n 's/^CapBnd:.*\(........\)$/\1/p' /proc/self/status`, "--cap", "CAP_CHOWN"), "20000421\n")
	}},
	{option: "--cgroup", shown: "in a cgroup below the container's", try: func(a *attempt) {
		a.start()
		dir := cgroupDir(a.t, a.cgroups+"/c", "pids")
		sub := filepath.Join(dir, "sub")
		a.check(os.Mkdir(sub, 0o755))
		defer os.Remove(sub)
		arg := "sub"
		if strings.Contains(dir, "/pids/") {
			arg = "pids:sub"
		}
		if a.name == "crun" {
			arg = "sub" // of every hierarchy, where it has to be
			for _, parent := range glob("/sys/fs/cgroup/*" + a.cgroups + "/c") {
				sub := filepath.Join(parent, "sub")
				os.Mkdir(sub, 0o755)
				defer os.Remove(sub)
				for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
					if data, err := os.ReadFile(filepath.Join(parent, name)); err == nil {
						os.WriteFile(filepath.Join(sub, name), data, 0)
					}
				}
			}
		}
		out := a.sh("cat /proc/self/cgroup", "--cgroup", arg)
		a.want(strings.Contains(out, "/c/sub\n"), "%s", out)
	}},
	{option: "--console-socket", shown: "the terminal's master comes", try: func(a *attempt) {
		a.start()
		received := a.receive("console")
		a.do("exec", "--tty", "--detach", "--console-socket", a.path("console"), "c", "sleep", "500")
		_, master := received()
		a.t.Cleanup(func() { master.Close() }) // which ends the process: not before it is waited for
		_, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
		a.want(err == nil, "not a terminal's master: %v", err)
	}},
	{option: "--cwd", shown: "the working directory", try: func(a *attempt) {
		a.start()
		a.equal(a.sh("pwd", "--cwd", "/tmp"), "/tmp\n")
	}},
	{option: "--detach", shown: "it goes on alone", try: func(a *attempt) {
		a.start()
		a.do("exec", "--detach", "c", "sleep", "500")
		var pids []int
		err := decode(a.do("ps", "--format", "json", "c"), &pids)
		a.want(err == nil && len(pids) == 2, "%v, %v", pids, err)
	}},
	{option: "--env", shown: "a variable more, and another value", try: func(a *attempt) {
		a.start()
		a.equal(a.sh("echo $TERM $MORE", "--env", "TERM=dumb", "--env", "MORE=too"), "dumb too\n")
	}},
	{option: "--ignore-paused", shown: "waits for resume in a paused container", try: func(a *attempt) {
		a.start()
		a.do("pause", "c")
		cmd := a.command("exec", "--ignore-paused", "c", "echo", "later")
		out, err := os.Create(a.path("later"))
		a.check(err)
		defer out.Close()
		cmd.Stdout = out
		a.check(cmd.Start())
		pause(200)
		text := a.read("later")
		a.do("resume", "c")
		err = cmd.Wait()
		if err != nil {
			panic(disappointment{unknown: a.name == "crun", why: err.Error()})
		}
		a.equal(text, "")
		a.equal(a.read("later"), "later\n")
	}},
	{option: "--no-new-privs", shown: "no_new_privs is set", try: func(a *attempt) {
		a.start(func(s *specs.Spec) { s.Process.NoNewPrivileges = false })
		a.equal(a.sh("grep NoNewPrivs /proc/self/status", "--no-new-privs"), "NoNewPrivs:\t1\n")
	}},
	{option: "--pid-file", shown: "the pid, when exec returns", try: func(a *attempt) {
		a.start()
		a.do("exec", "--detach", "--pid-file", a.path("pid"), "c", "sleep", "500")
		var line []byte
		for range 200 { // until it has executed sleep
			if line, _ = os.ReadFile("/proc/" + a.read("pid") + "/cmdline"); string(line) == "sleep\x00500\x00" {
				return
			}
			pause(10)
		}
		a.want(false, "%q", line)
	}},
	{option: "--pidfd-socket", shown: "a pidfd of the process comes", try: func(a *attempt) {
		a.start()
		received := a.receive("pidfd")
		a.do("exec", "--detach", "--pidfd-socket", a.path("pidfd"), "--pid-file", a.path("pid"), "c", "sleep", "500")
		_, f := received()
		defer f.Close()
		a.equal(strconv.Itoa(pidOfFD(f)), a.read("pid"))
	}},
	{option: "--preserve-fds", shown: "the next descriptors", try: func(a *attempt) {
		a.start()
		f, err := os.Open("/dev/zero")
		a.check(err)
		defer f.Close()
		cmd := a.command("exec", "--preserve-fds=1", "c", "sh", "-c", "head -c 3 <&3 | wc -c")
		cmd.ExtraFiles = []*os.File{f}
		a.equal(a.succeeds(cmd), "3\n")
	}},
	{option: "--process", shown: "the whole process from a file", try: func(a *attempt) {
		a.start()
		p := specs.Process{Args: []string{"sh", "-c", "echo $X; id -u; pwd"}, Env: []string{"X=1", "PATH=/bin"}, Cwd: "/tmp", User: specs.User{UID: 1000, GID: 1000}}
		data, err := json.Marshal(p)
		a.check(err)
		a.check(os.WriteFile(a.path("process.json"), data, 0o600))
		a.equal(a.do("exec", "--process", a.path("process.json"), "c"), "1\n1000\n/tmp\n")
	}},
	{option: "--process-label", shown: "the label; an error where the kernel has no SELinux", try: func(a *attempt) {
		a.start()
		if exists("/sys/fs/selinux/status") {
			a.sh("true", "--process-label", "system_u:system_r:container_t:s0")
			return
		}
		a.refuses("", "exec", "--process-label", "system_u:system_r:container_t:s0", "c", "true")
	}},
	{option: "--tty", shown: "a terminal", try: func(a *attempt) {
		a.start()
		out := openPty(a.t).on(a.t, a.command("exec", "--tty", "c", "tty"), nil)
		a.want(strings.Contains(out, "/dev/pts/"), "%s", out)
	}},
	{option: "--user", shown: "user and group", try: func(a *attempt) {
		a.start()
		a.equal(a.sh("id -u; id -g", "--user", "1000:1001"), "1000\n1001\n")
	}},
}

// refuses is a command that has to fail for a reason.
func (a *attempt) refuses(reason string, args ...string) {
	res := a.rig.run(args...)
	a.want(res.code != 0 && strings.Contains(strings.ToLower(res.err), reason), "%q: %+v", args, res)
}

func glob(pattern string) []string {
	list, _ := filepath.Glob(pattern)
	return list
}
