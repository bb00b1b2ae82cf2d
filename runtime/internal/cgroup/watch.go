package cgroup

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/sys"
)

// watcher tells of changes of cgroup files and of readable file descriptors, for all containers of a process by one
// goroutine, which exists as long as something is watched and holds no thread while nothing happens.
//
// A change of cgroup.events or memory.events wakes who polls the open file for EPOLLPRI, on a hybrid host's cgroup2 tree as
// well. v1 has no such files; there an eventfd or a pidfd is watched.
//
// Tried: inotify. A user may have 128 instances of it (fs.inotify.max_user_instances), which the shims of as many containers
// used up: nobody told of OOM kills any more, and frozen containers could not be waited for.
type watcher struct {
	mu      sync.Mutex
	epoll   *os.File // nil while nothing is watched
	epollFd int
	fds     map[int32]func()
}

// maxEvents is how many events are taken from the kernel at once.
const maxEvents = 16

// onModify calls fn, which must not block, after each change of a file, until cancel is called, and perhaps without one. A call
// that has begun may end after cancel. It does not tell of the file's removal.
func (w *watcher) onModify(path string, fn func()) (cancel func(), err error) {
	fd, err := sys.Open(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	// A file that was never read counts as changed.
	if _, err := pread(make([]byte, 0, 256), fd, path); err != nil {
		unix.Close(fd)
		return nil, err
	}
	unwatch, err := w.add(fd, unix.EPOLLPRI, fn)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return sync.OnceFunc(func() {
		unwatch()
		unix.Close(fd)
	}), nil
}

// onReadable calls fn, which must not block, each time that fd becomes readable, until cancel is called. Cancel comes before
// fd is closed.
func (w *watcher) onReadable(fd int, fn func()) (cancel func(), err error) {
	return w.add(fd, unix.EPOLLIN, fn)
}

// add calls fn for each edge of the events.
func (w *watcher) add(fd int, events uint32, fn func()) (cancel func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.startLocked(); err != nil {
		return nil, err
	}
	ev := unix.EpollEvent{Events: events | unix.EPOLLET, Fd: int32(fd)}
	if err := unix.EpollCtl(w.epollFd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		w.stopIfIdleLocked()
		return nil, os.NewSyscallError("epoll_ctl", err)
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

func (w *watcher) startLocked() (err error) {
	if w.epoll != nil {
		return nil
	}
	if w.epollFd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	// Not blocking, so that Go's poller waits for the epoll instance.
	if err := unix.SetNonblock(w.epollFd, true); err != nil {
		unix.Close(w.epollFd)
		return fmt.Errorf("watch cgroups: %w", err)
	}
	w.epoll = os.NewFile(uintptr(w.epollFd), "cgroup-epoll")
	w.fds = make(map[int32]func())
	go w.run(w.epoll)
	return nil
}

// stopIfIdleLocked ends the goroutine when nothing is watched any more.
func (w *watcher) stopIfIdleLocked() {
	if w.epoll == nil || len(w.fds) > 0 {
		return
	}
	w.epoll.Close() // wakes run
	w.epoll = nil
}

// run hands out events until the epoll instance is closed.
func (w *watcher) run(epoll *os.File) {
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
			if fn := w.interested(epoll, ev.Fd); fn != nil {
				fn()
			}
		}
	}
}

// interested returns who wants to know of an event, nil when nobody does any more.
func (w *watcher) interested(epoll *os.File, fd int32) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.epoll != epoll {
		return nil // stopped meanwhile, and perhaps started anew
	}
	return w.fds[fd]
}
