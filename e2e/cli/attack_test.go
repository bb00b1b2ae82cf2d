package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
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
