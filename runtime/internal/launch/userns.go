package launch

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// UserNamespace makes a user namespace with the given maps, for id-mapped mounts. The caller closes it.
//
// A namespace needs a process to be born in: a child that waits for the end of a pipe.
func UserNamespace(uid, gid []plan.IDMap) (int, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return -1, fmt.Errorf("make pipe: %w", err)
	}
	defer w.Close()
	defer r.Close()
	a := newAsm()
	a.call(unix.SYS_PRCTL, imm(unix.PR_SET_DUMPABLE), imm(0), imm(0), imm(0), imm(0))
	a.call(unix.SYS_CLOSE, imm(int(w.Fd())))
	a.call(unix.SYS_READ, imm(int(r.Fd())), a.scratch("answer", 8), imm(1))
	a.call(unix.SYS_EXIT_GROUP, imm(0))
	a.p.Init[regReport] = ^uint64(0)
	pid, pidfd, err := rawchild.Start(a.finish(), rawchild.Clone{Flags: unix.CLONE_NEWUSER, PidNS: -1})
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	defer func() {
		unix.Kill(pid, unix.SIGKILL)
		unix.Wait4(pid, nil, 0, nil)
	}()
	if err := mapIDs(pid, plan.MapIDs{UID: uid, GID: gid}); err != nil {
		return -1, fmt.Errorf("map ids: %w", err)
	}
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open user namespace: %w", err)
	}
	return ns, nil
}
