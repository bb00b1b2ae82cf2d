package podman

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gosuda/gosudacon/e2e/client"
)

// limits prints control files, by their names of cgroup v1 and v2, of which a container sees one.
const limits = `cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max cpu/cpu.cfs_quota_us cpu.max pids/pids.max pids.max 2>/dev/null | tr "\n" " "`

// TestRun runs a container with a few flags and looks from inside at what they do.
func TestRun(t *testing.T) {
	for _, c := range []struct {
		name   string
		flags  string
		script string
		want   []string // each is the output, or the output of another kind of machine
	}{
		{"environment", "--env A=b --hostname h --workdir /home/alice", "echo $A $(hostname) $HOSTNAME $(pwd)", []string{"b h h /home/alice"}},
		{"container", "", "echo $container; test -e /run/.containerenv && echo there", []string{"podman\nthere", "oci\nthere"}},
		{"user", "--user alice --umask 077", "id -u; id -g; umask", []string{"1000\n1000\n0077"}},
		{"groups", "--user 5:6 --group-add 7", "id -u; id -G", []string{"5\n6 7"}},
		{"tmpfs", "--tmpfs /t:size=4m,mode=1770", "grep ' /t ' /proc/mounts; stat -c %a /t", []string{
			"tmpfs /t tmpfs rw,nosuid,nodev,relatime,size=4096k,mode=1770 0 0\n1770"}},
		{"limits", "--memory 64m --cpus 0.5 --pids-limit 30", limits, []string{"67108864 50000 30", "67108864 50000 100000 30"}},
		{"ulimit", "--ulimit nofile=100:200 --ulimit nproc=100 --ulimit core=0", "ulimit -n; ulimit -Hn; ulimit -c", []string{"100\n200\n0"}},
		{"capabilities", "--cap-drop ALL --cap-add NET_ADMIN --cap-add KILL", "grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status", []string{
			"CapPrm:\t0000000000001020\nCapEff:\t0000000000001020\nCapBnd:\t0000000000001020"}},
		{"ambient capabilities", "--user alice --cap-add NET_ADMIN", "grep -E 'Cap(Eff|Amb)' /proc/self/status", []string{
			"CapEff:\t0000000000001000\nCapAmb:\t0000000000001000"}},
		{"seccomp", "", "grep Seccomp: /proc/self/status", []string{"Seccomp:\t2"}},
		{"no seccomp", "--security-opt seccomp=unconfined", "grep Seccomp: /proc/self/status", []string{"Seccomp:\t0"}},
		{"no new privileges", "--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status", []string{"NoNewPrivs:\t1"}},
		{"masked", "", "cat /proc/keys /proc/timer_list; ls /sys/firmware; echo 1 >/proc/sys/kernel/panic || echo read only", []string{"read only"}},
		{"masked by hand", "--security-opt mask=/etc/motd:/home", "cat /etc/motd; ls /home; echo done", []string{"done"}},
		{"unmasked", "--security-opt unmask=ALL", "grep -cE ' /proc/(keys|kcore|sys) ' /proc/mounts", []string{"0"}},
		{"privileged", "--privileged", "grep Seccomp: /proc/self/status; test -c /dev/kmsg && echo devices; mount -t tmpfs x /tmp && echo mounts",
			[]string{"Seccomp:\t0\ndevices\nmounts"}},
		{"read only", "--read-only --tmpfs /etc/t", "touch /x || echo refused; touch /etc/t/x && echo made; touch /tmp/x && echo made", []string{"refused\nmade\nmade"}},
		{"init", "--init", "cat /proc/1/comm; (sleep 0.1 &); sleep 0.3; ps -o stat | grep -c Z", []string{"catatonit\n0", "podman-init\n0"}},
		{"pid host", "--pid host", "test -d /proc/" + hostPid() + " && echo sees us", []string{"sees us"}},
		{"private cgroups", "--cgroupns private", "cut -d: -f3 /proc/self/cgroup | sort -u", []string{"/"}},
		{"no cgroups", "--cgroups disabled", "grep -c libpod /proc/self/cgroup", []string{"0"}},
		{"devices", "", "ls /dev | tr '\n' ' '; echo x >/dev/null && head -c 3 /dev/zero | wc -c; mknod /n b 254 0 && cat /n 2>/dev/null || echo refused", []string{
			"fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero 3\nrefused",
			"core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero 3\nrefused"}},
		{"device", "--device /dev/fuse:/dev/f:r", "ls -l /dev/f | cut -c1; (: </dev/f) && echo read; (: >/dev/f) 2>/dev/null || echo no write", []string{"c\nread\nno write"}},
		{"shm", "--shm-size 3m", "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2", []string{"3072"}},
		{"sysctl", "--sysctl kernel.shmmax=65536 --sysctl net.ipv4.ip_unprivileged_port_start=81",
			"cat /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_unprivileged_port_start", []string{"65536\n81"}},
		{"host namespaces", "--network host --ipc host --uts host", "for n in net ipc uts; do readlink /proc/self/ns/$n; done",
			[]string{namespaceOf("net") + "\n" + namespaceOf("ipc") + "\n" + namespaceOf("uts")}},
		{"network of the host's", "--network host", "grep -c . /proc/net/dev", []string{"3"}}, // two lines of titles, and lo
		{"oom score", "--oom-score-adj 321", "cat /proc/self/oom_score_adj", []string{"321"}},
		{"no log", "--log-driver none", "echo seen", []string{"seen"}},
		{"hosts", "--hostname myname --add-host other:1.2.3.4", "grep -c other /etc/hosts", []string{"1"}},
		{"user namespace", "--userns auto", "grep -c ' 0  *1[0-9]*  *[0-9]' /proc/self/uid_map; touch /x && stat -c %u /x", []string{"1\n0"}},
		{"size of the user namespace", "--userns auto:size=3000", "tr -s ' ' </proc/self/gid_map | cut -d' ' -f4; stat -c %u /bin/busybox", []string{"3000\n0"}},
		{"maps", "--uidmap 0:200000:1000 --gidmap 0:300000:1000", "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '", []string{"0 200000 1000\n 0 300000 1000"}},
		{"personality", "--personality LINUX32", "uname -m", []string{"i686"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.name == "no cgroups" && *runtimeFlag == "runc" {
				t.Skip("runc has no way to do without")
			}
			got := output(t, strings.Fields(c.flags), "sh", "-c", "{ "+c.script+"\n} 2>/dev/null; true")
			for _, want := range c.want {
				if got == want {
					return
				}
			}
			t.Errorf("got %q, want %q", got, c.want)
		})
	}
}

