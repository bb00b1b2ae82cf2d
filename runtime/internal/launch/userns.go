package launch

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

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
		unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED, nil) // unless the reaper of orphans was faster
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

// mapIDs writes the maps of a new user namespace, each in one write as the kernel wants it.
func mapIDs(pid int, m plan.MapIDs) error {
	for _, one := range idMapFiles(m.UID, m.GID) {
		var b strings.Builder
		for _, e := range one.maps {
			fmt.Fprintf(&b, "%d %d %d\n", e.Container, e.Host, e.Size)
		}
		err := writeProc(pid, one.file, b.String())
		if errors.Is(err, unix.EINVAL) && b.Len() >= os.Getpagesize() {
			return fmt.Errorf("%w: the %d entries take %d bytes, the kernel takes less than a page", err, len(one.maps), b.Len())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkIDs compares the maps of a process's user namespace with the wanted ones, in any order.
func checkIDs(pid int, want plan.CheckIDs) error {
	for _, one := range idMapFiles(want.UID, want.GID) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, one.file))
		if err != nil {
			return err
		}
		var have []plan.IDMap
		for line := range strings.Lines(string(text)) {
			var e plan.IDMap
			if _, err := fmt.Sscan(line, &e.Container, &e.Host, &e.Size); err != nil {
				return fmt.Errorf("%s of the user namespace: %q: %w", one.file, line, err)
			}
			have = append(have, e)
		}
		byID := func(a, b plan.IDMap) int { return cmp.Compare(a.Container, b.Container) }
		slices.SortFunc(have, byID)
		if !slices.Equal(have, slices.SortedFunc(slices.Values(one.maps), byID)) {
			return fmt.Errorf("%s of the user namespace is %s", one.file, plan.FormatMaps(have))
		}
	}
	return nil
}

type idMapFile struct {
	file string // in /proc/PID
	maps []plan.IDMap
}

func idMapFiles(uid, gid []plan.IDMap) []idMapFile {
	return []idMapFile{{"uid_map", uid}, {"gid_map", gid}}
}
