package launch

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

func (l *lowering) bindMount(i int, b plan.Bind) {
	tree := l.copyOf(i, b)
	l.mountPoint(t0, point{path: b.Dest, file: !l.prep.isDir[i]})
	if !b.Proc && !strings.HasPrefix(b.Dest, "/proc/") {
		l.notOnProc(t0.arg())
	}
	l.mounted(b.Dest, false)
	move := l.moveMount(tree, t0.arg())
	if !l.prep.isDir[i] {
		refused, done := l.label(), l.label()
		move.on(refused, unix.EINVAL)
		l.jump(done)
		l.bind(refused) // as with a directory on a file
		l.test(at(l.statx(t0.arg()), statxMode), unix.S_IFMT, unix.S_IFDIR, unix.EINVAL)
		l.fail(unix.ENOTDIR)
		l.bind(done)
	}
	l.propagate(tree, b.Propagation)
}

// notOnProc refuses a mount point on a proc file system, which a symbolic link of the image may lead to (CVE-2019-16884):
// the runtime's own writes to /proc must not be diverted.
func (l *lowering) notOnProc(fd rawchild.Arg) {
	statfs := l.scratch("statfs", 128)
	l.call(unix.SYS_FSTATFS, fd, statfs)
	other := l.label()
	l.test(statfs, 0xffffffff, unix.PROC_SUPER_MAGIC, unix.EPERM).on(other)
	l.fail(unix.EPERM)
	l.bind(other)
}

func (l *lowering) propagate(mount rawchild.Arg, list []plan.Propagation) {
	for _, p := range list {
		recursive := uint32(0)
		if p&plan.Recursive != 0 {
			recursive = unix.AT_RECURSIVE
		}
		l.mountSetattr(mount, recursive, 0, 0, uint64(p&^plan.Recursive))
	}
}

var attrFlags = []struct {
	attr plan.Attr
	flag int
}{
	{plan.AttrReadOnly, unix.MS_RDONLY}, {plan.AttrNoSuid, unix.MS_NOSUID}, {plan.AttrNoDev, unix.MS_NODEV},
	{plan.AttrNoExec, unix.MS_NOEXEC}, {plan.AttrNoAtime, unix.MS_NOATIME}, {plan.AttrStrictAtime, unix.MS_STRICTATIME},
	{plan.AttrNoDirAtime, unix.MS_NODIRATIME}, {plan.AttrNoSymFollow, unix.MS_NOSYMFOLLOW},
}

// mountFlags are the flags of mount(2).
func mountFlags(a plan.Attr, s plan.Super) int {
	flags := int(s)
	for _, f := range attrFlags {
		if a&f.attr != 0 {
			flags |= f.flag
		}
	}
	return flags
}

// mountFS mounts on ".", having gone to the mount point by its descriptor: the path is never walked again.
func (l *lowering) mountFS(i int, m plan.MountFS) {
	data := l.str(m.Data())
	if m.DirMode {
		data = l.dirMode(m)
	}
	switch {
	case m.RealDir:
		real := func() ins { // no link leads there
			return l.openat2(regRoot.arg(), relative(m.Dest), opath|unix.O_DIRECTORY, inRoot|unix.RESOLVE_NO_SYMLINKS, 0).to(t0)
		}
		missing, there := l.label(), l.label()
		real().on(missing, unix.ENOENT)
		l.jump(there)
		l.bind(missing)
		l.ensureDir(t0, m.Dest)
		real()
		l.bind(there)
	case m.Dest == "/dev": // what is made in it later does not follow links that lead nowhere either
		l.ensureDir(t0, m.Dest)
		l.notOnProc(t0.arg())
	default:
		l.mountPoint(t0, point{path: m.Dest})
		l.notOnProc(t0.arg())
	}
	l.mounted(m.Dest, m.Type == "tmpfs" && !m.ByCaller() && m.OrBind == "")
	if m.ByCaller() {
		l.attach(imm(l.prep.step[i]), m)
		return
	}
	l.call(unix.SYS_FCHDIR, t0.arg())
	mount := l.call(unix.SYS_MOUNT, l.str(m.Source), l.str("."), l.str(m.Type), imm(mountFlags(m.Attr, m.Super)), data)
	if m.OrBind != "" {
		refused, done := l.label(), l.label()
		mount.on(refused, unix.EPERM, unix.EBUSY)
		l.jump(done)
		l.bind(refused)
		l.moveMount(l.copyOf(i, m), t0.arg())
		l.bind(done)
	}
	if m.Type == "cgroup2" && m.OrBind == "" {
		// mount(2) refuses a second view on the same place, such as a bind of the host's /sys brings along.
		busy, done := l.label(), l.label()
		mount.on(busy, unix.EBUSY)
		l.jump(done)
		l.bind(busy)
		l.newFS(regCopy, m)
		l.moveMount(regCopy.arg(), t0.arg())
		l.bind(done)
	}
	if len(m.Propagation) > 0 {
		l.openRoot(m.Dest, opath).to(t0)
		l.propagate(t0.arg(), m.Propagation)
	}
	if m.RootLabel != "" {
		l.openRoot(m.Dest, unix.O_RDONLY|unix.O_DIRECTORY).to(t0)
		l.call(unix.SYS_FSETXATTR, t0.arg(), l.str("security.selinux"), l.str(m.RootLabel), imm(len(m.RootLabel)), imm(0))
		l.call(unix.SYS_CLOSE, t0.arg())
	}
}

