package hold

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

func start(t *testing.T, r Request) (*Thread, error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	proc, err := os.Open("/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	return Start(r, int(proc.Fd()))
}

func (t *Thread) namespace(file string) string {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", t.TID(), file))
	if err != nil {
		return err.Error()
	}
	return link
}

// TestThread: the thread, and no other, has the namespaces; it ends with Close.
func TestThread(t *testing.T) {
	testkit.NoLeaks(t)
	var threads []*Thread
	for range 10 { // so that one of them would be the process's first thread
		th, err := start(t, Request{IPC: true, UTS: true, Hostname: "held", Sysctls: map[string]string{"kernel.shm_rmid_forced": "1", "kernel.domainname": "domain"}})
		if err != nil {
			t.Fatal(err)
		}
		threads = append(threads, th)
	}
	seen := map[string]bool{}
	for _, th := range threads {
		if th.TID() == os.Getpid() {
			t.Error("the process's first thread is in it, for ever")
		}
		for _, file := range []string{"ipc", "uts"} {
			own, _ := os.Readlink("/proc/self/ns/" + file)
			if ns := th.namespace(file); ns == own || seen[ns] {
				t.Errorf("namespace %s is somebody else's", ns)
			} else {
				seen[ns] = true
			}
		}
		if host, _ := os.Readlink("/proc/self/ns/net"); th.namespace("net") != host {
			t.Error("it has a network of its own")
		}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil || strings.HasPrefix(string(name.Nodename[:]), "held\x00") {
		t.Errorf("this thread's host is %q, %v", name.Nodename, err)
	}
	for _, th := range threads {
		th.Close()
	}
	for end := time.Now().Add(10 * time.Second); len(threads) > 0; runtime.Gosched() {
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", threads[0].TID())); err != nil {
			threads = threads[1:]
		} else if time.Now().After(end) {
			t.Fatal("a thread does not end")
		}
	}
}

// TestUserNamespace: the namespaces belong to the user namespace, to whose root the parameters are.
func TestUserNamespace(t *testing.T) {
	testkit.NoLeaks(t)
	maps := []plan.IDMap{{Container: 0, Host: 100000, Size: 1000}}
	th, err := start(t, Request{IPC: true, UTS: true, User: &IDMaps{maps, maps}, Hostname: "held", Sysctls: map[string]string{"kernel.shm_rmid_forced": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer th.Close()
	inode := func(path string) uint64 {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	for _, file := range []string{"ipc", "uts"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", th.TID(), file))
		if err != nil {
			t.Fatal(err)
		}
		owner, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_USERNS)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := inode(fmt.Sprintf("/proc/self/fd/%d", owner)), inode(th.UserPath()); got != want {
			t.Errorf("the owner of its %s namespace is %d, not %d", file, got, want)
		}
		unix.Close(owner)
		f.Close()
	}
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", th.TID())); err != nil || !strings.Contains(string(text), "Uid:\t0\t0\t0\t0\n") {
		t.Errorf("the thread is not root's: %s, %v", text, err)
	}
}

func TestStartRefuses(t *testing.T) {
	testkit.NoLeaks(t)
	maps := []plan.IDMap{{Container: 0, Host: 100000, Size: 1000}}
	for want, r := range map[string]Request{
		"linux.sysctl.kernel.shmmax": {Sysctls: map[string]string{"kernel.shmmax": "1"}},
		"linux.sysctl.vm.swappiness": {IPC: true, UTS: true, Sysctls: map[string]string{"vm.swappiness": "1"}},
		"set sysctl kernel.shmmax":   {IPC: true, Sysctls: map[string]string{"kernel.shmmax": "many"}},
		"/proc/self/ns/ipc is not a": {Network: "/proc/self/ns/ipc"},
		"its process's own":          {Network: "/proc/self/ns/net", User: &IDMaps{maps, maps}},
		"set hostname":               {UTS: true, Hostname: strings.Repeat("x", 65)},
	} {
		if th, err := start(t, r); err == nil {
			th.Close()
			t.Errorf("%q: no error", want)
		} else if !strings.Contains(err.Error(), strings.TrimPrefix(want, "its ")) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