func hostPid() string {
	pid, _ := os.Readlink("/proc/self")
	return pid
}

func namespaceOf(kind string) string {
	link, _ := os.Readlink("/proc/self/ns/" + kind)
	return link
}

// TestExitCodes: a container's exit code is podman's; else it tells who failed: podman (125), or the program, which could not be executed
// (126) or is not there (127).
func TestExitCodes(t *testing.T) {
	t.Parallel()
	client.Equal(t, "exit 42", run(t, nil, "sh", "-c", "exit 42").Code, 42)
	client.Equal(t, "killed", run(t, []string{"--pid", "host"}, "sh", "-c", "kill -9 $$").Code, 137)
	client.Equal(t, "flag of podman", run(t, []string{"--nosuch"}, "true").Code, 125)
	for _, c := range []struct {
		name, flags, program, want string
		code                       int
	}{
		{"missing", "", "nosuch", `exec: "nosuch": executable file not found in $PATH`, 127},
		{"missing path", "", "/no/such", `exec: "/no/such": `, 127},
		{"not executable", "", "/etc/motd", `exec: "/etc/motd": permission denied`, 126},
		{"directory", "", "/etc", `exec: "/etc": `, 126},
		{"sysctl of the host", "--sysctl vm.swappiness=1", "true", "vm.swappiness", 125},
		{"user", "--user nosuch", "true", "nosuch", 126},
		{"device", "--device /dev/nosuch", "true", "/dev/nosuch", 125},
	} {
		r := run(t, strings.Fields(c.flags), c.program)
		client.Equal(t, c.name, r.Code, c.code)
		contains(t, c.name, r.Stderr, c.want)
	}
}

// contains fails the test unless text has want in it.
func contains(t *testing.T, what, text, want string) {
	t.Helper()
	if !strings.Contains(text, want) {
		t.Errorf("%s: %q has no %q", what, text, want)
	}
}

