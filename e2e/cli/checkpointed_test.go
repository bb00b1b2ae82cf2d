package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ticker is a program that keeps a number in memory and prints it, again and again.
var ticker = []string{"sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"}

// ticking is a container whose program is the ticker: the numbers that it prints, and the last one read.
type ticking struct {
	lines *bufio.Scanner
	last  int
}

// launch carries out run or restore of a container that stays, with pipes for its output: other files of the host's are not in a
// checkpoint. What it prints is read from the reader.
func (a *attempt) launch(args ...string) *os.File {
	a.t.Helper()
	return a.launched(a.command(args...))
}

func (a *attempt) launched(cmd *exec.Cmd) *os.File {
	a.t.Helper()
	out, w, err := os.Pipe()
	a.check(err)
	a.t.Cleanup(func() { out.Close() })
	cmd.Stdout, cmd.Stderr = w, w
	res := a.finish(cmd)
	w.Close()
	out.SetReadDeadline(time.Now().Add(20 * time.Second))
	if res.code != 0 {
		text, _ := io.ReadAll(out)
		panic(disappointment{unknownOption.Match(text), fmt.Sprintf("%q: %s", cmd.Args, text)})
	}
	return out
}

// ticks starts the ticker.
func (a *attempt) ticks(change ...func(*specs.Spec)) *ticking {
	a.spec.Process.Args = ticker
	for _, f := range change {
		f(a.spec)
	}
	a.writeConfig()
	tick := &ticking{}
	a.goesOn(tick, a.launch("run", "--detach", "c"))
	return tick
}

// goesOn reads some numbers, from a new reader unless it is nil.
func (a *attempt) goesOn(tick *ticking, out *os.File) {
	if out != nil {
		tick.lines = bufio.NewScanner(out)
	}
	for range 3 {
		a.want(tick.lines.Scan(), "the program has ended after %d: %v", tick.last, tick.lines.Err())
		n, err := strconv.Atoi(tick.lines.Text())
		a.want(err == nil && n == tick.last+1, "%q after %d", tick.lines.Text(), tick.last)
		tick.last = n
	}
}

// ends reads numbers until there are no more.
func (a *attempt) ends(tick *ticking) {
	for tick.lines.Scan() {
		tick.last, _ = strconv.Atoi(tick.lines.Text())
	}
	a.want(tick.lines.Err() == nil, "it goes on: %v", tick.lines.Err())
	a.reap()
}

// dump makes a checkpoint in images.
func (a *attempt) dump(options ...string) {
	a.do(slices.Concat([]string{"checkpoint", "--image-path", a.path("images")}, options, []string{"c"})...)
	a.reap()
}

// needs makes a checkpoint that fails, for a reason of criu's, without an option.
func (a *attempt) needs(option, reason string) {
	a.criuRefuses(reason, "checkpoint", "--image-path", a.path("no"), "c")
	a.dump(option)
}

// restore restores it, to stay.
func (a *attempt) restore(options ...string) *os.File {
	return a.launch(slices.Concat([]string{"restore", "--detach", "--image-path", a.path("images")}, options, []string{"c"})...)
}

// restoreFails is a restore that fails for a reason of criu's. It is that of another container: crun does not clean up well.
func (a *attempt) restoreFails(reason string, options ...string) {
	path := a.spec.Linux.CgroupsPath
	a.spec.Linux.CgroupsPath = a.cgroups + "/other"
	a.writeConfig()
	a.criuRefuses(reason, slices.Concat([]string{"restore", "--detach", "--image-path", a.path("images")}, options, []string{"other"})...)
	a.rig.run("delete", "--force", "other")
	a.spec.Linux.CgroupsPath = path
	a.writeConfig()
}

// criuRefuses is a command that fails for a reason of criu's, which it tells or has in a log below the rig's directory.
func (a *attempt) criuRefuses(reason string, args ...string) {
	res := a.rig.run(args...)
	said := res.out + res.err
	for _, name := range []string{"dump.log", "restore.log"} {
		logs, _ := filepath.Glob(a.path("*/" + name))
		for _, log := range logs {
			text, _ := os.ReadFile(log)
			said += string(text)
		}
	}
	if unknownOption.MatchString(res.err) {
		panic(disappointment{unknown: true, why: res.err})
	}
	said = strings.ReplaceAll(said, a.dir, "") // which has the option's name
	a.want(res.code != 0 && strings.Contains(said, reason), "%q: exit code %d, without %q: %s", args, res.code, reason, res.err)
}

// gone looks whether a checkpoint has removed the container.
func (a *attempt) gone() {
	a.want(a.rig.run("state", "c").code != 0, "the container is still there")
}

// tracksMemory tells whether criu can know on this kernel what has changed.
func tracksMemory() bool {
	return exec.Command("criu", "check", "--feature", "mem_dirty_track").Run() == nil
}

