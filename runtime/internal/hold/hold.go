// Package hold makes namespaces and keeps them without a process: a thread of this one sits in them, and shows them under its id
// in /proc.
package hold

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/launch"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// Request says which namespaces to keep. What it does not name is this process's own.
type Request struct {
	// Network is the path of the network namespace to be in.
	Network string
	// IPC and UTS make new namespaces.
	IPC, UTS bool
	// User is set when a user namespace owns all of them: that of Network or, without one, a new one with these ids.
	User *IDMaps
	// Hostname is the name of the host in the UTS namespace; "" leaves it this host's.
	Hostname string
	// Sysctls are parameters of these namespaces, by their names in sysctl(8).
	Sysctls map[string]string
}

// IDMaps are the ids of a user namespace.
type IDMaps struct{ UID, GID []plan.IDMap }

// root is who on this host is root in the user namespace.
func (m *IDMaps) root() uint32 {
	if m != nil {
		for _, e := range m.UID {
			if e.Container == 0 {
				return e.Host
			}
		}
	}
	return 0
}

// own are the namespaces whose parameters may be set.
func (r *Request) own() (n plan.Namespaces) {
	if r.Network != "" {
		n |= plan.NewNet
	}
	if r.IPC {
		n |= plan.NewIPC
	}
	if r.UTS {
		n |= plan.NewUTS
	}
	return n
}

// Thread keeps namespaces until it is closed.
type Thread struct {
	tid  int
	user int // descriptor of the user namespace, or -1
	stop chan struct{}
}

// Start makes the namespaces. proc is a descriptor of the mount of proc.
func Start(r Request, proc int) (*Thread, error) {
	for key := range r.Sysctls {
		if err := (plan.Sysctl{Key: key}).Check(r.own()); err != nil {
			return nil, err
		}
	}
	t := &Thread{user: -1, stop: make(chan struct{})}
	ready := make(chan error)
	onOtherThread(func() {
		err := t.enter(r, proc)
		t.tid = unix.Gettid()
		ready <- err
		if err == nil {
			<-t.stop
		}
		// The goroutine ends locked to the thread, which ends with it: nobody else ever runs in these namespaces.
	})
	if err := <-ready; err != nil {
		t.closeUser()
		return nil, err
	}
	return t, nil
}

// onOtherThread runs f in a goroutine that is locked to a thread which is not the process's first: that one never ends.
func onOtherThread(f func()) {
	taken := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			onOtherThread(f) // while this one is not to be had
			runtime.UnlockOSThread()
			close(taken)
			return
		}
		close(taken)
		f()
	}()
	<-taken
}

// TID is the id of the thread: /proc/TID/ns has its namespaces, but not the user namespace.
func (t *Thread) TID() int { return t.tid }

// UserPath is a path, in this process, of the user namespace that owns the others; "" when this process's does.
func (t *Thread) UserPath() string {
	if t.user < 0 {
		return ""
	}
	return "/proc/self/fd/" + strconv.Itoa(t.user)
}

// Close gives the namespaces up. They last as long as others are in them.
func (t *Thread) Close() {
	close(t.stop)
	t.closeUser()
}

func (t *Thread) closeUser() {
	if t.user >= 0 {
		unix.Close(t.user)
		t.user = -1
	}
}

// enter takes this thread into the namespaces and sets what is theirs.
func (t *Thread) enter(r Request, proc int) error {
	network := -1
	if r.Network != "" {
		var err error
		if network, err = launch.OpenNamespace(r.Network, plan.NewNet); err != nil {
			return fmt.Errorf("network namespace: %w", err)
		}
		defer unix.Close(network)
		if err := unix.Setns(network, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", r.Network, err)
		}
	}
	if err := t.makeNew(r, network); err != nil {
		return err
	}
	if r.UTS && r.Hostname != "" {
		if err := unix.Sethostname([]byte(r.Hostname)); err != nil {
			return fmt.Errorf("set hostname %q: %w", r.Hostname, err)
		}
	}
	for key, value := range r.Sysctls {
		if err := r.setSysctl(plan.Sysctl{Key: key, Value: value}, proc); err != nil {
			return fmt.Errorf("set sysctl %s to %q: %w", key, value, err)
		}
	}
	return nil
}

// setSysctl sets a parameter of the namespaces that this thread is in.
func (r *Request) setSysctl(s plan.Sysctl, proc int) error {
	switch {
	case s.IsDomainName():
		return unix.Setdomainname([]byte(s.Value))
	case s.Namespace() == plan.NewIPC:
		// That of a namespace which a user namespace owns is for the root of that, and for nobody else.
		return asUser(r.User.root(), func() error { return writeSysctl(s, proc) })
	}
	return writeSysctl(s, proc)
}

func writeSysctl(s plan.Sysctl, proc int) error {
	fd, err := unix.Openat(proc, "sys/"+s.Path(), unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(s.Value))
	return errors.Join(err, unix.Close(fd))
}

// asUser calls f while this thread acts as another user.
func asUser(uid uint32, f func() error) error {
	if uid == 0 {
		return f()
	}
	const same = ^uintptr(0)
	// Not by Go's functions, which change every thread.
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); errno != 0 {
		return fmt.Errorf("become the root of the user namespace: %w", errno)
	}
	err := f()
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, 0, same); errno != 0 {
		return errors.Join(err, fmt.Errorf("become root again: %w", errno))
	}
	return err
}

// makeNew makes the namespaces that are new.
func (t *Thread) makeNew(r Request, network int) (err error) {
	types := r.own() &^ plan.NewNet
	if r.User == nil {
		if types == 0 {
			return nil
		}
		if err := unix.Unshare(int(types)); err != nil {
			return fmt.Errorf("make %s namespaces: %w", types, err)
		}
		return nil
	}
	if network >= 0 {
		if t.user, err = launch.UserOf(network); err != nil {
			return fmt.Errorf("network namespace %s: %w", r.Network, err)
		}
	} else if t.user, err = launch.UserNamespace(r.User.UID, r.User.GID); err != nil {
		return fmt.Errorf("make user namespace: %w", err)
	}
	var list []plan.Namespaces
	for _, n := range []plan.Namespaces{plan.NewIPC, plan.NewUTS} {
		if types&n != 0 {
			list = append(list, n)
		}
	}
	if len(list) == 0 {
		return nil
	}
	fds, err := launch.NamespacesIn(t.user, list...)
	if err != nil {
		return err
	}
	for i, fd := range fds {
		err = errors.Join(err, wrap(unix.Setns(fd, int(list[i])), list[i]), unix.Close(fd))
	}
	return err
}

func wrap(err error, n plan.Namespaces) error {
	if err != nil {
		return fmt.Errorf("enter %s namespace: %w", n, err)
	}
	return nil
}
