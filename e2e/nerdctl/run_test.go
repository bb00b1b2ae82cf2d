package nerdctl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gosuda/gosudacon/e2e/client"
)

// limits prints control files, by their names of cgroup v1 and v2, of which a container sees one.
const limits = `cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max cpu/cpu.cfs_quota_us cpu.max pids/pids.max pids.max 2>/dev/null | tr "\n" " "`

// TestRun runs a container with one flag, or a few, and looks from inside at what they do.
func TestRun(t *testing.T) {
	for _, c := range []struct {
		name   string
		flags  string
		script string
		want   []string // each is the output, or the output of another kind of machine
	}{
		{"exit code", "", "echo out; exit 0", []string{"out"}},
		{"environment", "--env A=b --hostname h --workdir /made/by/runtime", "echo $A $(hostname) $HOSTNAME $(pwd)", []string{"b h h /made/by/runtime"}},
		{"user", "--user alice --umask 077", "id; umask", []string{"uid=1000(alice) gid=1000(alice) groups=10(wheel),1000(alice)\n0077"}},
		{"groups", "--user 5:6 --group-add 7", "id", []string{"uid=5 gid=6 groups=6,7"}},
		{"tmpfs", "--tmpfs /t:size=4m,mode=1770", "grep ' /t ' /proc/mounts; stat -c %a /t", []string{
			"tmpfs /t tmpfs rw,nosuid,nodev,noexec,relatime,size=4096k,mode=1770 0 0\n1770"}},
		{"limits", "--memory 64m --cpus 0.5 --pids-limit 30", limits, []string{"67108864 50000 30", "67108864 50000 100000 30"}},
		{"swap", "--memory 64m --memory-swap 96m", "cd /sys/fs/cgroup; cat memory/memory.memsw.limit_in_bytes memory.swap.max 2>/dev/null",
			[]string{"100663296", "33554432"}},
		{"ulimit", "--ulimit nofile=100:200 --ulimit core=0", "ulimit -n; ulimit -Hn; ulimit -c", []string{"100\n200\n0"}},
		{"capabilities", "--cap-drop ALL --cap-add NET_ADMIN --cap-add KILL", "grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status", []string{
			"CapPrm:\t0000000000001020\nCapEff:\t0000000000001020\nCapBnd:\t0000000000001020"}},
		{"seccomp", "", "grep Seccomp: /proc/self/status; unshare -U true 2>/dev/null || echo refused", []string{"Seccomp:\t2\nrefused"}},
		{"no seccomp", "--security-opt seccomp=unconfined", "grep Seccomp: /proc/self/status", []string{"Seccomp:\t0"}},
		{"no new privileges", "--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status", []string{"NoNewPrivs:\t1"}},
		{"masked", "", "cat /proc/keys /proc/timer_list; ls /sys/firmware; echo 1 >/proc/sys/kernel/panic || echo read only", []string{"read only"}},
		{"unmasked", "--security-opt systempaths=unconfined", "grep -c ' /proc/' /proc/mounts", []string{"0"}},
		{"privileged", "--privileged", "grep Seccomp: /proc/self/status; test -b /dev/vda -o -c /dev/kmsg && echo devices; mount -t tmpfs x /tmp && echo mounts",
			[]string{"Seccomp:\t0\ndevices\nmounts"}},
		{"read only", "--read-only --tmpfs /run", "touch /x || echo refused; touch /run/x && echo made", []string{"refused\nmade"}},
		{"init", "--init --init-binary tini-static", "cat /proc/1/comm; (sleep 0.1 &); sleep 0.3; ps -o stat | grep -c Z", []string{"tini-static\n0"}},
		{"pid host", "--pid host", "test -d /proc/" + hostPid() + " && echo sees us", []string{"sees us"}},
		{"cgroupns private", "--cgroupns private", "cut -d: -f3 /proc/self/cgroup | sort -u", []string{"/"}},
		{"device", "--device /dev/fuse:/dev/f:r", "ls -l /dev/f | cut -c1; (: </dev/f) && echo read; (: >/dev/f) 2>/dev/null || echo no write", []string{"c\nread\nno write"}},
		{"devices", "", "ls /dev | tr '\n' ' '; echo x >/dev/null && head -c 3 /dev/zero | wc -c; mknod /n b 254 0 && cat /n 2>/dev/null || echo refused", []string{
			"fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero 3\nrefused"}},
		{"shm", "--shm-size 3m", "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2", []string{"3072"}},
		{"private ipc", "--ipc private --shm-size 2m", "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2", []string{"2048"}},
		{"host ipc", "--ipc host", "readlink /proc/self/ns/ipc", []string{namespaceOf("ipc")}},
		{"sysctl", "--sysctl kernel.shmmax=65536 --sysctl net.ipv4.ip_unprivileged_port_start=81",
			"cat /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_unprivileged_port_start", []string{"65536\n81"}},
		{"host network", "--net host", "readlink /proc/self/ns/net", []string{namespaceOf("net")}},
		{"oom score", "--oom-score-adj 321", "cat /proc/self/oom_score_adj", []string{"321"}},
		{"log driver none", "--log-driver none", "echo seen", []string{"seen"}},
		{"log driver json-file", "--log-driver json-file --log-opt max-size=1m --log-opt max-file=2", "echo seen", []string{"seen"}},
		{"bridge", "--net bridge", "ip -o -4 a show eth0 | grep -c 10.4.0.; ip r | grep -c default", []string{"1\n1"}},
		{"host name in hosts", "--net bridge --hostname myname --add-host other:1.2.3.4", "grep -c myname /etc/hosts; grep other /etc/hosts | cut -c1-7", []string{"1\n1.2.3.4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
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

// TestExitCodes of containers become nerdctl's.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	client.Equal(t, "exit 42", run(t, nil, "sh", "-c", "exit 42").Code, 42)
	client.Equal(t, "out of memory", run(t, []string{"--memory", "16m", "--memory-swap", "16m"}, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M").Code, 137)
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
	client.Equal(t, "read only", output(t, []string{"--volume", dir + ":/v:ro"}, "sh", "-c", "cat /v/f; touch /v/h 2>/dev/null || echo refused"), "from the host\nrefused")
	client.Equal(t, "mount", output(t, []string{"--mount", "type=bind,src=" + dir + ",dst=/v,readonly"}, "sh", "-c", "touch /v/h 2>/dev/null || echo refused"), "refused")
	volume := strings.ToLower(t.Name())
	must(t, "volume", "create", volume)
	defer must(t, "volume", "rm", volume)
	output(t, []string{"--volume", volume + ":/data"}, "sh", "-c", "echo kept >/data/k")
	client.Equal(t, "volume", output(t, []string{"--volume", volume + ":/data"}, "cat", "/data/k"), "kept")
}

// TestRefused: what cannot be had is refused, in words that name it, and nothing is left of the attempt.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ name, flags, command, want string }{
		{"program", "", "nosuch", `exec: "nosuch": executable file not found in $PATH`},
		{"not a program", "", "/etc/passwd", `exec: "/etc/passwd": permission denied`},
		{"working directory", "--workdir /etc/passwd", "true", "not a directory"},
		{"init without its loader", "--init --init-binary tini", "true", "/sbin/tini"}, // Debian's, in an image that has no libc
		{"sysctl of the host", "--sysctl vm.swappiness=1", "true", "vm.swappiness"},
		{"sysctl of the host's network", "--net host --sysctl net.ipv4.ip_forward=1", "true", "net.ipv4.ip_forward"},
		{"uts host", "--uts host", "true", "namespace"}, // nerdctl sets a host name all the same
		{"gpus", "--gpus all", "true", "nvidia-container-cli"},
		{"device", "--device /dev/nosuch", "true", "/dev/nosuch"},
		{"user", "--user nosuch", "true", "no users found"},
		{"runtime", "--runtime io.containerd.nosuch.v2", "true", "nosuch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, strings.Fields(c.flags), c.command)
			if r.Code == 0 || !strings.Contains(r.Stderr, c.want) {
				t.Errorf("exit code %d, %q; want a failure with %q", r.Code, r.Stderr, c.want)
			}
		})
	}
}

// TestNamespacesOfOthers joins those of another container, and sees it end.
func TestNamespacesOfOthers(t *testing.T) {
	t.Parallel()
	first := detached(t, []string{"--ipc", "shareable", "--net", "bridge", "--shm-size", "5m"}, "sleep", "1000")
	flags := []string{"--pid", "container:" + first, "--ipc", "container:" + first, "--net", "container:" + first}
	show := `for n in pid ipc net uts mnt; do readlink /proc/self/ns/$n; done`
	ours := strings.Fields(output(t, flags, "sh", "-c", show))
	theirs := strings.Fields(must(t, "exec", first, "sh", "-c", show))
	if len(ours) != 5 || len(theirs) != 5 {
		t.Fatalf("got %q and %q", ours, theirs)
	}
	for i, shared := range []bool{true, false, true, false, false} { // of ipc nerdctl shares /dev/shm alone
		if (ours[i] == theirs[i]) != shared {
			t.Errorf("%s and %s: shared must be %v", ours[i], theirs[i], shared)
		}
	}
	client.Equal(t, "shared memory", output(t, flags, "sh", "-c", "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2; ps | grep -c 'sleep 100[0]'"), "5120\n1")

	second := detached(t, []string{"--pid", "container:" + first}, "sleep", "1000")
	must(t, "kill", first)
	client.Equal(t, "exit code of the first", must(t, "wait", first), "137")
	client.Equal(t, "exit code of the other in its pid namespace", must(t, "wait", second), "137")
}
