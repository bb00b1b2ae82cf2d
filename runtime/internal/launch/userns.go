package launch

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
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
	for _, m := range idMapFiles(uid, gid) {
		if err := m.write(pid); err != nil {
			return -1, fmt.Errorf("map ids: %w", err)
		}
	}
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open user namespace: %w", err)
	}
	return ns, nil
}

// write writes the map of a process's new user namespace, in one write as the kernel wants it.
func (m idMapFile) write(pid int) error {
	var b strings.Builder
	for _, e := range m.maps {
		fmt.Fprintf(&b, "%d %d %d\n", e.Container, e.Host, e.Size)
	}
	err := writeProc(pid, m.file, b.String())
	if errors.Is(err, unix.EINVAL) && b.Len() >= os.Getpagesize() {
		return fmt.Errorf("%w: the %d entries take %d bytes, the kernel takes less than a page", err, len(m.maps), b.Len())
	}
	return err
}

// mapIDs gives the child's new user namespace its maps.
func (f *flight) mapIDs(ctx context.Context, a plan.MapIDs) error {
	if a.DenyGroups {
		if err := writeProc(f.child.Pid, "setgroups", "deny"); err != nil {
			return err
		}
	}
	for _, m := range idMapFiles(a.UID, a.GID) {
		var err error
		switch {
		case m.file == "uid_map" && a.UIDTool:
			err = f.runMapTool(ctx, "newuidmap", "/etc/subuid", m.maps)
		case m.file == "gid_map" && a.GIDTool:
			err = f.runMapTool(ctx, "newgidmap", "/etc/subgid", m.maps)
		default:
			err = m.write(f.child.Pid)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// runMapTool has newuidmap(1) or newgidmap(1), which are privileged, write a map: they allow what the file gives to the user, and
// the user's own id.
func (f *flight) runMapTool(ctx context.Context, tool, file string, maps []plan.IDMap) error {
	args := []string{strconv.Itoa(f.child.Pid)}
	for _, m := range maps {
		for _, n := range []uint32{m.Container, m.Host, m.Size} {
			args = append(args, strconv.FormatUint(uint64(n), 10))
		}
	}
	cmd := exec.CommandContext(ctx, tool, args...)
	if cmd.Err != nil {
		return fmt.Errorf("other ids than the user's own are mapped by the program %s, of Debian's package uidmap: %w", tool, cmd.Err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	wait, err := f.r.Children.Start(cmd)
	if err == nil {
		err = wait()
	}
	if err != nil {
		text := strings.ReplaceAll(strings.TrimSpace(said.String()), "\n", "; ")
		return fmt.Errorf("%s: %w: %s (it maps the ids that %s gives to the user, and the user's own)", tool, err, text, file)
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
