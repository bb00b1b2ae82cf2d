package cli

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// needCriu puts criu into the PATH of the rig's commands.
func (r *rig) needCriu() {
	r.t.Helper()
	tree, err := containerdtest.FindTree()
	r.check(err)
	dir, missing, err := tree.Criu()
	r.check(err)
	if missing != "" {
		r.t.Skip(missing)
	}
	r.t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// counter is a program that keeps a number in memory and prints it, ten times a second.
var counter = []string{"sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done"}

// start runs a command whose container's output is what is read from the reader.
func (r *rig) start(args ...string) *bufio.Scanner {
	r.t.Helper()
	pipe, w, err := os.Pipe()
	r.check(err)
	r.t.Cleanup(func() { pipe.Close() })
	cmd := r.command(args...)
	cmd.Stdout = w
	res := r.finish(cmd)
	w.Close()
	if res.code != 0 {
		r.t.Fatalf("%q: exit code %d: %s", args, res.code, res.err)
	}
	pipe.SetReadDeadline(time.Now().Add(20 * time.Second))
	return bufio.NewScanner(pipe)
}

// count reads n numbers, each one more than the one before, and returns the last; with n 0 all until the end.
func (r *rig) count(lines *bufio.Scanner, last, n int) int {
	r.t.Helper()
	for i := 0; n == 0 || i < n; i++ {
		if !lines.Scan() {
			if n == 0 && lines.Err() == nil {
				return last
			}
			r.t.Fatalf("the counter has ended after %d: %v", last, lines.Err())
		}
		got, err := strconv.Atoi(lines.Text())
		r.check(err)
		if got != last+1 {
			r.t.Fatalf("counted from %d to %d", last, got)
		}
		last = got
	}
	return last
}

// TestCheckpoint: a counter in memory goes on counting after its container was made again from a checkpoint, more than once, and
// the container can be acted on as any other.
func TestCheckpoint(t *testing.T) {
	r := newRig(t, counter...)
	r.needCriu()
	r.spec.Mounts = append(r.spec.Mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"})
	r.writeConfig()
	out := r.start("run", "--detach", "c")
	last := r.count(out, 0, 5)
	for _, images := range []string{r.path("images"), r.path("again")} {
		r.ok("checkpoint", "--image-path", images, "c")
		last = r.count(out, last, 0)
		r.fails("container does not exist", "state", "c")
		r.reap()
		pidFile := r.path("pid")
		out = r.start("restore", "--detach", "--image-path", images, "--work-path", r.path("work"), "--pid-file", pidFile, "c")
		last = r.count(out, last, 5)
		if pid := r.expect("c", specs.StateRunning).Pid; r.read("pid") != strconv.Itoa(pid) {
			t.Errorf("pid file %q, pid %d", r.read("pid"), pid)
		}
		r.check(os.Remove(pidFile))
	}
	if got := r.ok("exec", "c", "sh", "-c", "echo $$; cat /proc/1/comm; grep -c : /proc/self/cgroup >/dev/null && echo in"); !strings.Contains(got, "sh\nin\n") {
		t.Errorf("exec: %q", got)
	}
	// Its clocks went on where they were: it has a time namespace, execs too.
	if got := r.ok("exec", "c", "sh", "-c", "readlink /proc/1/ns/time > /tmp/1; readlink /proc/self/ns/time | cmp - /tmp/1 && echo same"); got != "same\n" {
		t.Errorf("time namespaces: %q", got)
	}
	r.ok("pause", "c")
	r.expect("c", "paused")
	r.ok("resume", "c")
	if list := r.ok("ps", "c"); strings.Count(list, "\n") < 2 {
		t.Errorf("ps: %q", list)
	}
	r.ok("kill", "c", "KILL")
	r.stopped("c")
	r.ok("delete", "c")
}

// TestCheckpointWithoutIptables: what criu needs, and a machine may not have, is said, and nothing has happened.
func TestCheckpointWithoutIptables(t *testing.T) {
	r := newRig(t, counter...)
	r.needCriu()
	out := r.start("run", "--detach", "c")
	last := r.count(out, 0, 2)
	criu, _, _ := strings.Cut(os.Getenv("PATH"), ":")
	r.env = []string{"PATH=" + criu}
	r.fails("programs of iptables, which have to be installed", "checkpoint", "--image-path", r.path("images"), "c")
	r.expect("c", specs.StateRunning)
	r.count(out, last, 2)
	r.ok("delete", "-f", "c")
}

// TestCheckpointLeavesRunning: the container goes on, and nothing keeps somebody else from being restored from the images, beside
// it.
func TestCheckpointLeavesRunning(t *testing.T) {
	r := newRig(t, counter...)
	r.needCriu()
	out := r.start("run", "--detach", "c")
	last := r.count(out, 0, 3)
	r.ok("checkpoint", "--leave-running", "--image-path", r.path("images"), "c")
	last = r.count(out, last, 3)
	r.spec.Linux.CgroupsPath = r.cgroups + "/d"
	r.writeConfig()
	other := r.start("restore", "-d", "--image-path", r.path("images"), "d")
	first := r.count(other, r.first(other), 3)
	if first > last+100 || first < 3 {
		t.Errorf("the other one has counted to %d, the first to %d", first, last)
	}
	r.count(out, last, 3)
	r.ok("pause", "c")
	r.ok("checkpoint", "--leave-running", "--image-path", r.path("paused"), "c")
	r.expect("c", "paused")
	r.ok("resume", "c")
	for _, id := range []string{"c", "d"} {
		r.ok("delete", "--force", id)
	}
	r.reap()
}

// first reads the first number.
func (r *rig) first(lines *bufio.Scanner) int {
	r.t.Helper()
	if !lines.Scan() {
		r.t.Fatal("no output")
	}
	n, err := strconv.Atoi(lines.Text())
	r.check(err)
	return n
}

// TestRestoreInForeground: restore stays with the container, whose signals and exit status are its own, and removes it.
func TestRestoreInForeground(t *testing.T) {
	r := newRig(t, "sh", "-c", "trap 'echo got TERM; exit 7' TERM; echo ready; while :; do sleep 0.05; done")
	r.needCriu()
	out := r.start("run", "--detach", "c")
	if !out.Scan() || out.Text() != "ready" {
		t.Fatalf("%q", out.Text())
	}
	r.ok("checkpoint", "--image-path", r.path("images"), "c")
	r.reap()
	pipe, w, err := os.Pipe()
	r.check(err)
	defer pipe.Close()
	cmd := r.command("restore", "--image-path", r.path("images"), "--pid-file", r.path("pid"), "c")
	cmd.Stdout = w
	errs, err := os.OpenFile(r.path("errors"), os.O_RDWR|os.O_CREATE, 0o600) // criu wants a file for a file, of the same mode and size
	r.check(err)
	defer errs.Close()
	cmd.Stderr = errs
	r.check(cmd.Start())
	w.Close()
	r.eventually("it was restored", func() bool {
		if text := r.read("errors"); text != "" {
			t.Fatal(text)
		}
		return exists(r.path("pid"))
	})
	r.expect("c", specs.StateRunning)
	r.check(cmd.Process.Signal(unix.SIGTERM))
	text, err := io.ReadAll(pipe)
	r.check(err)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 7 || string(text) != "got TERM\n" {
		t.Errorf("exit code %d, output %q", code, text)
	}
	r.fails("container does not exist", "state", "c")
}

// TestCheckpointTerminal: a process with a terminal gets a new one, and it is its controlling terminal.
func TestCheckpointTerminal(t *testing.T) {
	r := newRig(t, "sh", "-c", "while read line; do n=$((n+1)); echo got $line $n; done")
	r.needCriu()
	r.spec.Process.Terminal = true
	r.writeConfig()
	say := func(master *os.File, line, want string) {
		t.Helper()
		_, err := master.WriteString(line + "\n")
		r.check(err)
		var text string
		buf := make([]byte, 1000)
		for !strings.Contains(text, want) {
			n, err := master.Read(buf)
			if err != nil {
				t.Fatalf("terminal: %q without %q: %v", text, want, err)
			}
			text += string(buf[:n])
		}
	}
	received := r.receive("console")
	r.ok("run", "-d", "--console-socket", r.path("console"), "c")
	_, master := received()
	say(master, "a", "got a 1")
	r.ok("checkpoint", "--image-path", r.path("images"), "c")
	master.Close()
	r.reap()
	received = r.receive("console2")
	r.fails("give --console-socket SOCKET", "restore", "-d", "--image-path", r.path("images"), "c")
	r.ok("restore", "-d", "--image-path", r.path("images"), "--console-socket", r.path("console2"), "c")
	name, master := received()
	defer master.Close()
	if name != "/dev/ptmx" {
		t.Errorf("payload %q", name)
	}
	say(master, "b", "got b 2")
	if tty := r.ok("exec", "c", "sh", "-c", "cut -d' ' -f7 /proc/1/stat"); tty == "0\n" {
		t.Error("no controlling terminal")
	}
	r.ok("delete", "--force", "c")
	r.reap()
}

// TestCheckpointCallersTerminal: a terminal of somebody else's as the standard input needs the option, at both ends of the way, and becomes that
// of whoever restores.
func TestCheckpointCallersTerminal(t *testing.T) {
	r := newRig(t, "sh", "-c", "while read line; do n=$((n+1)); echo $line $n; done")
	r.needCriu()
	say := func(p pty, out *bufio.Scanner, line, want string) {
		t.Helper()
		_, err := p.master.WriteString(line + "\n")
		r.check(err)
		if !out.Scan() || out.Text() != want {
			t.Fatalf("%q, %v; want %q", out.Text(), out.Err(), want)
		}
	}
	first, second := openPty(t), openPty(t)
	defer first.slave.Close()
	defer second.slave.Close()
	say(first, r.startWith(first.slave, "run", "-d", "c"), "a", "a 1")
	r.fails("path=/dev/pts/", "checkpoint", "--image-path", r.path("no"), "c")
	r.ok("checkpoint", "--shell-job", "--image-path", r.path("images"), "c")
	r.reap()
	r.fails("", "restore", "-d", "--image-path", r.path("images"), "c")
	say(second, r.startWith(second.slave, "restore", "-d", "--shell-job", "--image-path", r.path("images"), "c"), "b", "b 2")
	r.ok("delete", "--force", "c")
	r.reap()
}

// TestCheckpointMounts: what is bound from the host comes from where the config says at the time of the restore; masked files,
// links on the way and mount points that are missing in the root file system too.
func TestCheckpointMounts(t *testing.T) {
	r := newRig(t, "sh", "-c", "echo kept > /tmp/file; while :; do cat /data/var/volume/word /vol/sub/word; head -c1 /proc/timer_list | wc -c; sleep 0.1; done")
	r.needCriu()
	for _, name := range []string{"one", "two"} {
		r.check(os.MkdirAll(r.path(name), 0o755))
		r.check(os.WriteFile(filepath.Join(r.path(name), "word"), []byte(name+"\n"), 0o644))
	}
	r.check(os.MkdirAll(r.path("vol"), 0o755))
	root := r.path("root-with-link")
	r.check(os.Mkdir(root, 0o755))
	if out, err := exec.Command("cp", "-a", shared.rootfs+"/.", root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.check(os.Symlink("/run", filepath.Join(root, "data")))
	r.spec.Root.Path = root
	r.spec.Linux.MaskedPaths = []string{"/proc/timer_list", "/proc/none", "/sys/firmware"}
	r.spec.Linux.ReadonlyPaths = []string{"/proc/sys"}
	r.spec.Linux.Namespaces = append(r.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	bind := []string{"bind", "ro"}
	r.spec.Mounts = append(r.spec.Mounts,
		specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro"}},
		specs.Mount{Destination: "/data/var/volume", Type: "bind", Source: r.path("one"), Options: bind},
		specs.Mount{Destination: "/vol", Type: "bind", Source: r.path("vol"), Options: []string{"rbind"}},
		specs.Mount{Destination: "/vol/sub", Type: "bind", Source: r.path("one"), Options: bind},
		specs.Mount{Destination: "/dev/shm/inner", Type: "bind", Source: r.path("one"), Options: bind},
		specs.Mount{Destination: "/etc/word", Type: "bind", Source: r.path("one") + "/word", Options: bind})
	r.writeConfig()
	out := r.start("run", "-d", "c")
	for _, want := range []string{"one", "one", "0"} {
		if !out.Scan() || out.Text() != want {
			t.Fatalf("%q, want %q", out.Text(), want)
		}
	}
	r.ok("checkpoint", "--image-path", r.path("images"), "c")
	r.reap()
	for i := range r.spec.Mounts {
		if m := &r.spec.Mounts[i]; strings.HasPrefix(m.Source, r.path("one")) {
			m.Source = r.path("two") + strings.TrimPrefix(m.Source, r.path("one"))
		}
	}
	r.writeConfig()
	for _, name := range []string{filepath.Join(r.path("vol"), "sub"), filepath.Join(root, "vol"), filepath.Join(root, "run/var/volume"), filepath.Join(root, "etc/word")} {
		r.check(os.Remove(name))
	}
	out = r.start("restore", "-d", "--image-path", r.path("images"), "c")
	r.eventually("words of the new sources", func() bool { return out.Scan() && out.Text() == "two" })
	if got := r.ok("exec", "c", "cat", "/tmp/file", "/etc/word", "/dev/shm/inner/word"); got != "kept\ntwo\ntwo\n" {
		t.Errorf("files: %q", got)
	}
	if got := r.ok("exec", "c", "sh", "-c", "cat /proc/timer_list | wc -c; (echo > /vol/sub/word) 2>/dev/null || echo read-only; grep criu /proc/self/mountinfo; true"); got != "0\nread-only\n" {
		t.Errorf("inside: %q", got)
	}
	r.ok("delete", "--force", "c")
	r.reap()
}

// TestCheckpointNamespacesAndHooks: an existing network namespace is used again, of the hooks those run that make the network,
// and loopback of a new one is up.
func TestCheckpointNamespacesAndHooks(t *testing.T) {
	r := newRig(t, counter...)
	r.needCriu()
	log := r.path("hooks")
	script := func(name string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo " + name + " $(cat) >> " + log}}}
	}
	r.spec.Hooks = &specs.Hooks{Prestart: script("prestart"), CreateRuntime: script("createRuntime"), Poststart: script("poststart"), Poststop: script("poststop")}
	r.writeConfig()
	words := func() (list []string) {
		for line := range strings.Lines(r.read("hooks")) {
			if f := strings.Fields(line); len(f) > 0 {
				list = append(list, f[0])
			}
		}
		r.check(os.Truncate(log, 0))
		return list
	}
	out := r.start("run", "-d", "c")
	r.count(out, 0, 2)
	r.ok("checkpoint", "--image-path", r.path("images"), "c")
	r.reap()
	if got := words(); !slices.Equal(got, []string{"prestart", "createRuntime", "poststart", "poststop"}) {
		t.Errorf("hooks of run and checkpoint: %q", got)
	}
	out = r.start("restore", "-d", "--image-path", r.path("images"), "c")
	if text, pid := r.read("hooks"), strconv.Itoa(r.state("c").Pid); !strings.Contains(text, pid) {
		t.Errorf("hooks without pid %s: %q", pid, text)
	}
	if got := words(); !slices.Equal(got, []string{"prestart", "createRuntime"}) {
		t.Errorf("hooks of restore: %q", got)
	}
	if got := r.ok("exec", "c", "ip", "addr", "show", "lo"); !strings.Contains(got, "127.0.0.1") {
		t.Errorf("loopback: %q", got)
	}
	r.ok("delete", "--force", "c")
	r.reap()
	if got := words(); !slices.Equal(got, []string{"poststop"}) {
		t.Errorf("hooks of delete: %q", got)
	}
	r.spec.Hooks = nil

	// Namespaces of somebody else's.
	holder := exec.Command("/bin/busybox", "sleep", "1000")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS}
	r.check(holder.Start())
	defer func() { holder.Process.Kill(); holder.Wait() }()
	ns := func(kind string) string { return "/proc/" + strconv.Itoa(holder.Process.Pid) + "/ns/" + kind }
	r.spec.Hostname = ""
	for i := range r.spec.Linux.Namespaces {
		switch n := &r.spec.Linux.Namespaces[i]; n.Type {
		case specs.NetworkNamespace:
			n.Path = ns("net")
		case specs.IPCNamespace:
			n.Path = ns("ipc")
		case specs.UTSNamespace:
			n.Path = ns("uts")
		}
	}
	r.writeConfig()
	out = r.start("run", "-d", "c")
	last := r.count(out, 0, 2)
	r.ok("checkpoint", "--image-path", r.path("joined"), "c")
	last = r.count(out, last, 0)
	r.reap()
	out = r.start("restore", "-d", "--image-path", r.path("joined"), "c")
	r.count(out, last, 2)
	pid := strconv.Itoa(r.state("c").Pid)
	for _, kind := range []string{"net", "ipc", "uts"} {
		theirs, err := os.Readlink(ns(kind))
		r.check(err)
		if own, err := os.Readlink("/proc/" + pid + "/ns/" + kind); err != nil || own != theirs {
			t.Errorf("%s namespace: %s, %v; want %s", kind, own, err, theirs)
		}
	}
	r.ok("delete", "--force", "c")
	r.reap()
}

// TestCheckpointSockets: open TCP connections need the option for them, at both ends of the way.
func TestCheckpointSockets(t *testing.T) {
	r := newRig(t, "sh", "-c", "nc 127.0.0.1 $PORT < /dev/zero > /dev/null & while :; do sleep 1; done")
	r.needCriu()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.check(err)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	r.spec.Process.Env = append(r.spec.Process.Env, "PORT="+port)
	r.spec.Linux.Namespaces = slices.DeleteFunc(r.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	r.spec.Mounts = r.spec.Mounts[:3] // sysfs belongs to a network namespace
	r.writeConfig()
	r.ok("run", "-d", "c")
	conn, err := l.Accept()
	r.check(err)
	defer conn.Close()
	read := func() {
		t.Helper()
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := io.ReadFull(conn, make([]byte, 1<<20)); err != nil {
			t.Fatalf("connection: %d bytes, %v", n, err)
		}
	}
	read()
	r.fails("Connected TCP socket, consider using --tcp-established option", "checkpoint", "--image-path", r.path("no"), "c")
	r.expect("c", specs.StateRunning)
	read()
	r.ok("checkpoint", "--tcp-established", "--image-path", r.path("images"), "c")
	r.reap()
	r.fails("", "restore", "-d", "--image-path", r.path("images"), "c")
	r.fails("container does not exist", "state", "c")
	r.ok("restore", "-d", "--tcp-established", "--image-path", r.path("images"), "c")
	read()
	r.ok("delete", "--force", "c")
	r.reap()
}

// TestCheckpointRefused: what cannot be done is said before anything is made, and harms nothing.
func TestCheckpointRefused(t *testing.T) {
	r := newRig(t, counter...)
	images := r.path("images")
	r.ok("create", "c")
	r.fails("criu is not installed", "checkpoint", "--image-path", images, "c")
	r.fails("criu is not installed", "restore", "--image-path", images, "d")
	r.fails("container does not exist", "state", "d")
	r.globals = []string{"--criu", "/nowhere/criu"}
	r.fails("/nowhere/criu", "checkpoint", "--image-path", images, "c")
	r.globals = nil
	r.needCriu()
	r.fails("container not running", "checkpoint", "--image-path", images, "c")
	r.ok("start", "c")
	r.fails("of a checkpoint is none of soft, full, strict, ignore", "checkpoint", "--manage-cgroups-mode", "some", "--image-path", images, "c")
	r.fails("is not supported; network is", "checkpoint", "--empty-ns", "uts", "--image-path", images, "c")
	r.fails("not ADDRESS:PORT", "checkpoint", "--page-server", "here", "--image-path", images, "c")
	r.fails("is not relative", "checkpoint", "--parent-path", "/tmp", "--image-path", images, "c")
	r.fails("no directory below", "checkpoint", "--parent-path", "../none", "--image-path", images, "c")
	r.fails("42 is not open", "checkpoint", "--lazy-pages", "--status-fd", "42", "--image-path", images, "c")
	if exists(images) {
		t.Error("there are images of a checkpoint that was refused")
	}
	r.fails("these are no images of a checkpoint", "restore", "--image-path", r.path("nothing"), "d")
	r.expect("c", specs.StateRunning)
	r.ok("delete", "--force", "c")
	r.reap()

	// Images that somebody has put something into.
	r.check(os.Mkdir(images, 0o700))
	r.check(os.WriteFile(filepath.Join(images, "descriptors.json"), []byte(`["pipe:[1]","x","x","pipe:[5]"]`), 0o600))
	r.fails("criu failed", "restore", "--image-path", images, "d")
	r.fails("container does not exist", "state", "d")
}

// TestCheckpointsOfRunc: what runc has dumped can be restored, and the other way round.
func TestCheckpointsOfRunc(t *testing.T) {
	for _, name := range []string{"runc first", "gosudacon first"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, counter...)
			r.needCriu()
			stdin := r.withPipes()
			r.spec.Mounts = append(r.spec.Mounts, specs.Mount{Destination: "/tmp", Type: "bind", Source: r.dir, Options: []string{"rbind", "ro"}})
			r.spec.Linux.MaskedPaths = []string{"/proc/timer_list", "/sys/firmware"}
			r.writeConfig()
			first, second := r.withRunc(), r
			if name != "runc first" {
				first, second = second, first
			}
			out := first.startWith(stdin, "run", "--detach", "c")
			last := r.count(out, 0, 3)
			first.ok("checkpoint", "--image-path", r.path("images"), "c")
			last = r.count(out, last, 0)
			r.reap()
			out = second.startWith(stdin, "restore", "--detach", "--image-path", r.path("images"), "c")
			r.count(out, last, 3)
			second.expect("c", specs.StateRunning)
			second.ok("delete", "--force", "c")
			r.reap()
		})
	}
}

// withPipes returns a pipe for the standard input: runc cannot dump a file of the host's.
func (r *rig) withPipes() *os.File {
	r.t.Helper()
	in, w, err := os.Pipe()
	r.check(err)
	r.t.Cleanup(func() { in.Close(); w.Close() })
	return in
}

// startWith is start with pipes for the other streams too.
func (r *rig) startWith(stdin *os.File, args ...string) *bufio.Scanner {
	r.t.Helper()
	out, w, err := os.Pipe()
	r.check(err)
	r.t.Cleanup(func() { out.Close() })
	cmd := r.command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, w, w
	res := r.finish(cmd)
	w.Close()
	out.SetReadDeadline(time.Now().Add(20 * time.Second))
	lines := bufio.NewScanner(out)
	if res.code != 0 {
		lines.Scan()
		r.t.Fatalf("%s %q: exit code %d: %s", r.program, args, res.code, lines.Text())
	}
	return lines
}

// TestRestoreUndone: processes that are there already when a restore fails, or is given up, go again, with everything else.
func TestRestoreUndone(t *testing.T) {
	r := newRig(t, counter...)
	r.needCriu()
	r.count(r.start("run", "-d", "c"), 0, 2)
	r.ok("checkpoint", "--image-path", r.path("images"), "c")
	r.reap()
	r.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat >/dev/null; echo no >&2; exit 3"}}}}
	r.writeConfig()
	r.fails("hooks.createRuntime[0] /bin/sh: exit status 3", "restore", "-d", "--image-path", r.path("images"), "c")
	r.fails("container does not exist", "state", "c")
	r.reap()

	r.spec.Hooks.CreateRuntime[0].Args = []string{"sh", "-c", "cat >/dev/null; touch " + r.path("waiting") + "; exec sleep 1000"}
	r.writeConfig()
	cmd := r.command("restore", "-d", "--image-path", r.path("images"), "c")
	r.check(cmd.Start())
	r.eventually("the hook runs", func() bool { return exists(r.path("waiting")) })
	r.check(cmd.Process.Signal(unix.SIGTERM))
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	r.fails("container does not exist", "state", "c")
	r.reap()
}

// TestRestoredCgroups: limits are those of the config, and a cgroup that the container has made is there again.
func TestRestoredCgroups(t *testing.T) {
	r := newRig(t, "sh", "-c", "mkdir /sys/fs/cgroup/pids/inner && echo 0 > /sys/fs/cgroup/pids/inner/cgroup.procs; "+counter[2])
	r.needCriu()
	limit := int64(64 << 20)
	r.spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	if r.isCgroup2() {
		r.spec.Process.Args[2] = strings.ReplaceAll(r.spec.Process.Args[2], "/sys/fs/cgroup/pids", "/sys/fs/cgroup")
	}
	r.spec.Linux.Namespaces = append(r.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	r.spec.Mounts = append(r.spec.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"rw"}})
	r.writeConfig()
	out := r.start("run", "-d", "c")
	last := r.count(out, 0, 2)
	r.ok("checkpoint", "--image-path", r.path("images"), "c")
	last = r.count(out, last, 0)
	r.reap()
	limit = 48 << 20
	r.spec.Linux.CgroupsPath = r.cgroups + "/other"
	r.writeConfig()
	out = r.start("restore", "-d", "--image-path", r.path("images"), "c")
	r.count(out, last, 2)
	text, err := os.ReadFile("/proc/" + strconv.Itoa(r.state("c").Pid) + "/cgroup")
	r.check(err)
	if !strings.Contains(string(text), "/other/inner") {
		t.Errorf("cgroups: %s", text)
	}
	if got := r.ok("events", "--stats", "c"); !strings.Contains(got, strconv.FormatInt(limit, 10)) {
		t.Errorf("figures without the limit %d: %s", limit, got)
	}
	r.ok("delete", "--force", "c")
	r.reap()
}

