package launch

import (
	"encoding/binary"
	"path"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// leaveHost prepares the new mount namespace. What the child still needs of the host is opened now: once the container's
// root lies on top of /, and after the pivot, no path leads there.
func (l *lowering) leaveHost() {
	l.call(unix.SYS_MOUNT, l.str(""), l.str("/"), l.str(""), imm(unix.MS_REC|unix.MS_SLAVE), imm(0))
	l.openat2(cwd, "/", opath|unix.O_DIRECTORY, 0, 0).to(regOldRoot)
	l.openat2(cwd, "/dev/null", opath|unix.O_NOFOLLOW, 0, 0).to(regNull)
	st := l.statx(regNull.arg())
	l.test(at(st, statxMode), unix.S_IFMT, unix.S_IFCHR, unix.ENXIO)
	l.test(at(st, statxRdev), 0xffffffff, 1, unix.ENXIO)
	l.test(at(st, statxRdev+4), 0xffffffff, 3, unix.ENXIO)
}

// parent opens the directory of p into t1, made when missing, and returns the last component. Steps that follow each other find
// the directory there.
func (l *lowering) parent(p string) string {
	if dir := path.Dir(p); dir != l.dir {
		l.ensureDir(t1, dir)
		l.dir = dir
	}
	return path.Base(p)
}

// ensureNode opens the file p, which a device shall cover, and makes it when it is missing. An image whose file is a symbolic
// link, or lies on a proc file system, gets an error: the device is not to appear elsewhere.
func (l *lowering) ensureNode(dst reg, p string) {
	const real = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS
	name := path.Base(p)
	done, missing := l.label(), l.label()
	l.ensureDir(dst, path.Dir(p))
	l.notOnProc(dst.arg())
	l.openat2(dst.arg(), name, opath, real, 0).to(t2).on(missing, unix.ENOENT)
	l.jump(done)
	l.bind(missing)
	l.openat2(dst.arg(), name, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, real, 0o644).to(t2)
	l.call(unix.SYS_CLOSE, t2.arg())
	l.openat2(dst.arg(), name, opath, real, 0).to(t2)
	l.bind(done)
	l.set(dst, t2.arg())
}

// device makes a node. One that is there already must be that device, and stays as it is, as with runc and crun: it may be the host's,
// bound there by a mount.
func (l *lowering) device(d plan.Device) {
	typ := map[byte]uint32{'c': unix.S_IFCHR, 'b': unix.S_IFBLK, 'p': unix.S_IFIFO}[d.Type]
	name := l.parent(d.Path)
	there, done := l.label(), l.label()
	l.call(unix.SYS_MKNODAT, t1.arg(), l.str(name), imm(typ|d.Mode), imm(unix.Mkdev(d.Major, d.Minor))).on(there, unix.EEXIST)
	if d.UID != 0 || d.GID != 0 {
		l.openDevice(name, typ, d)
		l.call(unix.SYS_FCHOWNAT, t0.arg(), l.str(""), imm(d.UID), imm(d.GID), imm(unix.AT_EMPTY_PATH))
	}
	l.jump(done)
	l.bind(there)
	l.openDevice(name, typ, d)
	l.bind(done)
}

// openDevice opens the node name in the directory t1 into t0; it must be d, whoever made it.
func (l *lowering) openDevice(name string, typ uint32, d plan.Device) {
	l.openat2(t1.arg(), name, opath|unix.O_NOFOLLOW, 0, 0).to(t0)
	st := l.statx(t0.arg())
	l.test(at(st, statxMode), unix.S_IFMT, typ, unix.EEXIST)
	if d.Type != 'p' {
		l.test(at(st, statxRdev), 0xffffffff, d.Major, unix.EEXIST)
		l.test(at(st, statxRdev+4), 0xffffffff, d.Minor, unix.EEXIST)
	}
}

func (l *lowering) symlink(s plan.Symlink) {
	name := l.parent(s.Path)
	if s.Replace {
		l.call(unix.SYS_UNLINKAT, t1.arg(), l.str(name), imm(0)).tolerate(unix.ENOENT)
	}
	l.call(unix.SYS_SYMLINKAT, l.str(s.Target), t1.arg(), l.str(name)).tolerate(unix.EEXIST)
}

// console opens a terminal of the container's devpts. Its master stays open until the caller has taken a copy.
func (l *lowering) console(c plan.Console) {
	master, peer := t0, t1
	l.openat2(regRoot.arg(), "dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, inRoot, 0).to(master)
	statfs := l.scratch("statfs", 128)
	l.call(unix.SYS_FSTATFS, master.arg(), statfs)
	l.test(statfs, 0xffffffff, unix.DEVPTS_SUPER_MAGIC, unix.ENODEV)
	st := l.statx(master.arg())
	l.test(at(st, statxRdev), 0xffffffff, 5, unix.ENODEV)
	l.test(at(st, statxRdev+4), 0xffffffff, 2, unix.ENODEV)
	l.call(unix.SYS_IOCTL, master.arg(), imm(unix.TIOCSPTLCK), l.words(0))
	l.call(unix.SYS_IOCTL, master.arg(), imm(unix.TIOCGPTPEER), imm(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)).to(peer)
	if c.Width != 0 || c.Height != 0 {
		size := make([]byte, 8) // struct winsize: rows, columns, pixels
		binary.NativeEndian.PutUint16(size, c.Height)
		binary.NativeEndian.PutUint16(size[2:], c.Width)
		l.call(unix.SYS_IOCTL, peer.arg(), imm(unix.TIOCSWINSZ), l.bytes(size))
	}
	if c.UID != 0 {
		l.call(unix.SYS_FCHOWN, peer.arg(), imm(c.UID), imm(uint32(0xffffffff)))
	}
	if c.Node {
		// The node is mounted from the terminal's own descriptor: no path of the container names it (CVE-2025-52565).
		l.ensureNode(reg(12), "/dev/console")
		l.cloneTree(reg(13), peer.arg(), 0)
		l.moveMount(reg(13).arg(), reg(12).arg())
	}
	l.lendAtGate(gateConsole, master.arg())
	l.call(unix.SYS_CLOSE, master.arg())
	for fd := range 3 {
		l.call(unix.SYS_DUP3, peer.arg(), imm(fd), imm(0))
	}
	l.call(unix.SYS_CLOSE, peer.arg())
	l.call(unix.SYS_IOCTL, imm(0), imm(unix.TIOCSCTTY), imm(0))
}

func (l *lowering) readOnlyPath(a plan.ReadOnlyPath) {
	missing := l.label()
	l.openRoot(a.Path, opath).to(t0).on(missing, unix.ENOENT, unix.ENOTDIR)
	l.cloneTree(t1, t0.arg(), unix.AT_RECURSIVE)
	l.mountSetattr(t1.arg(), unix.AT_RECURSIVE, uint64(plan.AttrReadOnly), 0, 0)
	l.moveMount(t1.arg(), t0.arg())
	l.bind(missing)
}

func (l *lowering) maskPath(a plan.MaskPath) {
	missing, file, attach := l.label(), l.label(), l.label()
	l.openRoot(a.Path, opath).to(t0).on(missing, unix.ENOENT, unix.ENOTDIR)
	st := l.statx(t0.arg())
	l.test(at(st, statxMode), unix.S_IFMT, unix.S_IFDIR, unix.ENOTDIR).on(file)
	empty, _ := l.masks()
	l.cloneTree(t1, empty, 0)
	l.jump(attach)
	l.bind(file)
	l.cloneTree(t1, regNull.arg(), 0)
	l.bind(attach)
	l.moveMount(t1.arg(), t0.arg())
	l.bind(missing)
}
