package docker

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
		{"environment", "--env A=b --hostname h --workdir /made/by/docker", "echo $A $(hostname) $HOSTNAME $(pwd)", []string{"b h h /made/by/docker"}},
		{"user", "--user alice", "id -u; id -g", []string{"1000\n1000"}},
		{"groups", "--user 5:6 --group-add 7", "id -u; id -G", []string{"5\n6 7"}},
		{"tmpfs", "--tmpfs /t:size=4m,mode=1770", "grep ' /t ' /proc/mounts; stat -c %a /t", []string{
			"tmpfs /t tmpfs rw,nosuid,nodev,noexec,relatime,size=4096k,mode=1770 0 0\n1770"}},
		{"limits", "--memory 64m --cpus 0.5 --pids-limit 30", limits, []string{"67108864 50000 30", "67108864 50000 100000 30"}},
		{"swap", "--memory 64m --memory-swap 96m", "cd /sys/fs/cgroup; cat memory/memory.memsw.limit_in_bytes memory.swap.max 2>/dev/null",
			[]string{"100663296", "33554432"}},
		{"ulimit", "--ulimit nofile=100:200 --ulimit core=0", "ulimit -n; ulimit -Hn; ulimit -c", []string{"100\n200\n0"}},
		{"capabilities", "--cap-drop ALL --cap-add NET_ADMIN --cap-add KILL", "grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status", []string{
			"CapPrm:\t0000000000001020\nCapEff:\t0000000000001020\nCapBnd:\t0000000000001020"}},
		{"default capabilities", "", "grep -E 'Cap(Inh|Bnd)' /proc/self/status", []string{"CapInh:\t0000000000000000\nCapBnd:\t00000000a80425fb"}},
		{"seccomp", "", "grep Seccomp: /proc/self/status; unshare -U true 2>/dev/null || echo refused", []string{"Seccomp:\t2\nrefused"}},
		{"no seccomp", "--security-opt seccomp=unconfined", "grep Seccomp: /proc/self/status", []string{"Seccomp:\t0"}},
		{"no new privileges", "--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status", []string{"NoNewPrivs:\t1"}},
		{"masked", "", "cat /proc/keys /proc/timer_list; ls /sys/firmware; echo 1 >/proc/sys/kernel/panic || echo read only", []string{"read only"}},
		{"unmasked", "--security-opt systempaths=unconfined", "grep -c ' /proc/' /proc/mounts", []string{"0"}},
		{"privileged", "--privileged", "grep Seccomp: /proc/self/status; test -c /dev/kmsg && echo devices; mount -t tmpfs x /tmp && echo mounts",
			[]string{"Seccomp:\t0\ndevices\nmounts"}},
		{"read only", "--read-only --tmpfs /run", "touch /x || echo refused; touch /run/x && echo made", []string{"refused\nmade"}},
		{"init", "--init", "cat /proc/1/comm; (sleep 0.1 &); sleep 0.3; ps -o stat | grep -c Z", []string{"docker-init\n0"}},
		{"pid host", "--pid host", "test -d /proc/" + hostPid() + " && echo sees us", []string{"sees us"}},
		{"private cgroups", "--cgroupns private", "cut -d: -f3 /proc/self/cgroup | sort -u", []string{"/"}},
		{"cgroup parent", "--cgroup-parent /docker/parent --cgroupns host", "cut -d: -f3 /proc/self/cgroup | cut -c1-15 | grep -m1 docker", []string{"/docker/parent/"}},
		{"device", "--device /dev/fuse:/dev/f:r", "ls -l /dev/f | cut -c1; (: </dev/f) && echo read; (: >/dev/f) 2>/dev/null || echo no write", []string{"c\nread\nno write"}},
		{"devices", "", "ls /dev | tr '\n' ' '; echo x >/dev/null && head -c 3 /dev/zero | wc -c; mknod /n b 254 0 && cat /n 2>/dev/null || echo refused", []string{
			"fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero 3\nrefused"}},
		{"rule for devices", `--device-cgroup-rule c\x2010:229\x20rmw`, "mknod /f c 10 229 && (: </f) && echo read", []string{"read"}},
		{"shm", "--shm-size 3m", "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2", []string{"3072"}},
		{"sysctl", "--sysctl kernel.shmmax=65536 --sysctl net.ipv4.ip_unprivileged_port_start=81",
			"cat /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_unprivileged_port_start", []string{"65536\n81"}},
		{"host namespaces", "--network host --ipc host --uts host", "for n in net ipc uts; do readlink /proc/self/ns/$n; done",
			[]string{namespaceOf("net") + "\n" + namespaceOf("ipc") + "\n" + namespaceOf("uts")}},
		{"oom score", "--oom-score-adj 321", "cat /proc/self/oom_score_adj", []string{"321"}},
		{"log driver none", "--log-driver none", "echo seen", []string{"seen"}},
		{"bridge", "--network bridge", "ip -o -4 a show eth0 | grep -c 172.17.0.; ip r | grep -c default", []string{"1\n1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			flags := strings.Fields(c.flags)
			for i := range flags {
				flags[i] = strings.ReplaceAll(flags[i], `\x20`, " ")
			}
			got := output(t, flags, "sh", "-c", "{ "+c.script+"\n} 2>/dev/null; true")
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

// TestExitCodes: a container's exit code is docker's; else it tells who failed: Docker (125), or the program, which could not be executed
// (126) or is not there (127). Nothing is left of the attempt.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	client.Equal(t, "exit 42", run(t, nil, "sh", "-c", "exit 42").Code, 42)
	client.Equal(t, "killed", run(t, []string{"--ulimit", "cpu=1"}, "sh", "-c", "while :; do :; done").Code, 137)
	for _, c := range []struct {
		name, flags, program, want string
		code                       int
	}{
		{"flag", "--nosuch", "true", "unknown flag", 125},
		{"missing", "", "nosuch", `exec: "nosuch": executable file not found in $PATH`, 127},
		{"missing path", "", "/no/such", `exec: "/no/such": `, 127},
		{"not executable", "", "/etc/motd", `exec: "/etc/motd": permission denied`, 126},
		{"directory", "", "/etc", `exec: "/etc": `, 126},
		{"working directory", "--workdir /etc/motd", "true", "not a directory", 125},
		{"sysctl of the host", "--sysctl vm.swappiness=1", "true", "vm.swappiness", 125},
		{"user", "--user nosuch", "true", "nosuch", 125},
		{"device", "--device /dev/nosuch", "true", "/dev/nosuch", 127},
		{"mount", "--mount type=bind,src=/nosuch,dst=/x", "true", "/nosuch", 125},
		{"limit", "--cpuset-cpus 4000", "true", "4000", 125},
		{"runtime", "--runtime io.containerd.nosuch.v2", "true", "nosuch", 125},
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

// TestOutOfMemory: the kernel kills, Docker tells, and no other container's end is told as one.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	eater := detached(t, []string{"--memory", "16m", "--memory-swap", "16m"}, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M")
	client.Equal(t, "exit code", must(t, "wait", eater), "137")
	client.Equal(t, "OOM kill", inspect(t, eater, "{{.State.OOMKilled}}"), "true")
	killed := detached(t, []string{"--memory", "16m"}, "sleep", "1000")
	must(t, "kill", killed)
	client.Equal(t, "exit code", must(t, "wait", killed), "137")
	client.Equal(t, "OOM kill of what was killed by hand", inspect(t, killed, "{{.State.OOMKilled}}"), "false")
}

// TestVolumes mounts directories of the host and a named volume.
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
	volume := strings.ToLower(t.Name())
	must(t, "volume", "create", volume)
	defer must(t, "volume", "rm", volume)
	client.Equal(t, "copied up", output(t, []string{"--volume", volume + ":/etc"}, "sh", "-c", "cat /etc/motd; echo kept >/etc/k"), "hello from a container made by gosuda")
	client.Equal(t, "volume", output(t, []string{"--volume", volume + ":/data"}, "cat", "/data/k"), "kept")
}

// TestNamespacesOfOthers joins those of another container, and sees it end.
func TestNamespacesOfOthers(t *testing.T) {
	t.Parallel()
	first := detached(t, []string{"--ipc", "shareable", "--network", "bridge", "--shm-size", "5m"}, "sleep", "1000")
	join := []string{"--pid", "container:" + first, "--ipc", "container:" + first, "--network", "container:" + first}
	show := `for n in pid ipc net; do readlink /proc/self/ns/$n; done; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2`
	client.Equal(t, "namespaces", output(t, join, "sh", "-c", show), must(t, "exec", first, "sh", "-c", show))

	second := detached(t, []string{"--pid", "container:" + first}, "sleep", "1000")
	must(t, "kill", first)
	client.Equal(t, "exit code of the first", must(t, "wait", first), "137")
	client.Equal(t, "exit code of the other in its pid namespace", must(t, "wait", second), "137")
}

// TestPublish reaches a container through Docker's bridge and rules.
func TestPublish(t *testing.T) {
	t.Parallel()
	name := detached(t, []string{"--network", "bridge", "--publish", "127.0.0.1::80"}, "sh", "-c", "while :; do echo served | nc -l -p 80; done")
	address := must(t, "port", name, "80")
	client.Eventually(t, "it serves", func() bool { return ask(address) == "served\n" })
}

// TestBuild executes every RUN in a container of the default runtime's.
func TestBuild(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"Dockerfile": "FROM " + testImage + "\nRUN echo built >/made && id -u\nUSER alice\nRUN id -un >/tmp/who\nCOPY f /f\nCMD [\"cat\", \"/made\", \"/tmp/who\", \"/f\"]\n",
		"f":          "copied\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	must(t, "build", "--network", "none", "--tag", "built", dir)
	defer must(t, "rmi", "built")
	client.Equal(t, "files of the image", must(t, "run", "--rm", "--network", "none", "built"), "built\nalice\ncopied")
	client.Equal(t, "default runtime", must(t, "info", "--format", "{{.DefaultRuntime}}"), alias)

	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM "+testImage+"\nRUN exit 19\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, "19", "build", "--network", "none", "--rm", "--force-rm", dir)
}
