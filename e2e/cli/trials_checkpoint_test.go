package cli

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// checkpointTrials are those of checkpoint. What is in a checkpoint shows when it is restored.
var checkpointTrials = []trial{
	{option: "", shown: "it is gone, and a restore goes on where it was", try: func(a *attempt) {
		tick := a.ticks()
		a.dump()
		a.ends(tick)
		a.gone()
		a.goesOn(tick, a.restore())
	}},
	{option: "--image-path", shown: "the images are there", try: func(a *attempt) {
		a.ticks()
		a.do("checkpoint", "--image-path", a.path("elsewhere"), "c")
		a.want(exists(a.path("elsewhere/inventory.img")), "%q", names(a.path("elsewhere")))
	}},
	{option: "--work-path", shown: "criu's dump.log is there", try: func(a *attempt) {
		a.ticks()
		a.check(os.Mkdir(a.path("work"), 0o700))
		a.dump("--work-path", a.path("work"))
		a.want(exists(a.path("work/dump.log")) && !exists(a.path("images/dump.log")), "%q", names(a.path("work")))
	}},
	{option: "--leave-running", shown: "it goes on", try: func(a *attempt) {
		tick := a.ticks()
		a.dump("--leave-running")
		a.goesOn(tick, nil)
		a.status(specs.StateRunning)
	}},
	{option: "--tcp-established", shown: "an open connection, refused without it", try: func(a *attempt) {
		a.connects()
		a.needs("--tcp-established", "Connected TCP socket")
	}},
	{option: "--tcp-skip-in-flight", shown: "a connection that nobody has accepted, refused without it", try: func(a *attempt) {
		a.listens()
		a.needs("--tcp-skip-in-flight", "In-flight connection")
	}},
	{option: "--ext-unix-sk", shown: "a unix socket to the outside, refused without it", try: func(a *attempt) {
		a.logs()
		a.needs("--ext-unix-sk", "External socket is used")
	}},
	{option: "--shell-job", shown: "a terminal of the caller's, refused without it", try: func(a *attempt) {
		a.onTerminal()
		a.needs("--shell-job", "lookup mount")
	}},
	{option: "--file-locks", shown: "a lock, refused without it", try: func(a *attempt) {
		a.locks()
		a.needs("--file-locks", "--file-locks")
	}},
	{option: "--link-remap", shown: "an open file that has lost its name but not another, refused without it", try: func(a *attempt) {
		tick := a.ticks(remapped)
		a.criuRefuses("link-remap", "checkpoint", "--image-path", a.path("no"), "c")
		a.goesOn(tick, nil)
		a.dump("--link-remap")
		a.ends(tick)
		a.goesOn(tick, a.restore())
	}},
	{option: "--lazy-pages", shown: "memory is left out, until a page server of it is asked", try: func(a *attempt) {
		a.pageServerOfADump(false)
	}},
	{option: "--status-fd", shown: "a NUL byte, when the page server of --lazy-pages listens", try: func(a *attempt) {
		a.pageServerOfADump(true)
	}},
	{option: "--page-server", shown: "memory is where that is", try: func(a *attempt) {
		tick := a.ticks()
		address, stop := a.pageServer()
		defer stop()
		a.dump("--page-server", address)
		a.ends(tick)
		own, _ := filepath.Glob(a.path("images/pages-*.img"))
		theirs, _ := filepath.Glob(a.path("pages/pages-*.img"))
		a.want(own == nil && theirs != nil, "pages: %q, and of the server %q", own, theirs)
	}},
	{option: "--pre-dump", shown: "memory alone, and it goes on; an error where the kernel has no CONFIG_MEM_SOFT_DIRTY", try: func(a *attempt) {
		tick := a.ticks()
		if !tracksMemory() {
			a.refusesToTrack("--pre-dump")
		} else {
			a.dump("--pre-dump")
			a.want(a.pages("images") > 0 && !exists(a.path("images/pstree.img")), "not the memory alone: %q", names(a.path("images")))
		}
		a.goesOn(tick, nil)
	}},
	{option: "--parent-path", shown: "after a --pre-dump what has changed; an error where the kernel has no CONFIG_MEM_SOFT_DIRTY", try: func(a *attempt) {
		tick := a.ticks()
		if !tracksMemory() {
			a.check(os.MkdirAll(a.path("before"), 0o700))
			a.check(os.MkdirAll(a.path("images"), 0o700))
			a.refusesToTrack("--parent-path", "../before")
			a.goesOn(tick, nil)
			return
		}
		a.do("checkpoint", "--pre-dump", "--image-path", a.path("before"), "c")
		a.dump("--parent-path", "../before")
		a.ends(tick)
		a.goesOn(tick, a.restore())
	}},
	{option: "--manage-cgroups-mode", shown: "ignore: no cgroups in the images", try: func(a *attempt) {
		a.ticks()
		a.dump("--leave-running")
		size := func(name string) int64 {
			fi, err := os.Stat(a.path(name + "/cgroup.img"))
			if err != nil {
				return 0
			}
			return fi.Size()
		}
		a.do("checkpoint", "--manage-cgroups-mode", "ignore", "--image-path", a.path("ignored"), "c")
		a.want(size("images") > 0 && size("ignored") < size("images"), "cgroup.img: %d bytes, with ignore %d", size("images"), size("ignored"))
	}},
	{option: "--empty-ns", shown: "network: no interfaces in the images; so without it", try: func(a *attempt) {
		a.ticks()
		a.dump("--empty-ns", "network")
		a.want(!slices.ContainsFunc(names(a.path("images")), func(s string) bool { return strings.HasPrefix(s, "netdev-") }), "%q", names(a.path("images")))
	}},
	{option: "--auto-dedup", shown: "accepted, where no images are before these", try: func(a *attempt) {
		a.ticks()
		a.dump("--auto-dedup")
	}},
	{option: "--network-lock", shown: "iptables and nftables, by their programs; skip: by none", try: func(a *attempt) {
		a.connects()
		for _, method := range []string{"iptables", "nftables", "skip"} {
			a.do("checkpoint", "--leave-running", "--tcp-established", "--network-lock", method, "--image-path", a.path(method), "c")
			programs := regexp.MustCompile(`Running (iptables|nftables) `).FindStringSubmatch(a.read(method + "/dump.log"))
			a.want(programs == nil && method == "skip" || programs != nil && programs[1] == method, "%s: criu runs %q", method, programs)
		}
		a.want(a.rig.run("checkpoint", "--network-lock", "other", "--image-path", a.path("other"), "c").code != 0, "no error for another")
	}},
}

