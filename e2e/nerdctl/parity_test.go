package nerdctl

import (
	"regexp"
	"strings"
	"testing"
)

// probe prints what a process sees of its container, without what differs from one container to the next of the same runtime.
const probe = `grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups|Uid|Gid|Cpus_allowed_list)' /proc/self/status
cat /proc/self/limits
cut -d' ' -f4- /proc/self/mountinfo
cut -d: -f2- /proc/self/cgroup
ls -l /dev | awk '{ print $1, $3, $4, $5, $6, $NF }' | sed 's/ [A-Z][a-z][a-z] / /'
ls /proc/self/fd
env | sort; id; pwd; umask; hostname; cat /proc/1/comm /proc/self/attr/current /proc/sys/kernel/domainname /proc/sys/kernel/shmmax
cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range
df -k /dev/shm | tail -1; cat /etc/resolv.conf
cd /sys/fs/cgroup; for f in */*limit* */*quota* */*period* */*shares */cpuset.* */*swappiness */*oom_control */pids.max */devices.list */*throttle*device *.max *.weight *.low *.high; do
	case $f in devices/*) sort $f ;; *kmem*|*memory_pressure|*effective*) ;; *) echo $f $(cat $f) ;; esac
done`

// same lists flags whose containers must look the same whatever made them.
var same = []string{
	"",
	"--tmpfs /t:size=4m,mode=1777 --tmpfs /u",
	"--memory 64m --memory-swap 128m --cpus 0.5 --pids-limit 30",
	"--memory 64m --memory-reservation 32m --cpu-shares 100 --cpuset-cpus 0 --memory-swappiness 10 --oom-kill-disable",
	"--blkio-weight 300",
	"--ulimit nofile=100:200 --ulimit core=0 --ulimit nproc=99",
	"--cap-drop ALL --cap-add NET_ADMIN",
	"--cap-add ALL",
	"--cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt no-new-privileges",
	"--security-opt systempaths=unconfined",
	"--security-opt writable-cgroups=true",
	"--privileged",
	"--privileged --security-opt privileged-without-host-devices",
	"--read-only",
	"--read-only --tmpfs /run",
	"--ipc private --shm-size 3m",
	"--ipc shareable",
	"--pid host",
	"--cgroupns host",
	"--cgroupns private",
	"--device /dev/fuse:/dev/f:r --device /dev/net/tun",
	"--sysctl kernel.shmmax=65536 --sysctl net.ipv4.ip_unprivileged_port_start=80",
	"--hostname hh --domainname dd",
	"--user 1000:1000 --group-add 10 --umask 077 --workdir /made",
	"--user alice --cap-add NET_ADMIN",
	"--init --init-binary tini-static",
	"--mount type=tmpfs,dst=/tt,tmpfs-size=1m --volume /etc:/e:ro --volume /usr:/u",
	"--volume /etc:/e:rro",
	"--net bridge",
	"--net host",
	"--add-host a:1.2.3.4 --dns 10.0.0.1 --dns-search example.org",
	"--env A=b --label c=d --annotation e=f",
}

// TestSameAsRunc runs the same containers with gosuda and with the runc shim and compares what they see.
func TestSameAsRunc(t *testing.T) {
	onRunc(t, "nothing to compare")
	for _, flags := range same {
		t.Run(flags, func(t *testing.T) {
			t.Parallel()
			list := strings.Fields(flags)
			all := append(list, "--hostname", "same")
			if strings.Contains(flags, "--hostname") || strings.Contains(flags, "--net host") {
				all = list
			}
			ours := output(t, all, "sh", "-c", "{ "+probe+"\n} 2>&1")
			theirs := output(t, append(all, "--runtime", runcRuntime), "sh", "-c", "{ "+probe+"\n} 2>&1")
			missing, extra := compare(ours, theirs)
			if len(missing)+len(extra) > 0 {
				t.Errorf("runc has\n%s\ngosuda has\n%s", strings.Join(missing, "\n"), strings.Join(extra, "\n"))
			}
		})
	}
}

var own = regexp.MustCompile(`[0-9a-f]{64}|10\.4\.0\.[0-9]+|HOSTNAME=.*|[0-9a-f]{12}|(master|shared):[0-9]+ |snapshots/[0-9]+|gosuda-test-[0-9a-f]+`)

// compare tells which lines only theirs has, and only ours.
func compare(ours, theirs string) (missing, extra []string) {
	count := map[string]int{} // of lines, theirs less ours
	for line := range strings.Lines(theirs) {
		count[normal(line)]++
	}
	for line := range strings.Lines(ours) {
		count[normal(line)]--
	}
	for line, n := range count {
		for ; n > 0; n-- {
			missing = append(missing, line)
		}
		for ; n < 0; n++ {
			extra = append(extra, line)
		}
	}
	return missing, extra
}

// normal is a line without what is a container's own, and without the differences that are meant:
//
//   - A masked directory of runc's may have its mount flags left out, and a masked file is a bind mount of the container's own /dev/null, which
//     a process in it may have replaced; gosuda's is nosuid, nodev, noexec, and the host's.
//   - runc leaves the tmpfs on which the hierarchies of cgroup v1 are mounted writable, although the config says ro.
//   - The source of a cgroup mount, which the kernel does not look at, is cgroup.
func normal(line string) string {
	line = own.ReplaceAllString(strings.TrimSpace(line), "X")
	f := strings.Fields(line)
	if len(f) < 6 || f[len(f)-4] != "-" { // no line of mountinfo
		return line
	}
	switch kind, where := f[len(f)-3], f[1]; {
	case strings.HasPrefix(where, "/proc/") && (kind == "tmpfs" || kind == "devtmpfs"), where == "/sys/firmware", where == "/sys/devices/virtual/powercap":
		return "masked " + where
	case where == "/sys/fs/cgroup" && kind == "tmpfs":
		return "cgroup parent"
	case kind == "cgroup":
		f[len(f)-2] = "cgroup"
	}
	return strings.Join(f, " ")
}
