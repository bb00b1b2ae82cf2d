package launch

import (
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
)

// point is a path of the container at which something will be mounted or made: a file, or else a directory.
type point struct {
	path string // absolute
	file bool
}

// ensureDir opens the directory p of the container into dst and makes its missing components first. It uses t2 and t3.
func (l *lowering) ensureDir(dst reg, p string) { l.makeDir(dst, p, noLabel) }

// makeDir is ensureDir that goes on at dangling, unless that is noLabel, when a component is a link that leads nowhere.
func (l *lowering) makeDir(dst reg, p string, dangling label) {
	rel := relative(p)
	made, missing := l.label(), l.label()
	l.openRoot(rel, opath|unix.O_DIRECTORY).to(dst).on(missing, unix.ENOENT)
	l.jump(made)
	l.bind(missing)
	mkdir := func(dst, parent reg, dir string) {
		l.call(unix.SYS_MKDIRAT, parent.arg(), l.str(path.Base(dir)), imm(0o755)).tolerate(unix.EEXIST)
		open := l.openRoot(dir, opath|unix.O_DIRECTORY).to(dst)
		if dangling != noLabel {
			open.on(dangling, unix.ENOENT)
		}
	}
	parent, next := regRoot, t2
	if above := path.Dir(rel); above != "." {
		walk, there := l.label(), l.label()
		l.openRoot(above, opath|unix.O_DIRECTORY).to(next).on(walk, unix.ENOENT)
		l.jump(there)
		l.bind(walk) // more than the last component is missing
		for i := range rel {
			if rel[i] != '/' {
				continue
			}
			mk, opened := l.label(), l.label()
			l.openRoot(rel[:i], opath|unix.O_DIRECTORY).to(next).on(mk, unix.ENOENT)
			l.jump(opened)
			l.bind(mk)
			mkdir(next, parent, rel[:i])
			l.bind(opened)
			parent, next = next, t2+t3-next
		}
		l.set(t2, parent.arg())
		l.bind(there)
		parent = t2
	}
	mkdir(dst, parent, rel)
	l.bind(made)
}

// mountPoint opens the destination of a mount, a directory or a file, into dst, and makes it first when it is missing: also
// where links that lead nowhere say that it is to be. It uses t2 and t3.
func (l *lowering) mountPoint(dst reg, p point) {
	rel := relative(p.path)
	if dir := path.Dir(path.Clean(p.path)); !p.file && slices.Contains(l.news, dir) {
		l.inNew(dst, dir, rel)
		return
	}
	flags := uint64(opath)
	done, dangling, missing := l.label(), l.label(), l.label()
	if p.file {
		l.openRoot(rel, opath).to(dst).on(missing, unix.ENOENT)
		l.jump(done)
		l.bind(missing)
		l.makeDir(dst, path.Dir(p.path), dangling)
		const create = unix.O_CREAT | unix.O_WRONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
		l.openat2(regRoot.arg(), rel, create, inRoot, 0o644).to(t2).on(dangling, unix.ENOENT)
		l.call(unix.SYS_CLOSE, t2.arg())
		l.openRoot(rel, flags).to(dst)
	} else {
		flags |= unix.O_DIRECTORY
		l.makeDir(dst, p.path, dangling)
	}
	l.jump(done)
	l.bind(dangling)
	l.ask(p)
	l.openRoot(rel, flags).to(dst)
	l.bind(done)
}

// mounted says that the steps from here on find a mount on dest, and whether that is an empty file system which nobody else has
// seen: directories in it are made without looking first. What is mounted elsewhere than below one may cover it.
func (l *lowering) mounted(dest string, isNew bool) {
	dest = path.Clean(dest)
	l.news = slices.DeleteFunc(l.news, func(dir string) bool { return !strings.HasPrefix(dest, dir+"/") })
	if !slices.Contains(l.news, l.newDir) {
		l.newDir = ""
	}
	if isNew {
		l.news = append(l.news, dest)
	}
}

// inNew is mountPoint for a directory in dir, one of news.
func (l *lowering) inNew(dst reg, dir, rel string) {
	if l.newDir != dir {
		l.openRoot(dir, opath|unix.O_DIRECTORY).to(regNew)
		l.newDir = dir
	}
	name := path.Base(rel)
	link, done := l.label(), l.label()
	l.call(unix.SYS_MKDIRAT, regNew.arg(), l.str(name), imm(0o755)).tolerate(unix.EEXIST)
	l.openat2(regNew.arg(), name, opath|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0, 0).to(dst).on(link, unix.ENOTDIR)
	l.jump(done)
	l.bind(link) // one of the plan's, to another directory of a hierarchy of cgroups
	l.openRoot(rel, opath|unix.O_DIRECTORY).to(dst)
	l.bind(done)
}

// A symbolic link of the image that leads nowhere is made to lead somewhere, inside the image. To follow it by hand takes
// reading and joining paths, which the child does not do: it asks the caller, who looks through the descriptor of the
// container's root that both have, what to make next; makes that, as whoever it is; and asks again. What the caller sees may
// change meanwhile, but the child walks below the root as always.