// TestOutOfMemory: the kernel kills, podman tells, and no other container's end is told as one.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	eater := detached(t, []string{"--memory", "16m", "--memory-swap", "16m"}, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M")
	client.Equal(t, "exit code", must(t, "wait", eater), "137")
	if *rootFlag == "podman-4.3" {
		return // its conmon does not hear of it on cgroup v1
	}
	client.Eventually(t, "podman tells of the OOM kill", func() bool { return inspect(t, eater, "{{.State.OOMKilled}}") == "true" })
	killed := detached(t, []string{"--memory", "16m"}, "sleep", "1000")
	must(t, "kill", killed)
	client.Equal(t, "exit code", must(t, "wait", killed), "137")
	client.Equal(t, "OOM kill of what was killed by hand", inspect(t, killed, "{{.State.OOMKilled}}"), "false")
}

// TestVolumes mounts directories of the host and named volumes.
func TestVolumes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	client.Equal(t, "bind", output(t, []string{"--volume", dir + ":/v"}, "sh", "-c", "cat /v/f; echo from inside >/v/g"), "from the host")
	if got, err := os.ReadFile(filepath.Join(dir, "g")); err != nil || string(got) != "from inside\n" {
		t.Errorf("read what the container wrote: %q, %v", got, err)
	}
	const refuse = "touch /v/h 2>/dev/null || echo refused"
	client.Equal(t, "read only", output(t, []string{"--volume", dir + ":/v:ro"}, "sh", "-c", "cat /v/f; "+refuse), "from the host\nrefused")
	client.Equal(t, "mount", output(t, []string{"--mount", "type=bind,src=" + dir + ",dst=/v,readonly"}, "sh", "-c", refuse), "refused")
	client.Equal(t, "one file", output(t, []string{"--volume", dir + "/f:/etc/motd:ro"}, "cat", "/etc/motd"), "from the host")
	client.Equal(t, "options", output(t, []string{"--volume", dir + ":/v:noexec,nosuid"}, "sh", "-c", "grep ' /v ' /proc/mounts | grep -c nosuid.*noexec"), "1")
	client.Equal(t, "overlay", output(t, []string{"--volume", dir + ":/v:O"}, "sh", "-c", "echo new >/v/f; cat /v/f"), "new")

	volume := strings.ToLower(t.Name())
	must(t, "volume", "create", volume)
	defer must(t, "volume", "rm", volume)
	client.Equal(t, "copied up", output(t, []string{"--volume", volume + ":/etc"}, "sh", "-c", "cat /etc/motd; echo kept >/etc/k"), "hello from a container made by gosuda")
	client.Equal(t, "volume", output(t, []string{"--volume", volume + ":/data:idmap", "--userns", "auto"}, "sh", "-c", "cat /data/k; stat -c %u /data/k"), "kept\n0")

	first := detached(t, []string{"--volume", dir + ":/first"}, "sleep", "1000")
	client.Equal(t, "volumes of another", output(t, []string{"--volumes-from", first}, "cat", "/first/f"), "from the host")
}

// TestSecrets: podman mounts them from memory.
func TestSecrets(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(file, []byte("hidden"), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "secret", "create", "s", file)
	defer must(t, "secret", "rm", "s")
	client.Equal(t, "secret", output(t, []string{"--secret", "s,mode=0400"}, "sh", "-c", "cat /run/secrets/s; stat -c ' %a' /run/secrets/s"), "hidden 400")
}

// TestRuntimePath: without any configuration, podman takes a runtime's path.
func TestRuntimePath(t *testing.T) {
	t.Parallel()
	r := podman(t, "--runtime", runtimePath, "run", "--rm", "--network", "none", testImage, "nosuch")
	client.Equal(t, "exit code", r.Code, 127)
	contains(t, "error", r.Stderr, "executable file not found")
}

// TestInput hands on what podman reads.
func TestInput(t *testing.T) {
	t.Parallel()
	r := program.RunIn(t, strings.NewReader("in\n"), "run", "--rm", "--interactive", "--network", "none", testImage, "cat")
	client.Equal(t, "output", r.Stdout, "in\n")
}
