package cli

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// desk is a place with several terminals, for what a person types. It has a home, a /run and a /usr/local/bin of its own, and a pid
// namespace, at whose end all that runs there does.
type desk struct {
	t, whole  *testing.T // of the section, and of all
	dir, home string
	pid       string // of the first process
	terminals map[string]*typist
}

// standIn plays debootstrap.
const standIn = `#!/bin/sh
for target; do :; done
mkdir -p "$target"
cp -a "$ROOTFS/." "$target"
echo 12.11 > "$target/etc/debian_version"
echo I: Base system installed successfully.
`

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, whole: t, dir: t.TempDir(), terminals: map[string]*typist{}}
	d.home = filepath.Join(d.dir, "home")
	bin := filepath.Join(d.dir, "bin")
	d.check(os.MkdirAll(bin, 0o755))
	d.check(os.Mkdir(d.home, 0o755))
	d.check(os.Symlink(shared.gosudacon, filepath.Join(bin, "gosudacon")))
	d.check(os.WriteFile(filepath.Join(bin, "debootstrap"), []byte(standIn), 0o755))
	// The first process reaps what is left to it, as a machine's does.
	first := exec.Command("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
		`mount -t tmpfs tmpfs /run && mount --bind "$0" /usr/local/bin && echo ready && while :; do sleep 1000 & wait; done`, bin)
	out, err := first.StdoutPipe()
	d.check(err)
	first.Stderr = os.Stderr
	d.check(first.Start())
	t.Cleanup(func() {
		first.Process.Kill()
		first.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("namespaces for the tutorials: %q, %v", line, err)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", first.Process.Pid))
	d.check(err)
	d.pid = strings.TrimSpace(string(children))
	return d
}

func (d *desk) check(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// command is a program that runs there.
func (d *desk) command(args ...string) *exec.Cmd {
	golang, err := exec.LookPath("go")
	d.check(err)
	if golang, err = filepath.EvalSymlinks(golang); err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.Command("nsenter", append([]string{"--target", d.pid, "--mount", "--pid", "--wd=" + d.home}, args...)...)
	cmd.Env = []string{"HOME=" + d.home, "PS1=# ", "TERM=xterm", "ROOTFS=" + shared.rootfs,
		"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:" + filepath.Dir(golang)}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} { // not below the home there
		out, err := exec.Command("go", "env", name).Output()
		d.check(err)
		cmd.Env = append(cmd.Env, name+"="+strings.TrimSpace(string(out)))
	}
	return cmd
}

// shell carries out a command that nobody types.
func (d *desk) shell(script string) string {
	out, _ := d.command("sh", "-c", script).CombinedOutput()
	return string(out)
}

// save does what a document says with "save this as": relative names are below the home.
func (d *desk) save(name, text string) {
	d.t.Helper()
	if base, ok := strings.CutPrefix(name, "/usr/local/bin/"); ok {
		name = filepath.Join(d.dir, "bin", base)
	} else {
		name = filepath.Join(d.home, name)
	}
	d.check(os.WriteFile(name, []byte(text), 0o755))
}

// play types the commands of a block and compares.
func (d *desk) play(b block) {
	d.t.Helper()
	term := d.terminals[b.terminal]
	if term == nil || term.closed() {
		term = d.open()
		d.terminals[b.terminal] = term
	}
	steps := b.steps()
	for i, s := range steps {
		want := s.pattern()
		got, ok := term.command(s.command, want, b.wait && i == len(steps)-1)
		if !ok {
			d.t.Fatalf("terminal %s: %s\nprinted  %q\nwant     %q", b.terminal, s.command, got, want)
		}
	}
}

// typist is a terminal with a shell, and what types there.
type typist struct {
	d      *desk
	master *os.File
	output chan string // closed when no process has the terminal any more
	text   string      // what was read since the last command
	ended  bool
}

func (d *desk) open() *typist {
	d.t.Helper()
	p := openPty(d.whole)
	// Wide enough for any line.
	d.check(unix.IoctlSetWinsize(int(p.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 2000}))
	cmd := d.command("bash", "--norc", "--noediting", "-i")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.slave, p.slave, p.slave
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	d.check(cmd.Start())
	d.check(p.slave.Close())
	term := &typist{d: d, master: p.master, output: make(chan string)}
	go func() {
		defer close(term.output)
		defer cmd.Wait() // its namespace ends, at the latest
		buf := make([]byte, 4096)
		for {
			n, err := p.master.Read(buf)
			if err != nil {
				return
			}
			term.output <- string(buf[:n])
		}
	}()
	return term
}

var (
	escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]|\r")
	prompt  = regexp.MustCompile(`(?m)^(/ )?# `) // of bash and dash, and of busybox
	blanks  = regexp.MustCompile(` +`)
	banner  = regexp.MustCompile("^\n\nBusyBox .*\nEnter 'help' .*\n\n") // which Debian's shell does not have
)

// read waits until ok says so of what was printed, or for ten seconds, or until the terminal is closed.
func (y *typist) read(ok func(text string) bool) bool {
	alarm := time.After(10 * time.Second)
	for {
		text := blanks.ReplaceAllString(escapes.ReplaceAllString(y.text, ""), " ")
		if ok(text) {
			return true
		}
		select {
		case more, open := <-y.output:
			if !open {
				y.ended = true
				return false
			}
			y.text += more
		case <-alarm:
			return false
		}
	}
}

// command types a command at the prompt and reads until it has printed what it should, and the prompt has come. What a container
// prints may come after the prompt. goesOn: there will be no prompt.
func (y *typist) command(line string, want *regexp.Regexp, goesOn bool) (printed string, ok bool) {
	if !y.read(prompt.MatchString) {
		return "no prompt after " + y.text, false
	}
	time.Sleep(100 * time.Millisecond) // people are slow
	y.text = ""
	if _, err := y.master.WriteString(line + "\n"); err != nil {
		return err.Error(), false
	}
	y.read(func(text string) bool {
		_, text, _ = strings.Cut(text, "\n") // the line itself
		printed = banner.ReplaceAllString(strings.ReplaceAll(prompt.ReplaceAllString(text, ""), y.d.home, "/root"), "")
		ok = want.MatchString(printed) && (goesOn || prompt.MatchString(text))
		return ok
	})
	return printed, ok || y.closed() && line == "exit"
}

func (y *typist) closed() bool { return y.ended }
