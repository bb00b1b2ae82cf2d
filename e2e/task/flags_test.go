package task

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// status returns a field of the /proc/self/status text.
func status(t *testing.T, text, field string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if name, value, _ := strings.Cut(line, ":"); name == field {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no %s in\n%s", field, text)
	return ""
}

// capabilities returns a capability set of the /proc/self/status text.
func capabilities(t *testing.T, text, set string) uint64 {
	t.Helper()
	bits, err := strconv.ParseUint(status(t, text, set), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return bits
}

const (
	capChown    = 1 << 0
	capSysAdmin = 1 << 21
)

// cgroupFile reads a file of the cgroup that process pid is in, from outside: v1 is "controller/file", v2 "file".
func cgroupFile(t *testing.T, pid, v1, v2 string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	controller, file := filepath.Split(v1)
	controller = strings.TrimSuffix(controller, "/")
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		path := ""
		switch {
		case f[1] == controller:
			path = filepath.Join("/sys/fs/cgroup", controller, f[2], file)
		case f[1] == "" && !exists("/sys/fs/cgroup/"+controller):
			path = filepath.Join("/sys/fs/cgroup", f[2], v2)
		default:
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(data))
	}
	t.Fatalf("process %s is in no cgroup of %s:\n%s", pid, controller, text)
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestRunPrintsAndExits(t *testing.T) {
	equal(t, "output", output(t, nil, "echo", "hello", "world"), "hello world")
	for _, code := range []int{0, 1, 7, 126, 255} {
		equal(t, fmt.Sprintf("code of exit %d", code), run(t, nil, "sh", "-c", fmt.Sprintf("exit %d", code)).code, code)
	}
	equal(t, "code after SIGKILL", run(t, []string{"--null-io"}, "sh", "-c", "(sleep 0.1; kill -9 -1) & trap '' TERM; wait; exit 3").code, 3)
}

func TestRunSeparatesStderr(t *testing.T) {
	r := run(t, nil, "sh", "-c", "echo out; echo err >&2; exit 4")
	equal(t, "stdout", r.stdout, "out\n")
	equal(t, "stderr", r.stderr, "err\n")
	equal(t, "code", r.code, 4)
}

func TestRunSeccomp(t *testing.T) {
	without := output(t, nil, "cat", "/proc/self/status")
	equal(t, "Seccomp without --seccomp", status(t, without, "Seccomp"), "0")
	with := output(t, []string{"--seccomp"}, "cat", "/proc/self/status")
	equal(t, "Seccomp with --seccomp", status(t, with, "Seccomp"), "2")
	if r := run(t, nil, "unshare", "-U", "true"); r.code != 0 {
		t.Errorf("unshare -U without a profile: %d %s", r.code, r.stderr)
	}
	r := run(t, []string{"--seccomp"}, "unshare", "-U", "true")
	equal(t, "code of unshare -U under the default profile", r.code, 1)
	contains(t, "stderr", r.stderr, "Operation not permitted")
}

func TestRunSeccompProfile(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "profile.json")
	text := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}`
	if err := os.WriteFile(profile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, []string{"--seccomp", "--seccomp-profile", profile}, "mkdir", "/tmp/x")
	contains(t, "stderr of mkdir", r.stderr, "No space left on device")
	equal(t, "code of mkdir", r.code, 1)
}

func TestRunPrivileged(t *testing.T) {
	host, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	in := output(t, []string{"--privileged"}, "cat", "/proc/self/status")
	equal(t, "CapEff", capabilities(t, in, "CapEff"), capabilities(t, string(host), "CapBnd"))
	equal(t, "NoNewPrivs of a plain container", status(t, output(t, nil, "cat", "/proc/self/status"), "NoNewPrivs"), "1")
	out := output(t, []string{"--privileged"}, "sh", "-c", "mount -t tmpfs t /tmp && grep -c ' /tmp tmpfs ' /proc/mounts; test -c /dev/kmsg && echo kmsg; grep ' /sys sysfs' /proc/mounts; : </dev/kmsg && echo opened")
	contains(t, "output", out, "1\n", "kmsg\n", " rw,", "opened")
	r := run(t, nil, "mount", "-t", "tmpfs", "t", "/tmp")
	if r.code == 0 {
		t.Error("a plain container mounted a tmpfs")
	}
}

func TestRunAllowNewPrivs(t *testing.T) {
	equal(t, "NoNewPrivs", status(t, output(t, []string{"--allow-new-privs"}, "cat", "/proc/self/status"), "NoNewPrivs"), "0")
}

func TestRunNetHost(t *testing.T) {
	host, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "network namespace with --net-host", output(t, []string{"--net-host"}, "readlink", "/proc/self/ns/net"), host)
	if output(t, nil, "readlink", "/proc/self/ns/net") == host {
		t.Error("a plain container is in the host's network namespace")
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "/etc/hosts", output(t, []string{"--net-host"}, "cat", "/etc/hosts"), strings.TrimSpace(string(hosts)))
}

func TestRunNamespaces(t *testing.T) {
	links := output(t, nil, "sh", "-c", "for n in pid net ipc uts mnt; do readlink /proc/self/ns/$n; done; echo $$")
	lines := strings.Split(links, "\n")
	for i, n := range []string{"pid", "net", "ipc", "uts", "mnt"} {
		host, err := os.Readlink("/proc/self/ns/" + n)
		if err != nil {
			t.Fatal(err)
		}
		if lines[i] == host {
			t.Errorf("the container shares the host's %s namespace", n)
		}
	}
	equal(t, "pid of init", lines[5], "1")
}

func TestRunReadOnly(t *testing.T) {
	r := run(t, []string{"--read-only"}, "touch", "/x")
	equal(t, "code", r.code, 1)
	contains(t, "stderr", r.stderr, "Read-only file system")
	equal(t, "output", output(t, []string{"--read-only"}, "sh", "-c", "echo ok >/dev/null && touch /run/y && echo ok"), "ok")
}

func TestRunMount(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("inside\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ro := "type=bind,src=" + dir + ",dst=/deep/er/mnt,options=rbind:ro"
	out := output(t, []string{"--mount", ro}, "sh", "-c", "cat /deep/er/mnt/f; touch /deep/er/mnt/g 2>&1; true")
	contains(t, "output", out, "inside\n", "Read-only file system")
	rw := "type=bind,src=" + dir + ",dst=/mnt,options=rbind:rw"
	output(t, []string{"--mount", rw}, "touch", "/mnt/made")
	if !exists(filepath.Join(dir, "made")) {
		t.Error("what the container made in the bind mount is not on the host")
	}
	file := "type=bind,src=" + filepath.Join(dir, "f") + ",dst=/etc/new/file,options=bind:ro"
	equal(t, "a file bound on a new path", output(t, []string{"--mount", file}, "cat", "/etc/new/file"), "inside")
	tmpfs := "type=tmpfs,src=tmpfs,dst=/scratch,options=size=65536:mode=700:noexec:nosuid"
	out = output(t, []string{"--mount", tmpfs}, "sh", "-c", "grep /scratch /proc/mounts; dd if=/dev/zero of=/scratch/x bs=1k count=100 2>&1; true")
	contains(t, "output", out, "noexec", "nosuid", "size=64k", "mode=700", "No space left")
}

func TestRunMemoryLimit(t *testing.T) {
	id := detached(t, shared.daemon, []string{"--memory-limit", "67108864"}, "sleep", "1000")
	pid := pidOf(t, shared.daemon, id)
	equal(t, "limit", cgroupFile(t, pid, "memory/memory.limit_in_bytes", "memory.max"), "67108864")
}

func TestRunOutOfMemory(t *testing.T) {
	events := watchEvents(t, shared.daemon)
	id := newID(t, shared.daemon)
	args := []string{"run", "--rm", "--runtime", *runtimeFlag, "--memory-limit", "33554432", testImage, id}
	r := ctr(t, shared.daemon, append(args, "sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=256M count=1")...)
	equal(t, "code", r.code, 137)
	got := events.until(t, id, "/tasks/delete")
	if strings.Join(got, " ") != "/tasks/create /tasks/start /tasks/oom /tasks/exit /tasks/delete" {
		onRunc(t, "the OOM event of cgroup v1 comes in any order")
		t.Errorf("events: %q", got)
	}
}

func TestRunCPUs(t *testing.T) {
	id := detached(t, shared.daemon, []string{"--cpus", "0.5"}, "sleep", "1000")
	pid := pidOf(t, shared.daemon, id)
	if got := cgroupFile(t, pid, "cpu/cpu.cfs_quota_us", "cpu.max"); got != "50000" && got != "50000 100000" {
		t.Errorf("quota: %s", got)
	}
	id = detached(t, shared.daemon, []string{"--cpu-shares", "512"}, "sleep", "1000")
	pid = pidOf(t, shared.daemon, id)
	// 512 of 1024 shares are, by the conversion of runc 1.3 and later, a weight of 59; by the older linear one, 20.
	if got := cgroupFile(t, pid, "cpu/cpu.shares", "cpu.weight"); got != "512" && got != "59" && got != "20" {
		t.Errorf("shares: %s", got)
	}
}

func TestRunCgroup(t *testing.T) {
	path := "/" + shared.daemon.Namespace + "/of/its-own"
	id := detached(t, shared.daemon, []string{"--cgroup", path}, "sleep", "1000")
	text, err := os.ReadFile("/proc/" + pidOf(t, shared.daemon, id) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if f[1] == "" && exists("/sys/fs/cgroup/memory") {
			continue // the empty unified tree of a hybrid host: runtimes may use it or not
		}
		if f[1] != "" && !exists("/sys/fs/cgroup/"+strings.TrimPrefix(f[1], "name=")) {
			continue // a hierarchy that is not mounted
		}
		equal(t, "cgroup of "+f[1], f[2], path)
	}
	remove(t, shared.daemon, id)
	for _, p := range []string{"/sys/fs/cgroup/memory" + path, "/sys/fs/cgroup" + path, "/sys/fs/cgroup/unified" + path} {
		if exists(p) {
			t.Errorf("left behind: %s", p)
		}
		os.Remove(filepath.Dir(p)) // the parent is ours
	}
	for _, p := range glob(t, "/sys/fs/cgroup/*/"+shared.daemon.Namespace+"/of") {
		os.Remove(p)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestRunUser(t *testing.T) {
	equal(t, "root", output(t, nil, "id"), "uid=0(root) gid=0(root) groups=0(root)")
	contains(t, "--user 1000:1000", output(t, []string{"--user", "1000:1000"}, "id"), "uid=1000(alice) gid=1000(alice)")
	contains(t, "--user alice", output(t, []string{"--user", "alice"}, "id"), "uid=1000(alice) gid=1000(alice)", "10(wheel)")
	contains(t, "--user 4711:4712", output(t, []string{"--user", "4711:4712"}, "id"), "uid=4711 gid=4712")
	text := output(t, []string{"--user", "alice"}, "cat", "/proc/self/status")
	equal(t, "CapEff of a user that is not root", capabilities(t, text, "CapEff"), uint64(0))
	equal(t, "CapPrm of a user that is not root", capabilities(t, text, "CapPrm"), uint64(0))
	equal(t, "standard output opened again", output(t, []string{"--user", "alice"}, "sh", "-c", "cat /proc/self/status >/proc/self/fd/2 && echo ok"), "ok")
}

func TestRunCapabilities(t *testing.T) {
	plain := output(t, nil, "cat", "/proc/self/status")
	const containerdDefault = 0xa80425fb
	for _, set := range []string{"CapPrm", "CapEff", "CapBnd"} {
		equal(t, set, capabilities(t, plain, set), uint64(containerdDefault))
	}
	equal(t, "CapAmb", capabilities(t, plain, "CapAmb"), uint64(0))
	added := output(t, []string{"--cap-add", "CAP_SYS_ADMIN", "--cap-drop", "CAP_CHOWN"}, "cat", "/proc/self/status")
	want := uint64(containerdDefault|capSysAdmin) &^ capChown
	for _, set := range []string{"CapPrm", "CapEff", "CapBnd"} {
		equal(t, set+" with CAP_SYS_ADMIN and without CAP_CHOWN", capabilities(t, added, set), want)
	}
	r := run(t, []string{"--cap-drop", "CAP_CHOWN"}, "chown", "alice", "/tmp")
	equal(t, "code of chown without CAP_CHOWN", r.code, 1)
}

func TestRunRlimitNofile(t *testing.T) {
	equal(t, "limits", output(t, []string{"--rlimit-nofile", "333:444"}, "sh", "-c", "ulimit -Sn; ulimit -Hn"), "333\n444")
}

func TestRunEnvCwdHostname(t *testing.T) {
	out := output(t, []string{"--env", "A=1", "--env", "B=two words", "--cwd", "/home/alice", "--hostname", "box"}, "sh", "-c", "echo $A; echo $B; pwd; hostname")
	equal(t, "output", out, "1\ntwo words\n/home/alice\nbox")
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("FROM_FILE=yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	contains(t, "environment", output(t, []string{"--env-file", file}, "env"), "FROM_FILE=yes")
	equal(t, "a new working directory", output(t, []string{"--cwd", "/not/there/yet"}, "pwd"), "/not/there/yet")
}

func TestRunDevice(t *testing.T) {
	device, number := hostDevice(t)
	r := run(t, nil, "sh", "-c", "mknod /tmp/d c "+strings.ReplaceAll(number, ":", " ")+" && : </tmp/d")
	if r.code == 0 {
		t.Error("a plain container opened a device that it was not given")
	}
	contains(t, "stderr", r.stderr, "Operation not permitted")
	equal(t, "device", output(t, []string{"--device", device}, "sh", "-c", ": <"+device+" && stat -c '%F' "+device), "character special file")
}

// hostDevice returns a character device that anyone may open, and its number as major:minor.
func hostDevice(t *testing.T) (path, number string) {
	t.Helper()
	for _, path := range []string{"/dev/fuse", "/dev/loop-control", "/dev/net/tun", "/dev/hwrng"} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err == nil {
			return path, fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
	}
	t.Skip("this kernel has none of fuse, loop-control, tun and hwrng")
	return "", ""
}

func TestRunDefaultDevices(t *testing.T) {
	out := output(t, nil, "sh", "-c", "for d in null zero full random urandom tty; do test -c /dev/$d && echo $d; done; head -c 3 /dev/zero | wc -c; for l in stdin stdout stderr fd ptmx; do readlink /dev/$l; done; ls -d /dev/pts/ptmx /dev/shm /dev/mqueue")
	equal(t, "devices", out, "null\nzero\nfull\nrandom\nurandom\ntty\n3\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n/proc/self/fd\npts/ptmx\n/dev/mqueue\n/dev/pts/ptmx\n/dev/shm")
}

func TestRunWithNamespaces(t *testing.T) {
	other := detached(t, shared.daemon, []string{"--hostname", "other"}, "sleep", "1000")
	pid := pidOf(t, shared.daemon, other)
	var flags []string
	types := map[string]string{"network": "net", "ipc": "ipc", "uts": "uts", "pid": "pid"}
	for _, kind := range []string{"network", "ipc", "uts", "pid"} {
		flags = append(flags, "--with-ns", kind+":/proc/"+pid+"/ns/"+types[kind])
	}
	out := output(t, flags, "sh", "-c", "for n in net ipc uts pid; do readlink /proc/self/ns/$n; done; hostname; cat /proc/1/cmdline | tr '\\0' ' '")
	var want []string
	for _, n := range []string{"net", "ipc", "uts", "pid"} {
		link, err := os.Readlink("/proc/" + pid + "/ns/" + n)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, link)
	}
	equal(t, "namespaces", out, strings.Join(append(want, "other", "sleep 1000"), "\n"))
}

func TestRunMaskedAndReadonlyPaths(t *testing.T) {
	r := run(t, nil, "sh", "-c", `
for f in /proc/kcore /proc/keys /proc/timer_list /proc/latency_stats; do test -e $f && wc -c <$f; done
for d in /proc/acpi /sys/firmware /proc/scsi; do test -d $d && ls $d; done
for w in /proc/sys/kernel/domainname /proc/sysrq-trigger; do echo x >$w; done; true`)
	for n := range strings.FieldsSeq(r.stdout) {
		equal(t, "size of a masked file", n, "0")
	}
	contains(t, "stderr", r.stderr, "/proc/sys/kernel/domainname: Read-only file system")
	if exists("/proc/sysrq-trigger") {
		contains(t, "stderr", r.stderr, "/proc/sysrq-trigger: Read-only file system")
	}
}

func TestRunPidFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	id := detached(t, shared.daemon, nil, "sleep", "1000")
	other := detached(t, shared.daemon, nil, "sleep", "1000")
	if pidOf(t, shared.daemon, id) == pidOf(t, shared.daemon, other) {
		t.Error("two containers have the same pid")
	}
	output(t, []string{"--pid-file", file}, "true")
	if text, err := os.ReadFile(file); err != nil || string(text) == "0" {
		t.Errorf("pid file: %q, %v", text, err)
	}
}

func TestRunRootfsFlag(t *testing.T) {
	r := ctr(t, shared.daemon, "run", "--rm", "--runtime", *runtimeFlag, "--rootfs", shared.rootfs, newID(t, shared.daemon), "/bin/cat", "/etc/motd")
	equal(t, "output", r.stdout+r.stderr, "hello from a container made by gosuda\n")
}