// restoreTrials are those of restore.
var restoreTrials = []trial{
	{option: "", shown: "in the foreground: its status, and nothing stays", try: func(a *attempt) {
		a.equal(strconv.Itoa(a.foreground()), "7")
		a.equal(a.do("list", "-q"), "")
	}},
	{option: "--keep", shown: "it stays, stopped", try: func(a *attempt) {
		a.foreground("--keep")
		a.status(specs.StateStopped)
	}},
	{option: "--no-subreaper", shown: "accepted", try: func(a *attempt) {
		tick := a.checkpointed()
		a.goesOn(tick, a.restore("--no-subreaper"))
	}},
	{option: "--no-pivot", shown: "accepted", try: func(a *attempt) {
		tick := a.checkpointed()
		a.goesOn(tick, a.restore("--no-pivot"))
	}},
	{option: "--detach", shown: "it goes on alone", try: func(a *attempt) {
		tick := a.checkpointed()
		a.goesOn(tick, a.restore())
		a.status(specs.StateRunning)
	}},
	{option: "--image-path", shown: "from the images there", try: func(a *attempt) {
		tick := a.checkpointed()
		a.check(os.Rename(a.path("images"), a.path("elsewhere")))
		a.goesOn(tick, a.launch("restore", "--detach", "--image-path", a.path("elsewhere"), "c"))
	}},
	{option: "--work-path", shown: "criu's restore.log is there", try: func(a *attempt) {
		tick := a.checkpointed()
		a.check(os.Mkdir(a.path("work"), 0o700))
		a.goesOn(tick, a.restore("--work-path", a.path("work")))
		a.want(exists(a.path("work/restore.log")) && !exists(a.path("images/restore.log")), "%q", names(a.path("work")))
	}},
	{option: "--bundle", shown: "another directory's config.json", try: func(a *attempt) {
		tick := a.checkpointed()
		cmd := a.command("restore", "--detach", "--image-path", a.path("images"), "--bundle", a.bundle, "c")
		cmd.Dir = "/"
		a.goesOn(tick, a.launched(cmd))
	}},
	{option: "--config", shown: "another config.json", try: func(a *attempt) {
		tick := a.checkpointed()
		a.check(os.Rename(filepath.Join(a.bundle, "config.json"), a.path("other.json")))
		a.goesOn(tick, a.restore("--config", a.path("other.json")))
	}},
	{option: "--console-socket", shown: "the master of its new terminal comes", try: func(a *attempt) {
		a.spec.Process.Terminal = true
		a.spec.Process.Args = ticker
		a.writeConfig()
		received := a.receive("console")
		a.do("run", "--detach", "--console-socket", a.path("console"), "c")
		_, master := received()
		tick := &ticking{}
		a.terminalGoesOn(tick, master)
		a.dump()
		master.Close()
		received = a.receive("console2")
		a.restore("--console-socket", a.path("console2"))
		_, master = received()
		defer master.Close()
		a.terminalGoesOn(tick, master)
	}},
	{option: "--pid-file", shown: "the pid, when the command returns", try: func(a *attempt) {
		a.checkpointed()
		a.restore("--pid-file", a.path("pid"))
		a.equal(a.read("pid"), strconv.Itoa(a.pidOf("c")))
	}},
	{option: "--pidfd-socket", shown: "a pidfd of the first process comes", try: func(a *attempt) {
		a.checkpointed()
		received := a.receive("pidfd")
		a.restore("--pidfd-socket", a.path("pidfd"))
		_, f := received()
		defer f.Close()
		a.want(a.pidOf("c") == pidOfFD(f), "pid %d, pidfd of %d", a.pidOf("c"), pidOfFD(f))
	}},
	{option: "--tcp-established", shown: "an open connection goes on; an error without it", try: func(a *attempt) {
		conn := a.connects()
		a.dump("--tcp-established")
		a.restoreFails("Connected TCP socket in image")
		a.carries(conn, a.restore("--tcp-established"), "two")
	}},
	{option: "--tcp-close", shown: "an open connection is closed", try: func(a *attempt) {
		conn := a.connects()
		a.dump("--tcp-established")
		a.restore("--tcp-close")
		tcp, err := os.ReadFile("/proc/net/tcp")
		a.check(err)
		established := fmt.Sprintf(`(?m)^ *\d+: 0100007F:%04X \S+ 01 `, conn.RemoteAddr().(*net.TCPAddr).Port)
		a.want(!regexp.MustCompile(established).Match(tcp), "it is open: %s", tcp)
	}},
	{option: "--ext-unix-sk", shown: "a unix socket to the outside, again", try: func(a *attempt) {
		l := a.logs()
		a.dump("--ext-unix-sk")
		for err := a.logEnds(l); err == nil; { // what was written before
			_, err = l.Read(make([]byte, 1000))
		}
		a.restore("--ext-unix-sk")
		a.logged(l)
	}},
	{option: "--shell-job", shown: "on the caller's terminal; an error without it", try: func(a *attempt) {
		p := a.onTerminal()
		a.dump("--shell-job")
		cmd := a.command("restore", "--detach", "--shell-job", "--image-path", a.path("images"), "c")
		cmd.Stdin = p.slave
		a.carries(p.master, a.launched(cmd), "two")
		a.restoreFails("without correspond master peer")
	}},
	{option: "--file-locks", shown: "a lock is held again", try: func(a *attempt) {
		tick := a.locks()
		a.dump("--file-locks")
		a.ends(tick)
		a.goesOn(tick, a.restore("--file-locks"))
		res := a.rig.run("exec", "c", "/usr/bin/flock", "-n", "/tmp/lock", "true")
		a.want(res.code == 1, "the lock can be had: exit code %d: %s", res.code, res.err)
	}},
	{option: "--lazy-pages", shown: "memory comes from criu's daemon", try: func(a *attempt) {
		tick := a.checkpointed()
		a.check(os.Mkdir(a.path("work"), 0o700))
		daemon := exec.Command("criu", "lazy-pages", "--images-dir", a.path("images"), "--work-dir", a.path("work"), "--log-file", "lazy.log", "-v4")
		a.check(daemon.Start())
		defer func() { daemon.Process.Kill(); daemon.Wait() }()
		a.eventually("criu's daemon listens", func() bool { return exists(a.path("work/lazy-pages.socket")) })
		a.goesOn(tick, a.restore("--lazy-pages", "--work-path", a.path("work")))
		a.want(strings.Contains(a.read("work/lazy.log"), "uffd"), "%s", a.read("work/lazy.log"))
	}},
	{option: "--manage-cgroups-mode", shown: "ignore: a cgroup that it has made is not made again", try: func(a *attempt) {
		a.spec.Mounts = append(a.spec.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"rw"}})
		a.spec.Linux.Namespaces = append(a.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
		tick := a.checkpointed(func(s *specs.Spec) {
			s.Process.Args = []string{"sh", "-c", "mkdir /sys/fs/cgroup/pids/inner && echo 0 > /sys/fs/cgroup/pids/inner/cgroup.procs; " + ticker[2]}
		})
		a.goesOn(tick, a.restore())
		a.want(strings.Contains(a.cgroupOf("c"), "/inner"), "%s", a.cgroupOf("c"))
		a.dump()
		a.ends(tick)
		a.goesOn(tick, a.restore("--manage-cgroups-mode", "ignore"))
		a.want(!strings.Contains(a.cgroupOf("c"), "/inner"), "%s", a.cgroupOf("c"))
	}},
	{option: "--empty-ns", shown: "network: a new one, that has lo; so without it", try: func(a *attempt) {
		tick := a.checkpointed()
		a.goesOn(tick, a.restore("--empty-ns", "network"))
		a.want(strings.Contains(a.do("exec", "c", "cat", "/proc/net/dev"), "lo:"), "no lo")
	}},
	{option: "--auto-dedup", shown: "what is in memory is no more in the images", try: func(a *attempt) {
		tick := a.checkpointed()
		before := a.pages("images")
		a.goesOn(tick, a.restore("--auto-dedup"))
		a.want(a.pages("images") < before, "%d bytes, before %d", a.pages("images"), before)
	}},
	{option: "--network-lock", shown: "skip: an open connection goes on that was not locked", try: func(a *attempt) {
		conn := a.connects()
		a.dump("--tcp-established", "--network-lock", "skip")
		a.carries(conn, a.restore("--tcp-established", "--network-lock", "skip"), "two")
	}},
	{option: "--lsm-profile", shown: "apparmor:NAME; criu's refusal where the kernel has no AppArmor", try: func(a *attempt) {
		tick := a.checkpointed()
		if enabled, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled"); string(enabled) == "Y\n" {
			a.goesOn(tick, a.restore("--lsm-profile", "apparmor:unconfined"))
			return
		}
		a.restoreFails("apparmor not supported", "--lsm-profile", "apparmor:some")
	}},
	{option: "--lsm-mount-context", shown: "accepted: it is for mounts that have a context", try: func(a *attempt) {
		tick := a.checkpointed()
		a.goesOn(tick, a.restore("--lsm-mount-context", "system_u:object_r:container_file_t:s0"))
	}},
}
