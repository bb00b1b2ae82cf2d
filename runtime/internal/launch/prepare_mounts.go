package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

func (p *prepared) bind(i int, b plan.Bind) error {
	fd, err := openTree(b.Source, b.Recursive)
	if err != nil {
		return err
	}
	p.take(i, fd)
	if p.isDir[i], err = isDirectory(fd); err != nil {
		return err
	}
	if b.Proc {
		if err := isProc(fd); err != nil {
			return fmt.Errorf("%s: %w", b.Source, err)
		}
	}
	// The copy is a peer of the host's mount: cut the tie before the container sees it, unless the config says otherwise.
	if !b.Recursive && b.IDMap == nil && b.RecAttr == (plan.AttrChange{}) {
		return setattr(fd, true, b.Attr.Set, b.Attr.Clear, b.Base) // of one mount, all at once
	}
	if err := setattr(fd, true, 0, 0, b.Base); err != nil {
		return err
	}
	if b.IDMap != nil {
		if err := p.setIDMap(fd, b.IDMap); err != nil {
			return err
		}
	}
	if c := b.Attr; c.Set != 0 || c.Clear != 0 {
		if err := setattr(fd, false, c.Set, c.Clear, 0); err != nil {
			return err
		}
	}
	if c := b.RecAttr; c.Set != 0 || c.Clear != 0 {
		return setattr(fd, true, c.Set, c.Clear, 0)
	}
	return nil
}

// fs makes what a new file system needs of the caller.
func (p *prepared) fs(i int, m plan.MountFS) error {
	if m.OrBind != "" {
		fd, err := openTree(m.OrBind, false)
		if errors.Is(err, unix.EINVAL) { // what lies on it may not be uncovered by this user namespace
			fd, err = openTree(m.OrBind, true)
		}
		if err != nil {
			return err
		}
		p.take(i, fd)
		// It is all of the host's, not the part that the kernel would show the container (CVE-2023-25809).
		return setattr(fd, true, m.Attr|plan.AttrReadOnly, 0, plan.Private)
	}
	if !m.ByCaller() {
		return nil
	}
	fd, err := newFS(m)
	if err != nil {
		return err
	}
	p.take(i, fd)
	if m.IDMap == nil || m.CopyUp { // which comes first: see copyUp
		return nil
	}
	return p.setIDMap(fd, m.IDMap)
}

// fsParams returns what fsconfig(2) is told of a file system.
func fsParams(m plan.MountFS) []plan.FSParam {
	params := append([]plan.FSParam{{Key: "source", Value: m.Source}}, m.Params...)
	for _, name := range (m.Super &^ plan.Silent).Names() {
		params = append(params, plan.FSParam{Key: name})
	}
	if m.Label != "" {
		params = append(params, plan.FSParam{Key: "context", Value: m.Label})
	}
	return params
}

// newFS makes a detached mount of a new file system.
func newFS(m plan.MountFS) (int, error) {
	ctx, err := unix.Fsopen(m.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen %s: %w", m.Type, err)
	}
	defer unix.Close(ctx)
	for _, kv := range fsParams(m) {
		if kv.Value == "" && kv.Key != "source" {
			err = unix.FsconfigSetFlag(ctx, kv.Key)
		} else {
			err = unix.FsconfigSetString(ctx, kv.Key, kv.Value)
		}
		if err != nil {
			return -1, fmt.Errorf("fsconfig %s %s: %w", m.Type, kv, err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return -1, fmt.Errorf("fsconfig %s: %w", m.Type, err)
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, int(m.Attr))
	if err != nil {
		return -1, fmt.Errorf("fsmount %s: %w", m.Type, err)
	}
	return fd, nil
}

// setIDMap maps the ids of a detached mount that nobody has seen yet.
func (p *prepared) setIDMap(fd int, m *plan.MountIDMap) error {
	ns, err := p.userNS(m)
	if err != nil {
		return err
	}
	flags := uint(unix.AT_EMPTY_PATH)
	if m.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)}
	if err := unix.MountSetattr(fd, "", flags, &attr); err != nil {
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("mount_setattr idmap: this kernel cannot map the ids of this file system: %w", err)
		}
		return fmt.Errorf("mount_setattr idmap: %w", err)
	}
	return nil
}

// userNS returns the user namespace of a mapping; the mounts that ask for the same share one, which the child does not keep.
func (p *prepared) userNS(m *plan.MountIDMap) (int, error) {
	key := m.UserNS + fmt.Sprint(m.UID, m.GID)
	if fd, ok := p.userNSs[key]; ok {
		return fd, nil
	}
	var fd int
	var err error
	if m.UserNS != "" {
		fd, err = openNamespace(m.UserNS, plan.NewUser)
	} else {
		fd, err = UserNamespace(m.UID, m.GID)
	}
	if err != nil {
		return -1, err
	}
	if p.userNSs == nil {
		p.userNSs = map[string]int{}
	}
	p.userNSs[key] = fd
	return fd, nil
}

// wholeAtime returns what to clear: the kernel wants the whole field of access times cleared to set one of its values.
func wholeAtime(set, clear plan.Attr) plan.Attr {
	if (set|clear)&plan.AttrAtime != 0 {
		clear |= plan.AttrAtime
	}
	return clear
}

// setattr changes a mount, or all below it.
func setattr(fd int, recursive bool, set, clear plan.Attr, prop plan.Propagation) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := unix.MountAttr{Attr_set: uint64(set), Attr_clr: uint64(wholeAtime(set, clear)), Propagation: uint64(prop &^ plan.Recursive)}
	if err := unix.MountSetattr(fd, "", flags, &attr); err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	return nil
}

// openTree returns a detached copy of the mount at a path of the host.
func openTree(path string, recursive bool) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, flags)
	if err != nil {
		return -1, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	return fd, nil
}

func isDirectory(fd int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, fmt.Errorf("fstat: %w", err)
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// isProc makes sure that a mount shows a proc file system from its root.
func isProc(fd int) error {
	const rootIno = 1
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Fstatfs(fd, &fs), unix.Fstat(fd, &st)); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	if fs.Type != unix.PROC_SUPER_MAGIC || st.Ino != rootIno {
		return fmt.Errorf("not the root of a proc file system, it would hide a part of /proc from the runtime: %w", unix.EPERM)
	}
	return nil
}

// emptyFS is an empty, read-only tmpfs.
func emptyFS(label string) plan.MountFS {
	return plan.MountFS{Type: "tmpfs", Source: "tmpfs",
		FSOptions: plan.FSOptions{Params: []plan.FSParam{{Key: "mode", Value: "0755"}, {Key: "nr_inodes", Value: "1"}, {Key: "nr_blocks", Value: "1"}}, Label: label},
		Attr:      plan.AttrReadOnly | plan.AttrNoSuid | plan.AttrNoDev | plan.AttrNoExec}
}

// wholeMounts lists where the host has all of a proc or a sysfs, the last mount first, but for those below root.
func wholeMounts(root string) ([]string, error) {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		sep := slices.Index(f, "-")
		if sep < 6 || len(f) < sep+2 || f[3] != "/" || f[sep+1] != "proc" && f[sep+1] != "sysfs" {
			continue
		}
		if p := unescape(f[4]); p != root && !strings.HasPrefix(p, strings.TrimSuffix(root, "/")+"/") {
			list = append(list, p)
		}
	}
	slices.Reverse(list)
	return list, nil
}

// unescape reads a path of mountinfo, where white space and backslashes are octal numbers.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