// refusesToTrack is a checkpoint that fails for that.
func (a *attempt) refusesToTrack(options ...string) {
	res := a.rig.run(slices.Concat([]string{"checkpoint", "--image-path", a.path("images")}, options, []string{"c"})...)
	reason := regexp.MustCompile(`CONFIG_MEM_SOFT_DIRTY|MemTrack|memory tracking not supported|Tracking memory is not available`) // gosudacon, runc, crun, criu
	a.want(res.code != 0 && reason.MatchString(res.err), "%+v", res)
}

// hostNetwork leaves a container in the network namespace of the host.
func hostNetwork(s *specs.Spec) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	s.Mounts = s.Mounts[:3] // sysfs belongs to a network namespace
}

// connects starts a container that prints what this process sends on a connection, which is idle otherwise.
func (a *attempt) connects() net.Conn {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	a.check(err)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	hostNetwork(a.spec)
	a.spec.Process.Args = []string{"sh", "-c", "sleep 1000 | nc 127.0.0.1 " + port}
	a.writeConfig()
	out := a.launch("run", "--detach", "c")
	conn, err := l.Accept()
	a.check(err)
	a.t.Cleanup(func() { conn.Close() })
	a.carries(conn, out, "one")
	return conn
}

// carries looks whether the container prints a word that is sent to it.
func (a *attempt) carries(conn io.Writer, out *os.File, word string) {
	_, err := io.WriteString(conn, word+"\n")
	a.want(err == nil, "%v", err)
	line, err := bufio.NewReader(out).ReadString('\n')
	a.want(line == word+"\n", "%q, %v", line, err)
}

// listens starts a container with a listening socket, which somebody has connected to.
func (a *attempt) listens() {
	config := net.ListenConfig{}
	config.SetMultipathTCP(false) // which criu does not know
	l, err := config.Listen(a.t.Context(), "tcp", "127.0.0.1:0")
	a.check(err)
	f, err := l.(*net.TCPListener).File()
	a.check(err)
	address := l.Addr().String()
	l.Close()
	hostNetwork(a.spec)
	a.spec.Process.Args = []string{"sleep", "1000"}
	a.writeConfig()
	cmd := a.command("run", "--detach", "--preserve-fds", "1", "c")
	cmd.ExtraFiles = []*os.File{f}
	a.launched(cmd)
	conn, err := net.Dial("tcp", address)
	a.check(err)
	a.t.Cleanup(func() { conn.Close() })
	f.Close()
}

// logs starts a container that sends words to a datagram socket of this process.
func (a *attempt) logs() *net.UnixConn {
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: a.path("log"), Net: "unixgram"})
	a.check(err)
	a.t.Cleanup(func() { l.Close() })
	hostNetwork(a.spec)
	// criu connects to it again by its name in the container's root.
	top, _, _ := strings.Cut(a.dir[1:], "/")
	a.spec.Mounts = append(a.spec.Mounts,
		specs.Mount{Destination: "/" + top, Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: a.dir, Type: "bind", Source: a.dir, Options: []string{"rbind", "ro"}},
		specs.Mount{Destination: "/dev/log", Type: "bind", Source: a.path("log"), Options: []string{"bind"}})
	a.spec.Process.Args = []string{"sh", "-c", "while :; do echo word; sleep 0.1; done | logger"}
	a.writeConfig()
	a.launch("run", "--detach", "c")
	a.logged(l)
	return l
}

// logged reads a word.
func (a *attempt) logged(l *net.UnixConn) {
	a.check(l.SetReadDeadline(time.Now().Add(10 * time.Second)))
	buf := make([]byte, 1000)
	n, err := l.Read(buf)
	a.want(err == nil && bytes.Contains(buf[:n], []byte("word")), "logged: %q, %v", buf[:n], err)
}

// onTerminal starts a container whose standard input is a terminal of this process, and which prints what it reads.
func (a *attempt) onTerminal() pty {
	p := openPty(a.t)
	a.t.Cleanup(func() { p.slave.Close() })
	a.spec.Process.Args = []string{"sh", "-c", "while read line; do echo $line; done"}
	a.writeConfig()
	cmd := a.command("run", "--detach", "c")
	cmd.Stdin = p.slave
	a.carries(p.master, a.launched(cmd), "one")
	return p
}

// locks starts a container that holds a lock on a file, and ticks.
func (a *attempt) locks() *ticking {
	a.withFlock()
	for i := range a.spec.Mounts { // runc and crun do not restore what is bound from a symbolic link
		if m := &a.spec.Mounts[i]; m.Type == "bind" {
			source, err := filepath.EvalSymlinks(m.Source)
			a.check(err)
			m.Source = source
		}
	}
	return a.ticks(func(s *specs.Spec) { s.Process.Args = append([]string{"/usr/bin/flock", "/tmp/lock"}, ticker...) })
}

// remapped has the ticker hold a file whose name was removed, and that still has another.
func remapped(s *specs.Spec) {
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"})
	s.Process.Args = []string{"sh", "-c", "echo x > /tmp/a; ln /tmp/a /tmp/b; exec 4< /tmp/a; rm /tmp/a; " + ticker[2]}
}

// freeAddress is where nobody listens.
func (a *attempt) freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	a.check(err)
	defer l.Close()
	return l.Addr().String()
}