// pointAnswer is what the child reads: what to make, the directory in which, and its name, both ended by NUL.
const (
	pointDone = iota
	pointMkdir
	pointCreate

	pointDirAt   = 8
	pointNameAt  = pointAnswer - (unix.NAME_MAX + 1)
	pointAnswer  = 4096 // PIPE_BUF: read whole or not at all
	pointsAtMost = 512  // questions of one launch
)

// ask makes what is missing of a point. It uses t2.
func (l *lowering) ask(p point) {
	l.points = append(l.points, p)
	if len(l.points) == 1 {
		l.asking = l.label()
	}
	l.store32(at(l.gateMsg, 4), imm(uint32(l.step)))
	l.store32(at(l.gateMsg, 8), imm(len(l.points)-1))
	l.emit(rawchild.OpCall, imm(int(l.asking)))
}

// answers is what ask calls: once for all points, as hardly any has something missing.
func (l *lowering) answers() {
	if len(l.points) == 0 {
		return
	}
	l.fail(unix.ENOTRECOVERABLE) // not by falling into it
	l.step = rawchild.CallersStep
	l.bind(l.asking)
	answer := l.scratch("page", pointAnswer)
	again, file, done := l.label(), l.label(), l.label()
	dir := func() { // one that is not there any more, or a link by now, is asked about again
		how := l.how(opath|unix.O_DIRECTORY, 0, inRoot|unix.RESOLVE_NO_SYMLINKS)
		l.call(unix.SYS_OPENAT2, regRoot.arg(), at(answer, pointDirAt), how, imm(unix.SizeofOpenHow)).to(t2).
			on(again, unix.EAGAIN, unix.ENOENT, unix.ELOOP, unix.ENOTDIR)
	}
	l.bind(again)
	l.send(gatePoint, regRoot.arg())
	l.call(unix.SYS_READ, imm(l.control), answer, imm(pointAnswer)).exactly(pointAnswer)
	l.test(answer, 0xffffffff, pointMkdir, unix.ENOENT).on(file)
	dir()
	l.call(unix.SYS_MKDIRAT, t2.arg(), at(answer, pointNameAt), imm(0o755)).tolerate(unix.EEXIST)
	l.jump(again)
	l.bind(file)
	l.test(answer, 0xffffffff, pointCreate, unix.ENOENT).on(done)
	dir()
	l.call(unix.SYS_MKNODAT, t2.arg(), at(answer, pointNameAt), imm(unix.S_IFREG|0o644), imm(0)).tolerate(unix.EEXIST)
	l.jump(again)
	l.bind(done)
	l.emit(rawchild.OpReturn)
}

// answerPoint tells the child what to make next for a point.
func (f *flight) answerPoint(i int) error {
	if f.asked++; f.asked > pointsAtMost {
		return fmt.Errorf("%s: somebody removes what is made: %w", f.points[i].path, unix.ELOOP)
	}
	root := f.prep.root
	if f.plan.SendsFiles {
		root = f.sent
	}
	what, dir, name, err := nextOf(root, f.points[i])
	if err != nil {
		return fmt.Errorf("%s: %w", f.points[i].path, err)
	}
	answer := make([]byte, pointAnswer)
	binary.NativeEndian.PutUint32(answer, what)
	if len(name) > unix.NAME_MAX || pointDirAt+len(dir) >= pointNameAt {
		return fmt.Errorf("%s: %w", f.points[i].path, unix.ENAMETOOLONG)
	}
	copy(answer[pointDirAt:], dir)
	copy(answer[pointNameAt:], name)
	return f.say(answer)
}

// linksAtMost is how many symbolic links the kernel follows in one walk.
const linksAtMost = 40

// nextOf walks p below root, through links that lead nowhere too, and returns the first thing that is missing: what it is to
// be, and the directory, relative to root and free of links, in which.
func nextOf(root int, p point) (what uint32, dir, name string, err error) {
	rest := strings.Split(p.path, "/")
	at := "." // where the walk is
	for links := 0; len(rest) > 0; {
		name, rest = rest[0], rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at) // "." has itself above it
			continue
		}
		next := path.Join(at, name)
		fd, err := unix.Openat2(root, next, &unix.OpenHow{Flags: opath | unix.O_NOFOLLOW, Resolve: inRoot | unix.RESOLVE_NO_SYMLINKS})
		switch {
		case err == unix.ENOENT && p.file && !moreIn(rest):
			return pointCreate, at, name, nil
		case err == unix.ENOENT:
			return pointMkdir, at, name, nil
		case (err == unix.EAGAIN || err == unix.ELOOP) && links < linksAtMost:
			links++ // it raced with a rename: from the start
			at, rest = ".", strings.Split(p.path, "/")
			continue
		case err != nil:
			return 0, "", "", err
		}
		target, link, err := readLink(fd)
		unix.Close(fd)
		switch {
		case err != nil:
			return 0, "", "", err
		case !link:
			at = next
			continue
		}
		if links++; links > linksAtMost {
			return 0, "", "", unix.ELOOP
		}
		if path.IsAbs(target) {
			at = "."
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return pointDone, "", "", nil
}

// moreIn tells whether a walk has further components.
func moreIn(rest []string) bool {
	for _, name := range rest {
		if name != "" && name != "." {
			return true
		}
	}
	return false
}

// readLink returns the target of a symbolic link that fd is open on; link is false for anything else.
func readLink(fd int) (target string, link bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", false, err
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	return string(buf[:n]), true, err
}
