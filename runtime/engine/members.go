package engine

import (
	"errors"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/store"
)

// members are the processes of a container that has no cgroup to tell: those in its pid namespace or, where it shares that with
// others, those that descend from init. One that init's end has given to another parent is missed then.
type members struct {
	init   int
	shared bool // the pid namespace
}

// pids lists them, init first.
func (m members) pids() ([]int, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	list := []int{m.init}
	if !m.shared {
		if ns, ok := pidNamespace(m.init); ok {
			for _, pid := range all {
				if other, ok := pidNamespace(pid); pid != m.init && ok && other == ns {
					list = append(list, pid)
				}
			}
		} // else it waits at its gate, alone
		return list, nil
	}
	parents := map[int]int{}
	for _, pid := range all {
		if parent, err := store.Parent(pid); err == nil {
			parents[pid] = parent
		}
	}
	for _, pid := range all {
		if pid != m.init && descends(parents, pid, m.init) {
			list = append(list, pid)
		}
	}
	return list, nil
}

// descends walks up from a process; parents were not read all at once, and may be a circle for it.
func descends(parents map[int]int, pid, from int) bool {
	for range parents {
		parent, ok := parents[pid]
		if !ok || parent == from {
			return ok
		}
		pid = parent
	}
	return false
}

// signal sends a signal to all of them, and to those that they fork meanwhile. Init is the last: by its end the others would get
// another parent.
func (m members) signal(sig unix.Signal) error {
	done := map[int]bool{m.init: true}
	for sig != unix.SIGKILL || m.shared { // else init's end is that of its pid namespace
		list, err := m.pids()
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(pid int) bool { return done[pid] })
		if len(list) == 0 {
			break
		}
		if err := m.signalOnly(list, sig); err != nil {
			return err
		}
		for _, pid := range list {
			done[pid] = true
		}
	}
	return m.signalOnly([]int{m.init}, sig)
}

// signalOnly signals processes if they are still among them once they are held: a pid that was listed may be another's by now.
func (m members) signalOnly(pids []int, sig unix.Signal) error {
	held := map[int]int{} // pidfds by pid
	defer func() {
		for _, fd := range held {
			unix.Close(fd)
		}
	}()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("pidfd_open", err)
		}
		held[pid] = fd
	}
	list, err := m.pids()
	if err != nil {
		return err
	}
	for pid, fd := range held {
		if !slices.Contains(list, pid) {
			continue
		}
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return os.NewSyscallError("pidfd_send_signal", err)
		}
	}
	return nil
}

// processes lists the pids that this process can see, in ascending order.
func processes() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// pidNamespace names the pid namespace of a process; ok is false when that has ended or is not for us to look at.
func pidNamespace(pid int) (name string, ok bool) {
	name, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/pid")
	return name, err == nil
}
