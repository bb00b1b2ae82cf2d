package launch

import (
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// root attaches the container's root file system to its place on the host, as the container's mount namespace has it: hooks
// which enter that namespace find the container's files there. A user namespace's root may not get there; then it lies on top
// of the host's root, where every walk that does not begin at regOldRoot ends.
func (l *lowering) root(tree rawchild.Arg, path string) {
	denied, found := l.label(), l.label()
	l.onTop = l.words32(0)
	l.openat2(cwd, path, opath|unix.O_DIRECTORY, 0, 0).to(t0).on(denied, unix.EACCES)
	if path != "/" {
		l.jump(found)
	}
	l.bind(denied)
	l.set(t0, regOldRoot.arg())
	l.store32(l.onTop, imm(1))
	l.bind(found)
	if empty, ok := l.masks(); ok {
		l.makeEmpty()
		// Below the container's root, where nobody sees it and it goes with the host's tree: the kernel copies only mounts
		// that are attached somewhere (before Linux 6.15).
		l.moveMount(empty, t0.arg())
	}
	l.moveMount(tree, t0.arg())
	l.set(regRoot, tree)
}

// chroot makes the container's root file system the root directory.
func (l *lowering) chroot() {
	l.call(unix.SYS_FCHDIR, regRoot.arg())
	l.call(unix.SYS_CHROOT, l.str("."))
	l.call(unix.SYS_CHDIR, l.str("/"))
}

// move puts the container's root file system on top of the host's, which cannot be detached: it is the kernel's own, on a
// ramdisk. Whole mounts of proc and sysfs would allow anybody in there to mount new ones without masks; they go first, or are
// covered where they may not go (as with runc).
func (l *lowering) move(covers []string) {
	for _, p := range covers {
		stays, gone := l.label(), l.label()
		l.call(unix.SYS_UMOUNT2, l.str(p), imm(unix.MNT_DETACH)).on(stays, unix.EINVAL, unix.EPERM).on(gone, unix.ENOENT)
		l.jump(gone)
		l.bind(stays)
		l.call(unix.SYS_MOUNT, l.str("tmpfs"), l.str(p), l.str("tmpfs"), imm(0), l.str("")).on(gone, unix.ENOENT)
		l.bind(gone)
	}
	on := l.label()
	l.test(l.onTop, 0xffffffff, 0, unix.EBUSY).on(on)
	l.moveMount(regRoot.arg(), regOldRoot.arg())
	l.bind(on)
	l.chroot()
}

// pivot makes the container's root file system the root and detaches the host's, with what was hidden in it.
func (l *lowering) pivot(a plan.Pivot) {
	if a.Move {
		l.move(l.prep.covers)
	} else {
		l.swapRoots()
	}
	if a.Propagation != 0 {
		l.call(unix.SYS_MOUNT, l.str(""), l.str("/"), l.str(""), imm(uint64(a.Propagation)), imm(0))
	}
	l.ownNull()
}

func (l *lowering) swapRoots() {
	l.call(unix.SYS_FCHDIR, regRoot.arg())
	l.call(unix.SYS_PIVOT_ROOT, l.str("."), l.str("."))
	// The old root now lies on the new one; it is a slave of the host's, so that detaching it stays here.
	l.call(unix.SYS_FCHDIR, regOldRoot.arg())
	if _, ok := l.masks(); ok {
		covered, bare := l.label(), l.label()
		l.test(l.onTop, 0xffffffff, 0, unix.EBUSY).on(covered)
		l.jump(bare)
		l.bind(covered)
		l.call(unix.SYS_UMOUNT2, l.str("."), imm(unix.MNT_DETACH)) // what root put on it for the masks
		l.bind(bare)
	}
	l.call(unix.SYS_UMOUNT2, l.str("."), imm(unix.MNT_DETACH))
	l.call(unix.SYS_CHDIR, l.str("/"))
}

// ownNull puts the container's /dev/null, if it has one, where the host's stands in for a stream that nobody gave: root in the
// container could change the mode of the host's. It is done as soon as the root is the container's, before a filter can be in
// the way.
func (l *lowering) ownNull() {
	var fds []int
	for i, fd := range []int{l.io.Stdin, l.io.Stdout, l.io.Stderr} {
		if fd < 0 {
			fds = append(fds, i)
		}
	}
	if _, terminal := plan.Find[plan.Console](l.plan); terminal || len(fds) == 0 {
		return
	}
	none, other := l.label(), l.label()
	l.openat2(cwd, "/dev/null", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, unix.RESOLVE_NO_SYMLINKS, 0).to(t0).on(none)
	st := l.statx(t0.arg())
	l.test(at(st, statxMode), unix.S_IFMT, unix.S_IFCHR, unix.ENXIO).on(other)
	l.test(at(st, statxRdev), 0xffffffff, 1, unix.ENXIO).on(other)
	l.test(at(st, statxRdev+4), 0xffffffff, 3, unix.ENXIO).on(other)
	l.call(unix.SYS_FCNTL, t0.arg(), imm(unix.F_SETFL), imm(unix.O_RDWR))
	for _, fd := range fds {
		l.call(unix.SYS_DUP3, t0.arg(), imm(fd), imm(0))
	}
	l.bind(other)
	l.call(unix.SYS_CLOSE, t0.arg())
	l.bind(none)
}

// runtimeRoot undoes what joining a mount namespace did to the root directory.
func (l *lowering) runtimeRoot(a plan.RuntimeRoot) {
	denied, done := l.label(), l.label()
	l.call(unix.SYS_FCHDIR, imm(l.io.InitRoot))
	l.call(unix.SYS_CHROOT, l.str("."))
	l.closeAllBut([]int{l.report, l.control})
	l.call(unix.SYS_CHDIR, l.str(a.Dir)).on(denied, unix.EACCES, unix.ENOENT)
	l.jump(done)
	l.bind(denied)
	l.call(unix.SYS_CHDIR, l.str("/"))
	l.bind(done)
}