// pageServerOfADump makes a checkpoint whose memory is to be asked for.
func (a *attempt) pageServerOfADump(status bool) {
	a.ticks()
	if !status {
		a.do("checkpoint", "--leave-running", "--image-path", a.path("all"), "c")
	}
	address := a.freeAddress()
	ready, w, err := os.Pipe()
	a.check(err)
	defer ready.Close()
	args := []string{"checkpoint", "--lazy-pages", "--page-server", address, "--image-path", a.path("images")}
	if status {
		args = append(args, "--status-fd", "3")
	}
	dump := a.command(append(args, "c")...)
	dump.ExtraFiles = []*os.File{w}
	text, err := os.Create(a.path("text"))
	a.check(err)
	defer text.Close()
	dump.Stdout, dump.Stderr = text, text
	a.check(dump.Start())
	w.Close()
	ended := make(chan struct{})
	go func() { dump.Wait(); close(ended) }()
	defer func() { dump.Process.Kill(); <-ended }()
	if status {
		ready.SetReadDeadline(time.Now().Add(20 * time.Second))
		b, err := io.ReadAll(ready)
		if err != nil || string(b) != "\x00" {
			panic(disappointment{unknownOption.MatchString(a.read("text")), "status: " + string(b) + a.read("text")})
		}
	}
	var conn net.Conn
	for range 400 {
		if conn, err = net.Dial("tcp", address); err == nil || unknownOption.MatchString(a.read("text")) {
			break
		}
		pause(10)
	}
	if err != nil {
		panic(disappointment{unknownOption.MatchString(a.read("text")), err.Error() + a.read("text")})
	}
	conn.Close()
	<-ended
	a.want(dump.ProcessState.ExitCode() == 0, "%s", a.read("text"))
	if !status {
		a.want(a.pages("images") < a.pages("all"), "%d bytes of memory in the images of %d", a.pages("images"), a.pages("all"))
	}
	a.reap()
}

// pages is how many bytes of memory are in images.
func (a *attempt) pages(dir string) (n int64) {
	list, _ := filepath.Glob(a.path(dir + "/pages-*.img"))
	for _, name := range list {
		var st unix.Stat_t
		a.check(unix.Stat(name, &st))
		n += st.Blocks * 512
	}
	return n
}

// pageServer starts criu's, for one dump.
func (a *attempt) pageServer() (address string, stop func()) {
	address = a.freeAddress()
	_, port, _ := net.SplitHostPort(address)
	a.check(os.Mkdir(a.path("pages"), 0o700))
	ready, w, err := os.Pipe()
	a.check(err)
	defer ready.Close()
	cmd := exec.Command("criu", "page-server", "--images-dir", a.path("pages"), "--address", "127.0.0.1", "--port", port, "--status-fd", "3", "--log-file", "server.log")
	cmd.ExtraFiles = []*os.File{w}
	a.check(cmd.Start())
	w.Close()
	ready.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err = io.ReadFull(ready, make([]byte, 1))
	a.check(err)
	return address, func() { cmd.Process.Kill(); cmd.Wait() }
}

// checkpointed starts the ticker and makes a checkpoint of it.
func (a *attempt) checkpointed(change ...func(*specs.Spec)) *ticking {
	tick := a.ticks(change...)
	a.dump()
	a.ends(tick)
	return tick
}

// terminalGoesOn reads some numbers from a terminal.
func (a *attempt) terminalGoesOn(tick *ticking, master *os.File) {
	for range 3 {
		var line []byte
		for b := make([]byte, 1); ; line = append(line, b[0]) {
			_, err := master.Read(b)
			a.want(err == nil, "terminal: %v", err)
			if b[0] == '\n' {
				break
			}
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(line)))
		a.want(err == nil && n > tick.last, "%q after %d", line, tick.last)
		tick.last = n
	}
}

// logEnds has reads of the socket end.
func (a *attempt) logEnds(l *net.UnixConn) error {
	return l.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
}

// foreground restores in the foreground, ends the container and returns the exit code of the command.
func (a *attempt) foreground(options ...string) int {
	tick := a.checkpointed(func(s *specs.Spec) { s.Process.Args = []string{"sh", "-c", "trap 'exit 7' TERM; " + ticker[2]} })
	out, w, err := os.Pipe()
	a.check(err)
	defer out.Close()
	cmd := a.command(slices.Concat([]string{"restore", "--image-path", a.path("images")}, options, []string{"c"})...)
	cmd.Stdout, cmd.Stderr = w, w
	a.check(cmd.Start())
	w.Close()
	out.SetReadDeadline(time.Now().Add(20 * time.Second))
	alarm := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer alarm.Stop()
	tick.lines = bufio.NewScanner(out)
	if !tick.lines.Scan() || tick.lines.Text() != strconv.Itoa(tick.last+1) {
		text := tick.lines.Text()
		for tick.lines.Scan() {
			text += tick.lines.Text()
		}
		cmd.Wait()
		panic(disappointment{unknownOption.MatchString(text), text})
	}
	a.do("kill", "c", "TERM")
	io.Copy(io.Discard, out)
	cmd.Wait()
	return cmd.ProcessState.ExitCode()
}
