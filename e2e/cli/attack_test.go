package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestProgramCannotBeOverwritten plays a container that keeps a handle on the program that its first process has before execve, and
// writes to it when nobody executes it any more (CVE-2019-5736).
func TestProgramCannotBeOverwritten(t *testing.T) {
	r := newRig(t, "true")
	// A copy of our own: nobody else executes it, so that only the mount protects it.
	program, err := os.ReadFile(r.program)
	r.check(err)
	r.program = filepath.Join(r.dir, "gosudacon")
	r.check(os.WriteFile(r.program, program, 0o755))

	r.ok("create", "c")
	handle, err := os.Open("/proc/" + strconv.Itoa(r.state("c").Pid) + "/exe")
	r.check(err)
	defer handle.Close()
	var host, held unix.Stat_t
	r.check(errors.Join(unix.Stat(r.program, &host), unix.Fstat(int(handle.Fd()), &held)))
	if host.Ino != held.Ino || host.Dev != held.Dev {
		t.Error("the first process does not execute the program's file: this test attacks something else")
	}
	r.ok("delete", "c")
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(handle.Fd())), os.O_WRONLY, 0)
	if err == nil {
		f.Close()
	}
	if !errors.Is(err, unix.EROFS) {
		t.Errorf("open for writing: %v, want EROFS", err)
	}
	// Who owns the file can still replace its content, as an update does.
	r.check(os.WriteFile(r.program, program, 0o755))
}

// TestSealedBeforeGo: the commands that make processes run from the protected mount, which nothing but their first instructions brought
// about: the Go runtime starts once, and the process is called what its user called.
func TestSealedBeforeGo(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	r.env = []string{"GODEBUG=inittrace=1"} // a line for each initialized package
	starts := func(args ...string) int {
		res := r.run(args...)
		return strings.Count(res.err, "init runtime @")
	}
	for _, command := range [][]string{{"create", "c"}, {"start", "c"}, {"exec", "c", "true"}, {"state", "c"}, {"delete", "--force", "c"}, {"run", "--detach", "c"}, {"restore", "nosuch"}} {
		if n := starts(command...); n != 1 {
			t.Errorf("%q started the Go runtime %d times", command, n)
		}
	}
	r.ok("delete", "--force", "c")

	r.env = nil
	cmd := r.command("run", "c")
	r.check(cmd.Start())
	r.eventually("the container runs", func() bool { return r.run("state", "c").code == 0 && r.state("c").Status == "running" })
	proc := "/proc/" + strconv.Itoa(cmd.Process.Pid)
	if name, err := os.ReadFile(proc + "/comm"); err != nil || string(name) != "gosudacon\n" {
		t.Errorf("the process is called %q, %v", name, err)
	}
	if file, err := os.Readlink(proc + "/exe"); err != nil || file != "/" {
		t.Errorf("the program's file is %q, %v; want one on a mount without a path", file, err)
	}
	r.ok("kill", "c", "KILL")
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 137 {
		t.Error(err)
	}
}
