package cli

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// running is a rig with a running container c.
func running(t *testing.T, change ...func(*specs.Spec)) *rig {
	t.Helper()
	r := newRig(t, "sleep", "1000")
	for _, f := range change {
		f(r.spec)
	}
	r.writeConfig()
	r.ok("create", "c")
	r.ok("start", "c")
	t.Cleanup(func() { r.ok("delete", "-f", "c") })
	return r
}

// TestExec: every option changes what it says, and nothing else.
func TestExec(t *testing.T) {
	r := running(t, func(s *specs.Spec) {
		s.Process.Env = append(s.Process.Env, "FROM=config")
		s.Process.Capabilities.Inheritable = []string{"CAP_KILL"}
	})
	caps := func(set string) string { return "sed -n 's/^Cap" + set + ":.*\\(........\\)$/\\1/p' /proc/self/status" }
	for _, tc := range []struct {
		options []string
		script  string
		want    string
	}{
		{nil, "echo $FROM $PWD $TERM; id -u; id -G", "config / xterm\n0\n0\n"},
		{[]string{"--cwd", "/tmp"}, "pwd", "/tmp\n"},
		{[]string{"-e", "FROM=option", "--env", "MORE=too"}, "echo $FROM $MORE", "option too\n"},
		{[]string{"-u", "1000"}, "id -u; id -g", "1000\n0\n"},
		{[]string{"--user", "1000:1000", "-g", "10", "-g", "20"}, "id -u; id -G", "1000\n1000 10 20\n"},
		{nil, caps("Eff"), "20000420\n"},
		{[]string{"--cap", "CAP_SYS_TIME", "-c", "CAP_CHOWN"}, caps("Bnd") + ";" + caps("Eff"), "22000421\n22000421\n"},
		{[]string{"--no-new-privs"}, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"},
		{[]string{"--no-new-privs=false"}, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t0\n"},
		{nil, "ls /proc/self/fd | wc -l", "4\n"},
	} {
		args := append(append([]string{"exec"}, tc.options...), "c", "sh", "-c", tc.script)
		if out := r.ok(args...); out != tc.want {
			t.Errorf("%q %q: %q, want %q", tc.options, tc.script, out, tc.want)
		}
	}
	// What follows the command is the command's.
	if out := r.ok("exec", "c", "echo", "-t", "--help", "--", "-d"); out != "-t --help -- -d\n" {
		t.Errorf("%q", out)
	}
}

// TestExecStatus: the process's status is ours, and 255 says that there was none.
func TestExecStatus(t *testing.T) {
	r := running(t)
	if res := r.run("exec", "c", "sh", "-c", "exit 9"); res.code != 9 || res.err != "" {
		t.Errorf("%+v", res)
	}
	if res := r.run("exec", "c", "sh", "-c", "kill -KILL $$"); res.code != 137 {
		t.Errorf("%+v", res)
	}
	for want, args := range map[string][]string{
		"executable file not found in $PATH": {"exec", "c", "nothing"},
		"args cannot be empty":               {"exec", "c"},
		"container does not exist":           {"exec", "other", "true"},
		"is not a number":                    {"exec", "-u", "root", "c", "true"},
		"no such file or directory":          {"exec", "-p", "/no/such/file", "c"},
	} {
		if res := r.fails(want, args...); res.code != 255 {
			t.Errorf("%q: exit code %d", args, res.code)
		}
	}
	r.ok("pause", "c")
	if res := r.fails("cannot exec in a paused container", "exec", "c", "true"); res.code != 255 {
		t.Errorf("exit code %d", res.code)
	}
	r.ok("resume", "c")
	r.ok("kill", "c", "KILL")
	r.stopped("c")
	if res := r.fails("cannot exec in a stopped container", "exec", "c", "true"); res.code != 255 {
		t.Errorf("exit code %d", res.code)
	}
}

// TestExecProcess: the whole process from a file, as containerd's shim and conmon ask for it.
func TestExecProcess(t *testing.T) {
	r := running(t)
	p := specs.Process{Args: []string{"sh", "-c", "echo $X; id -u; pwd"}, Env: []string{"X=1", "PATH=/bin"}, Cwd: "/tmp", User: specs.User{UID: 1000, GID: 1000}}
	data, err := json.Marshal(p)
	r.check(err)
	r.check(os.WriteFile(r.path("process.json"), data, 0o600))
	if out := r.ok("exec", "--process", r.path("process.json"), "c"); out != "1\n1000\n/tmp\n" {
		t.Errorf("%q", out)
	}
	r.check(os.WriteFile(r.path("process.json"), []byte("{"), 0o600))
	r.fails("parse", "exec", "--process", r.path("process.json"), "c")
}

// TestExecDetached: the pid file is there when exec returns, and the process goes on without it.
func TestExecDetached(t *testing.T) {
	r := running(t)
	r.ok("exec", "-d", "--pid-file", r.path("pid"), "c", "sleep", "500")
	pid, err := strconv.Atoi(r.read("pid"))
	r.check(err)
	r.reapAtEnd(pid)
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || string(line) != "sleep\x00500\x00" {
		t.Errorf("process %d: %q, %v", pid, line, err)
	}
	var pids []int
	if err := json.Unmarshal([]byte(r.ok("ps", "--format", "json", "c")), &pids); err != nil || len(pids) != 2 {
		t.Errorf("ps: %v, %v", pids, err)
	}
	out := r.ok("ps", "c", "-o", "pid,args")
	if !strings.Contains(out, strconv.Itoa(pid)+" sleep 500\n") || strings.Count(out, "\n") != 3 {
		t.Errorf("ps: %q", out)
	}
}

// TestExecCreated: an exec runs in a container that was not started; the container is still to start.
func TestExecCreated(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	r.ok("create", "c")
	if out := r.ok("exec", "c", "echo", "hello"); out != "hello\n" {
		t.Errorf("%q", out)
	}
	r.expect("c", specs.StateCreated)
	r.ok("delete", "c")
}

// TestExecCgroup: a process starts in a cgroup below the container's.
func TestExecCgroup(t *testing.T) {
	r := running(t)
	dir := cgroupDir(t, r.cgroups+"/c", "pids")
	r.check(os.Mkdir(dir+"/sub", 0o755))
	arg := "pids:sub"
	if !strings.Contains(dir, "/pids/") {
		arg = "sub"
	}
	out := r.ok("exec", "--cgroup", arg, "c", "cat", "/proc/self/cgroup")
	if !strings.Contains(out, "/c/sub\n") {
		t.Errorf("%q", out)
	}
	r.fails("no/such", "exec", "--cgroup", strings.Replace(arg, "sub", "no/such", 1), "c", "true")
}

// TestExecNoNewShell: a container's seccomp filter holds for execs.
func TestExecSeccomp(t *testing.T) {
	r := running(t, func(s *specs.Spec) {
		errno := uint(77)
		s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64},
			Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: &errno}}}
	})
	if res := r.run("exec", "c", "mkdir", "/tmp/x"); res.code == 0 || !strings.Contains(res.err, "File descriptor in bad state") {
		t.Errorf("%+v", res)
	}
}