func (r *rig) isCgroup2() bool { return exists("/sys/fs/cgroup/cgroup.controllers") }

// TestCheckpointUserNamespace: ids are mapped as before.
func TestCheckpointUserNamespace(t *testing.T) {
	r := newRig(t, counter...)
	r.needCriu()
	r.spec.Linux.Namespaces = append(r.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	r.spec.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	r.spec.Linux.GIDMappings = r.spec.Linux.UIDMappings
	r.writeConfig()
	r.check(os.Chmod(r.dir, 0o755))
	r.check(os.Chmod(filepath.Dir(r.dir), 0o755))
	in := r.withPipes()
	out := r.startWith(in, "run", "-d", "c")
	last := r.count(out, 0, 2)
	r.ok("checkpoint", "--image-path", r.path("images"), "c")
	last = r.count(out, last, 0)
	r.reap()
	r.fails("Permission denied", "restore", "-d", "--image-path", r.path("images"), "c")
	if out, err := exec.Command("chmod", "-R", "a+rX", r.path("images")).CombinedOutput(); err != nil { // criu reads them as the container's root
		t.Fatalf("%v: %s", err, out)
	}
	out = r.startWith(in, "restore", "-d", "--image-path", r.path("images"), "c")
	r.count(out, last, 2)
	if got := r.ok("exec", "c", "sh", "-c", "id -u; cat /proc/1/uid_map; echo x > /dev/null && echo null"); strings.Join(strings.Fields(got), " ") != "0 0 100000 65536 null" {
		t.Errorf("inside: %q", got)
	}
	r.ok("delete", "--force", "c")
	r.reap()
}

// TestLazyPages: memory that comes when it is first used, from a daemon of criu's that reads the images.
func TestLazyPages(t *testing.T) {
	r := newRig(t, counter...)
	r.needCriu()
	out := r.start("run", "-d", "c")
	last := r.count(out, 0, 2)
	r.ok("checkpoint", "--image-path", r.path("images"), "c")
	last = r.count(out, last, 0)
	r.reap()
	r.check(os.Mkdir(r.path("work"), 0o700))
	daemon := exec.Command("criu", "lazy-pages", "--images-dir", r.path("images"), "--work-dir", r.path("work"), "--log-file", "lazy.log")
	r.check(daemon.Start())
	defer daemon.Process.Kill()
	r.eventually("criu's daemon listens", func() bool { return exists(r.path("work/lazy-pages.socket")) })
	out = r.start("restore", "-d", "--lazy-pages", "--image-path", r.path("images"), "--work-path", r.path("work"), "c")
	r.count(out, last, 5)
	r.check(daemon.Wait())
	r.ok("delete", "--force", "c")
	r.reap()
}

// TestPageServerOfADump: who waits is told when pages can be asked for. When whoever asks has all that he wants, the
// dump has ended.
func TestPageServerOfADump(t *testing.T) {
	r := newRig(t, counter...)
	r.needCriu()
	out := r.start("run", "-d", "c")
	r.count(out, 0, 2)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.check(err)
	address := l.Addr().String()
	l.Close()
	ready, w, err := os.Pipe()
	r.check(err)
	defer ready.Close()
	dump := r.command("checkpoint", "--lazy-pages", "--page-server", address, "--status-fd", "3", "--image-path", r.path("images"), "c")
	dump.ExtraFiles = []*os.File{w}
	r.check(dump.Start())
	defer dump.Process.Kill()
	w.Close()
	ready.SetReadDeadline(time.Now().Add(20 * time.Second))
	if b, err := io.ReadAll(ready); err != nil || string(b) != "\x00" {
		t.Fatalf("status: %q, %v", b, err)
	}
	conn, err := net.Dial("tcp", address)
	r.check(err)
	conn.Close()
	r.check(dump.Wait())
	r.fails("container does not exist", "state", "c")
	r.reap()
}

// TestPreDump: a dump after a pre-dump needs what has changed meanwhile only, if the kernel can tell.
func TestPreDump(t *testing.T) {
	r := newRig(t, counter...)
	r.needCriu()
	out := r.start("run", "-d", "c")
	last := r.count(out, 0, 2)
	res := r.run("checkpoint", "--pre-dump", "--image-path", r.path("images/one"), "c")
	if strings.Contains(res.err, "CONFIG_MEM_SOFT_DIRTY") {
		r.count(out, last, 2) // nothing has happened to it
		r.ok("delete", "--force", "c")
		r.reap()
		t.Skip("the kernel has no CONFIG_MEM_SOFT_DIRTY")
	}
	if res.code != 0 {
		t.Fatal(res.err)
	}
	last = r.count(out, last, 2)
	r.ok("checkpoint", "--parent-path", "../one", "--image-path", r.path("images/two"), "c")
	last = r.count(out, last, 0)
	r.reap()
	r.count(r.start("restore", "-d", "--image-path", r.path("images/two"), "c"), last, 3)
	r.ok("delete", "--force", "c")
	r.reap()
}

// withFlock gives the container a root file system of its own, with a /tmp, and the host's flock(1), which busybox has not.
func (r *rig) withFlock() {
	r.t.Helper()
	r.spec.Root.Path = r.path("own")
	r.check(os.Mkdir(r.spec.Root.Path, 0o755))
	if out, err := exec.Command("cp", "-a", shared.rootfs+"/.", r.spec.Root.Path).CombinedOutput(); err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
	r.spec.Mounts = append(r.spec.Mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"})
	for _, dir := range []string{"/usr", "/lib", "/lib64"} {
		if exists(dir) {
			r.spec.Mounts = append(r.spec.Mounts, specs.Mount{Destination: dir, Type: "bind", Source: dir, Options: []string{"bind", "ro"}})
		}
	}
}

// TestCheckpointFileLocks: a lock needs the option for the checkpoint, and for the restore, too, to be held again.
func TestCheckpointFileLocks(t *testing.T) {
	r := newRig(t, append([]string{"/usr/bin/flock", "/tmp/lock"}, counter...)...)
	r.needCriu()
	r.withFlock()
	r.writeConfig()
	out := r.start("run", "-d", "c")
	last := r.count(out, 0, 2)
	r.fails("file-locks", "checkpoint", "--image-path", r.path("no"), "c")
	last = r.count(out, last, 2)
	r.ok("checkpoint", "--file-locks", "--empty-ns", "network", "--image-path", r.path("images"), "c")
	last = r.count(out, last, 0)
	r.reap()
	out = r.start("restore", "-d", "--file-locks", "--empty-ns", "network", "--image-path", r.path("images"), "c")
	r.count(out, last, 2)
	if res := r.run("exec", "c", "/usr/bin/flock", "-n", "/tmp/lock", "true"); res.code != 1 {
		t.Errorf("the lock can be had: exit code %d: %s", res.code, res.err)
	}
	r.ok("delete", "--force", "c")
	r.reap()
}

// TestCheckpointUnixSockets: a socket that is connected to somebody outside needs the option for it, at both ends of the way.
func TestCheckpointUnixSockets(t *testing.T) {
	r := newRig(t, "sh", "-c", "while :; do echo word; sleep 0.1; done | logger")
	r.needCriu()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: r.path("log"), Net: "unixgram"})
	r.check(err)
	defer l.Close()
	// criu finds the other end in the network namespace of the container, and connects to it again by its name in the container's root.
	r.spec.Linux.Namespaces = slices.DeleteFunc(r.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	top, _, _ := strings.Cut(r.dir[1:], "/")
	r.spec.Mounts = append(r.spec.Mounts[:3], // sysfs belongs to a network namespace
		specs.Mount{Destination: "/" + top, Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: r.dir, Type: "bind", Source: r.dir, Options: []string{"rbind", "ro"}},
		specs.Mount{Destination: "/dev/log", Type: "bind", Source: r.path("log"), Options: []string{"bind"}})
	r.writeConfig()
	read := func() {
		t.Helper()
		r.check(l.SetReadDeadline(time.Now().Add(10 * time.Second)))
		buf := make([]byte, 1000)
		if n, err := l.Read(buf); err != nil || !strings.Contains(string(buf[:n]), "word") {
			t.Fatalf("logged: %q, %v", buf[:n], err)
		}
	}
	r.ok("run", "-d", "c")
	read()
	r.fails("ext-unix-sk", "checkpoint", "--image-path", r.path("no"), "c")
	r.expect("c", specs.StateRunning)
	read()
	r.ok("checkpoint", "--ext-unix-sk", "--image-path", r.path("images"), "c")
	r.reap()
	for r.check(l.SetReadDeadline(time.Now().Add(50 * time.Millisecond))); err == nil; { // what was written before
		_, err = l.Read(make([]byte, 1000))
	}
	r.ok("restore", "-d", "--ext-unix-sk", "--image-path", r.path("images"), "c")
	read()
	r.ok("delete", "--force", "c")
	r.reap()
}
