package launch

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch/rawchild"
)

// Paths of the container are walked by the kernel, below the root's descriptor, never by string: a symbolic link of the
// image leads elsewhere in the image, not on the host.
const (
	inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	opath  = unix.O_PATH | unix.O_CLOEXEC
)

// relative returns a clean absolute path as openat2 wants it below a descriptor.
func relative(p string) string {
	if p = strings.TrimPrefix(path.Clean(p), "/"); p == "" {
		return "."
	}
	return p
}

// openat2 opens rel below dir.
//
// A walk over ".." that must not leave the root ends with EAGAIN when a mount or a rename anywhere on the machine happened
// meanwhile (openat2(2)): then it is done again, until it succeeds or the caller gives up and kills the child.
func (a *asm) openat2(dir rawchild.Arg, rel string, flags, resolve, mode uint64) ins {
	again := a.label()
	a.bind(again)
	return a.call(unix.SYS_OPENAT2, dir, a.str(rel), a.how(flags, mode, resolve), imm(unix.SizeofOpenHow)).on(again, unix.EAGAIN)
}

// how is a struct open_how in the data, of which a program needs few and has many uses.
type how struct {
	unix.OpenHow
	at rawchild.Arg
}

func (a *asm) how(flags, mode, resolve uint64) rawchild.Arg {
	want := unix.OpenHow{Flags: flags, Mode: mode, Resolve: resolve}
	for _, h := range a.hows {
		if h.OpenHow == want {
			return h.at
		}
	}
	h := how{want, a.words(flags, mode, resolve)}
	a.hows = append(a.hows, h)
	return h.at
}

// openRoot opens a path of the container.
func (a *asm) openRoot(p string, flags uint64) ins {
	return a.openat2(regRoot.arg(), relative(p), flags|unix.O_CLOEXEC, inRoot, 0)
}

// struct statx, the same on every machine.
const (
	statxSize  = 256
	statxMode  = 28 // __u16
	statxIno   = 32 // __u64
	statxRdev  = 128
	statxBasic = unix.STATX_BASIC_STATS
)

// statx reads the status of a descriptor into data that it returns.
func (a *asm) statx(fd rawchild.Arg) rawchild.Arg {
	st := a.scratch("statx", statxSize)
	a.call(unix.SYS_STATX, fd, a.str(""), imm(unix.AT_EMPTY_PATH), imm(statxBasic), st)
	return st
}

// scratch returns data that steps share because none needs it for longer than itself.
func (a *asm) scratch(name string, size int) rawchild.Arg {
	if arg, ok := a.shared[name]; ok {
		return arg
	}
	arg := a.bytes(make([]byte, size))
	a.shared[name] = arg
	return arg
}

// moveMount attaches the detached mount tree to the descriptor at.
func (a *asm) moveMount(tree, at rawchild.Arg) ins {
	return a.call(unix.SYS_MOVE_MOUNT, tree, a.str(""), at, a.str(""), imm(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// cloneTree copies the mount that fd is on into dst, detached.
func (a *asm) cloneTree(dst reg, fd rawchild.Arg, flags uint32) {
	a.call(unix.SYS_OPEN_TREE, fd, a.str(""), imm(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|flags)).to(dst)
}

// mountSetattr changes the mount that fd is on; recursive is AT_RECURSIVE or 0.
func (a *asm) mountSetattr(fd rawchild.Arg, recursive uint32, set, clear, propagation uint64) {
	attr := a.words(set, clear, propagation, 0)
	a.call(unix.SYS_MOUNT_SETATTR, fd, a.str(""), imm(unix.AT_EMPTY_PATH|recursive), attr, imm(32))
}