// attach puts a file system that the caller has made on the directory t0, the caller having filled it if that is asked for.
func (l *lowering) attach(tree rawchild.Arg, m plan.MountFS) {
	if m.CopyUp {
		l.lendAtGate(gateStep, t0.arg())
	}
	l.moveMount(tree, t0.arg())
	l.propagate(tree, m.Propagation)
}

// dirMode returns the data of a mount with the permission bits of the directory that it will cover; one that is not there yet
// leaves the file system's own default. The bits become text digit by digit, by comparing: each store writes its digit and
// three zeros behind it (both machines are little-endian), where the next digit goes, or nothing.
func (l *lowering) dirMode(m plan.MountFS) rawchild.Arg {
	text := m.Data()
	if text != "" {
		text += ","
	}
	text += "mode="
	data := l.bytes(append([]byte(text), "1777\x00\x00\x00\x00"...))
	missing := l.label()
	l.openRoot(m.Dest, opath|unix.O_DIRECTORY).to(t0).on(missing, unix.ENOENT)
	mode := at(l.statx(t0.arg()), statxMode)
	for digit := range 4 {
		shift := 3 * (3 - digit)
		stored := l.label()
		for value := range uint32(8) {
			next := l.label()
			l.test(mode, 7<<shift, value<<shift, unix.ERANGE).on(next)
			l.store32(at(data, uint64(len(text)+digit)), imm('0'+value))
			l.jump(stored)
			l.bind(next)
		}
		l.bind(stored)
	}
	l.bind(missing)
	return data
}

// remount changes a mount or its file system through "." again.
func (l *lowering) remount(r plan.Remount) {
	l.openRoot(r.Dest, opath).to(t0)
	if r.Bind {
		l.changeAttr(0, r.Attr)
	} else {
		l.call(unix.SYS_FCHDIR, t0.arg())
		l.call(unix.SYS_MOUNT, l.str(""), l.str("."), l.str(""), imm(unix.MS_REMOUNT|mountFlags(r.Attr.Set, r.Super)), l.str(r.Data()))
	}
	l.changeAttr(unix.AT_RECURSIVE, r.RecAttr)
	l.propagate(t0.arg(), r.Propagation)
}

// unmount hands the kernel a path that leads nowhere but to what was opened below the root: that of a descriptor in the host's proc. The
// standard input, which the process does not need, gives the descriptor a number that is known here.
func (l *lowering) unmount(u plan.Unmount) {
	l.openRoot(u.Dest, opath).to(t0)
	l.call(unix.SYS_DUP3, t0.arg(), imm(0), imm(unix.O_CLOEXEC))
	l.call(unix.SYS_CLOSE, t0.arg())
	l.call(unix.SYS_FCHDIR, imm(l.io.Proc))
	l.call(unix.SYS_UMOUNT2, l.str("self/fd/0"), imm(unix.MNT_DETACH))
}

func (l *lowering) changeAttr(recursive uint32, c plan.AttrChange) {
	if c.Set != 0 || c.Clear != 0 {
		l.mountSetattr(t0.arg(), recursive, uint64(c.Set), uint64(wholeAtime(c.Set, c.Clear)), 0)
	}
}
