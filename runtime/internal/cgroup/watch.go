package cgroup

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watcher tells of changes of cgroup files and of readable file descriptors, for all containers of a process by one
// goroutine, which exists as long as something is watched and holds no thread while nothing happens.
//
// cgroup.events and memory.events raise inotify's IN_MODIFY, on a hybrid host's cgroup2 tree as well. v1 has no such files;
// there an eventfd or a pidfd is watched.
type watcher struct {
	mu      sync.Mutex
	epoll   *os.File // nil while nothing is watched
	epollFd int
	inotify int
	nextID  uint64
	files   map[int32]map[uint64]func() // by inotify watch, which one inode has one of
	fds     map[int32]func()
}

// maxEvents is how many events are taken from the kernel at once.
const maxEvents = 16

// onModify calls fn, which must not block, after each change of a file, until cancel is called. A call that has begun
// may end after cancel.
func (w *watcher) onModify(path string, fn func()) (cancel func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.startLocked(); err != nil {
		return nil, err
	}
	n, err := unix.InotifyAddWatch(w.inotify, path, unix.IN_MODIFY)
	if err != nil {
		w.stopIfIdleLocked()
		return nil, &fs.PathError{Op: "inotify_add_watch", Path: path, Err: err}
	}
	wd, id := int32(n), w.nextID
	w.nextID++
	if w.files[wd] == nil {
		w.files[wd] = make(map[uint64]func())
	}
	w.files[wd][id] = fn
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if fns := w.files[wd]; fns != nil { // the kernel has not ended the watch by itself
			if delete(fns, id); len(fns) == 0 {
				delete(w.files, wd)
				_, _ = unix.InotifyRmWatch(w.inotify, uint32(wd)) // fails if it is about to
			}
		}
		w.stopIfIdleLocked()
	}), nil
}

// onReadable calls fn, which must not block, each time that fd becomes readable, until cancel is called. Cancel comes before
// fd is closed.
func (w *watcher) onReadable(fd int, fn func()) (cancel func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.startLocked(); err != nil {
		return nil, err
	}
	if err := w.epollAddLocked(fd); err != nil {
		w.stopIfIdleLocked()
		return nil, err
	}
	w.fds[int32(fd)] = fn
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.fds, int32(fd))
		_ = unix.EpollCtl(w.epollFd, unix.EPOLL_CTL_DEL, fd, nil)
		w.stopIfIdleLocked()
	}), nil
}

func (w *watcher) epollAddLocked(fd int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}
	if err := unix.EpollCtl(w.epollFd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	return nil
}

func (w *watcher) startLocked() (err error) {
	if w.epoll != nil {
		return nil
	}
	if w.inotify, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		if err == unix.EMFILE {
			return fmt.Errorf("inotify_init1: %w (the user has all that sysctl fs.inotify.max_user_instances or RLIMIT_NOFILE allows)", err)
		}
		return os.NewSyscallError("inotify_init1", err)
	}
	if w.epollFd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		unix.Close(w.inotify)
		return os.NewSyscallError("epoll_create1", err)
	}
	// Not blocking, so that Go's poller waits for the epoll instance.
	err = unix.SetNonblock(w.epollFd, true)
	if err == nil {
		err = w.epollAddLocked(w.inotify)
	}
	if err != nil {
		unix.Close(w.inotify)
		unix.Close(w.epollFd)
		return fmt.Errorf("watch cgroups: %w", err)
	}
	w.epoll = os.NewFile(uintptr(w.epollFd), "cgroup-epoll")
	w.files = make(map[int32]map[uint64]func())
	w.fds = make(map[int32]func())
	go w.run(w.epoll, w.inotify)
	return nil
}

// stopIfIdleLocked ends the goroutine when nothing is watched any more.
func (w *watcher) stopIfIdleLocked() {
	if w.epoll == nil || len(w.files)+len(w.fds) > 0 {
		return
	}
	w.epoll.Close() // wakes run, which closes the inotify instance
	w.epoll = nil
}

// run hands out events until the epoll instance is closed.
func (w *watcher) run(epoll *os.File, inotify int) {
	defer unix.Close(inotify)
	conn, err := epoll.SyscallConn()
	if err != nil {
		return // closed before we came to run
	}
	var events [maxEvents]unix.EpollEvent
	for {
		n := 0
		err := conn.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events[:], 0)
			return n > 0
		})
		if err != nil {
			return
		}
		for _, ev := range events[:max(n, 0)] {
			for _, fn := range w.interested(epoll, ev.Fd, inotify) {
				fn()
			}
		}
	}
}

// interested returns who wants to know of an event.
func (w *watcher) interested(epoll *os.File, fd int32, inotify int) []func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.epoll != epoll {
		return nil // stopped meanwhile, and perhaps started anew
	}
	var fns []func()
	if fd != int32(inotify) {
		if fn := w.fds[fd]; fn != nil {
			fns = append(fns, fn)
		}
		return fns
	}
	var buf [maxEvents * unix.SizeofInotifyEvent]byte // watches of files have events without names
	for {
		n, err := unix.Read(inotify, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return fns
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; b = b[unix.SizeofInotifyEvent:] {
			wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
			if mask&unix.IN_Q_OVERFLOW != 0 {
				fns = append(fns, w.everyoneLocked()...)
				continue
			}
			for _, fn := range w.files[wd] {
				fns = append(fns, fn)
			}
			if mask&unix.IN_IGNORED != 0 {
				delete(w.files, wd)
			}
		}
	}
}

func (w *watcher) everyoneLocked() []func() {
	var fns []func()
	for _, subscribers := range w.files {
		for _, fn := range subscribers {
			fns = append(fns, fn)
		}
	}
	return fns
}
