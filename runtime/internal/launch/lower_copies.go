package launch

import (
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// Copies of the host's mounts are the caller's to make, before the fork. Where it may not (plan.Plan.ChildMounts), the child
// makes them, in its own mount namespace: from paths below the host's root, as its caller's user would walk them. It does so
// just before it attaches them, and nothing of the container is mounted where these paths lead.

// copyOf returns the mount that a step is to attach. In the child it is made first, in regCopy.
func (l *lowering) copyOf(i int, do plan.Action) rawchild.Arg {
	if b, ok := do.(plan.Bind); ok && b.Later {
		return l.lateCopy()
	}
	if !l.plan.ChildMounts {
		return imm(l.prep.step[i])
	}
	switch a := do.(type) {
	case plan.Root:
		l.copyHost(a.Path, unix.AT_RECURSIVE)
		l.propagate(regCopy.arg(), []plan.Propagation{a.Propagation | plan.Recursive})
	case plan.Bind:
		recursive := uint32(0)
		if a.Recursive {
			recursive = unix.AT_RECURSIVE
		}
		l.copyHost(a.Source, recursive)
		if a.Proc {
			l.isProc(regCopy.arg())
		}
		l.propagate(regCopy.arg(), []plan.Propagation{a.Base | plan.Recursive})
		l.changeCopy(0, a.Attr)
		l.changeCopy(unix.AT_RECURSIVE, a.RecAttr)
	case plan.BindDevice:
		l.copyHost(a.Path, 0)
		st := l.statx(regCopy.arg())
		typ := map[byte]uint32{'c': unix.S_IFCHR, 'b': unix.S_IFBLK}[a.Type]
		l.test(at(st, statxMode), unix.S_IFMT, typ, unix.ENODEV)
		l.test(at(st, statxRdev), 0xffffffff, a.Major, unix.ENODEV)
		l.test(at(st, statxRdev+4), 0xffffffff, a.Minor, unix.ENODEV)
	case plan.MountFS: // its OrBind
		whole, made := l.label(), l.label()
		l.copyHost(a.OrBind, 0).on(whole, unix.EINVAL)
		l.jump(made)
		l.bind(whole) // what lies on it may not be uncovered
		l.copyHost(a.OrBind, unix.AT_RECURSIVE)
		l.bind(made)
		l.mountSetattr(regCopy.arg(), unix.AT_RECURSIVE, uint64(a.Attr|plan.AttrReadOnly), 0, uint64(plan.Private))
	}
	return regCopy.arg()
}

// copyHost copies the mount at a path of the host into regCopy.
func (l *lowering) copyHost(p string, recursive uint32) ins {
	return l.call(unix.SYS_OPEN_TREE, regOldRoot.arg(), l.str(relativeTo(p)), imm(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|recursive)).to(regCopy)
}

// relativeTo takes the slash from an absolute path, which may lead through symbolic links.
func relativeTo(p string) string {
	for len(p) > 0 && p[0] == '/' {
		p = p[1:]
	}
	if p == "" {
		return "."
	}
	return p
}

func (l *lowering) changeCopy(recursive uint32, c plan.AttrChange) {
	if c.Set != 0 || c.Clear != 0 {
		l.mountSetattr(regCopy.arg(), recursive, uint64(c.Set), uint64(wholeAtime(c.Set, c.Clear)), 0)
	}
}

// isProc makes sure that a mount shows a proc file system from its root.
func (l *lowering) isProc(mount rawchild.Arg) {
	const rootIno = 1
	statfs := l.scratch("statfs", 128)
	l.call(unix.SYS_FSTATFS, mount, statfs)
	l.test(statfs, 0xffffffff, unix.PROC_SUPER_MAGIC, unix.EPERM)
	st := l.statx(mount)
	l.test(at(st, statxIno), 0xffffffff, rootIno, unix.EPERM)
	l.test(at(st, statxIno+4), 0xffffffff, 0, unix.EPERM)
}

// masks tells whether the plan has paths to mask, and returns the empty directory to do it with.
func (l *lowering) masks() (empty rawchild.Arg, ok bool) {
	if !l.plan.ChildMounts {
		return imm(l.prep.empty), l.prep.empty >= 0
	}
	_, ok = plan.Find[plan.MaskPath](l.plan)
	return regEmpty.arg(), ok
}

// makeEmpty makes that directory, where the caller could not.
func (l *lowering) makeEmpty() {
	if !l.plan.ChildMounts {
		return
	}
	m, _ := plan.Find[plan.MaskPath](l.plan)
	l.newFS(regEmpty, emptyFS(m.Label))
}

// newFS makes a detached mount of a new file system. It uses t1.
func (l *lowering) newFS(dst reg, m plan.MountFS) {
	l.call(unix.SYS_FSOPEN, l.str(m.Type), imm(unix.FSOPEN_CLOEXEC)).to(t1)
	for _, p := range fsParams(m) {
		if p.Value == "" && p.Key != "source" {
			l.call(unix.SYS_FSCONFIG, t1.arg(), imm(unix.FSCONFIG_SET_FLAG), l.str(p.Key), imm(0), imm(0))
			continue
		}
		l.call(unix.SYS_FSCONFIG, t1.arg(), imm(unix.FSCONFIG_SET_STRING), l.str(p.Key), l.str(p.Value), imm(0))
	}
	l.call(unix.SYS_FSCONFIG, t1.arg(), imm(unix.FSCONFIG_CMD_CREATE), imm(0), imm(0), imm(0))
	l.call(unix.SYS_FSMOUNT, t1.arg(), imm(unix.FSMOUNT_CLOEXEC), imm(uint64(m.Attr))).to(dst)
	l.call(unix.SYS_CLOSE, t1.arg())
}
