package engine_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// The attack_*_test.go files play a container that wants out, or into the runtime, one known way each. What the attacker
// does inside is attacker(), this test's own program bound into the container as attackPath.
const attackPath = "/run/attack" // on a tmpfs: the root of a user namespace may not write to the bundle

// attackFile is a copy of this program: a handle on it is not one on the engine's own file, which is what attackers are after.
var attackFile = sync.OnceValues(func() (string, error) {
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "attack")
	if err != nil {
		return "", err
	}
	attackDir = dir
	name := filepath.Join(dir, "attack")
	return name, os.WriteFile(name, data, 0o755)
})

var attackDir string // removed by TestMain

// attackSpec is a container whose files include the attacker. caps are added to the usual ones.
func attackSpec(t testing.TB, caps ...string) *specs.Spec {
	t.Helper()
	file, err := attackFile()
	if err != nil {
		t.Fatal(err)
	}
	spec := testkit.Spec("sleep", "1000")
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: attackPath, Source: file, Type: "bind", Options: []string{"bind", "ro"}})
	c := spec.Process.Capabilities
	c.Bounding = append(c.Bounding, caps...)
	c.Permitted, c.Effective = c.Bounding, c.Bounding
	return spec
}

// inUserNS gives the container a user namespace, whose ids are the host's from 100000 on.
func inUserNS(spec *specs.Spec) *specs.Spec {
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	spec.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	spec.Linux.GIDMappings = spec.Linux.UIDMappings
	return spec
}

// started makes and starts a container that the test's end removes.
func started(t testing.TB, e *engine.Engine, spec *specs.Spec) *engine.Container {
	t.Helper()
	c := create(t, e, spec, nil)
	if err := c.Start(timeout(t)); err != nil {
		t.Fatal(err)
	}
	return c
}

// attack runs the attacker in a container, with the container's own privileges, and returns what it says.
func attack(t testing.TB, c *engine.Container, spec *specs.Spec, args ...string) string {
	t.Helper()
	out, wait := beginAttack(t, c, spec, args...)
	text, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	wait()
	return strings.TrimSpace(string(text))
}

// beginAttack starts the attacker; wait waits for its end.
func beginAttack(t testing.TB, c *engine.Container, spec *specs.Spec, args ...string) (out *os.File, wait func()) {
	t.Helper()
	p := *spec.Process
	p.Args = append([]string{attackPath}, args...)
	id := "attack" + itoa(int(lastID.Add(1)))
	ctx := timeout(t)
	if err := c.AddExec(ctx, engine.ExecRequest{ID: id, Process: &p}); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	_, _, err = c.StartExec(ctx, id, engine.Stdio{Out: w, Err: w})
	w.Close()
	if err != nil {
		t.Fatalf("start the attacker: %v", err)
	}
	return r, func() {
		if exit, err := c.Wait(ctx, id); err != nil || exit.Status != 0 {
			t.Errorf("the attacker %v ended with %d, %v", args, exit.Status, err)
		}
		c.DeleteExec(ctx, id)
	}
}

// pidIn returns a process's pid in the innermost pid namespace that it is in.
func pidIn(t testing.TB, pid int) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(ids)
			return f[len(f)-1]
		}
	}
	t.Fatalf("no NSpid of %d", pid)
	return ""
}

// attacker is what runs inside.
func attacker(args []string) {
	runtime.LockOSThread() // ptrace and keyrings belong to a thread
	switch args[0] {
	case "look":
		pid, _ := strconv.Atoi(args[1])
		for _, line := range lookAt(pid) {
			fmt.Println(line)
		}
	case "hunt":
		hunt(false)
	case "freeze":
		hunt(true)
	case "keys":
		keys(args[1:])
	case "tty":
		stealTerminal()
	case "descriptors":
		listDescriptors()
	case "node":
		dev, _ := strconv.Atoi(args[2])
		fmt.Println("mknod", errno(unix.Mknod(args[1], unix.S_IFCHR|0o600, dev)))
		_, err := unix.Open(args[1], unix.O_RDONLY, 0)
		fmt.Println("open", errno(err))
	}
	os.Exit(0)
}

func errno(err error) string {
	if err == nil {
		return "ok"
	}
	return err.Error()
}

// lookAt tries everything that leads from one process to another's files and memory, a line each: what, and the error.
func lookAt(pid int) []string {
	proc := "/proc/" + itoa(pid) + "/"
	var out []string
	say := func(what string, err error) { out = append(out, what+" "+errno(err)) }
	for _, f := range []struct {
		name  string
		flags int
	}{{"exe", unix.O_PATH}, {"cwd", unix.O_PATH}, {"root", unix.O_PATH}, {"mem", unix.O_RDWR}, {"environ", unix.O_RDONLY}, {"maps", unix.O_RDONLY},
		{"fd/0", unix.O_PATH}, {"fd/3", unix.O_PATH}, {"map_files/400000-401000", unix.O_PATH}} {
		fd, err := unix.Open(proc+f.name, f.flags|unix.O_CLOEXEC, 0)
		say(f.name, err)
		unix.Close(fd)
	}
	_, err := os.Readlink(proc + "exe")
	say("readlink", cause(err))
	list, err := os.ReadDir(proc + "fd") // the numbers are for everybody of that user, where they lead is not
	for _, e := range list {
		if _, err = os.Readlink(proc + "fd/" + e.Name()); err == nil {
			break
		}
	}
	say("fds", cause(err))
	var word [8]byte
	local := []unix.Iovec{{Base: &word[0], Len: 8}}
	_, err = unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(0x400000), Len: 8}}, 0)
	say("process_vm_readv", err)
	if pidfd, err := unix.PidfdOpen(pid, 0); err == nil {
		fd, err := unix.PidfdGetfd(pidfd, 0, 0)
		say("pidfd_getfd", err)
		unix.Close(fd)
		unix.Close(pidfd)
	}
	err = unix.PtraceAttach(pid)
	say("ptrace", err)
	if err == nil {
		unix.Wait4(pid, nil, unix.WALL, nil)
		unix.PtraceDetach(pid)
	}
	return out
}

func cause(err error) error {
	if e, ok := err.(*os.PathError); ok {
		return e.Err
	}
	return err
}

// hunt stops every process that appears in its pid namespace as soon as it sees it, looks at it, and lets it go, until
// something arrives on standard input. It says what it got of each. To freeze is to leave the first that has not executed
// anything yet stopped.
func hunt(freeze bool) {
	done := make(chan struct{})
	go func() {
		os.Stdin.Read(make([]byte, 1))
		close(done)
	}()
	seen := map[string]bool{}
	list := func() []string {
		d, _ := os.ReadDir("/proc")
		var out []string
		for _, e := range d {
			if c := e.Name()[0]; c >= '0' && c <= '9' && !seen[e.Name()] {
				out = append(out, e.Name())
				seen[e.Name()] = true
			}
		}
		return out
	}
	list()
	fmt.Println("ready")
	for {
		select {
		case <-done:
			return
		default:
		}
		if runtime.NumCPU() == 1 { // let them run, and interrupt them
			unix.Nanosleep(&unix.Timespec{Nsec: 10_000}, nil)
		}
		for _, name := range list() {
			pid, _ := strconv.Atoi(name)
			if unix.Kill(pid, unix.SIGSTOP) != nil {
				continue
			}
			// The signal is only on its way: what is on its way through execve gets through.
			for stat := []byte("R"); len(stat) > 0 && !strings.Contains(string(stat), ") T "); {
				stat, _ = os.ReadFile("/proc/" + name + "/stat")
			}
			var st unix.Stat_t
			err := unix.Stat("/proc/"+name+"/exe", &st)
			if freeze && err == unix.EACCES {
				fmt.Println("frozen")
				<-done
				return
			}
			fmt.Printf("caught exe %s inode %d: %s\n", errno(err), st.Ino, strings.Join(lookAt(pid), ", "))
			unix.Kill(pid, unix.SIGCONT)
		}
	}
}

// keys works on the session keyring.
func keys(args []string) {
	switch args[0] {
	case "add":
		_, err := unix.AddKey("user", args[1], []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING)
		fmt.Println(errno(err))
	case "search":
		_, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", args[1], 0)
		fmt.Println(errno(err))
	case "id":
		id, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
		text, _ := unix.KeyctlString(unix.KEYCTL_DESCRIBE, id)
		fmt.Println(id, errno(err), text)
	case "steal": // by its name and by its number
		_, err := unix.KeyctlJoinSessionKeyring(args[2])
		fmt.Println("join", errno(err))
		_, err = unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", args[1], 0)
		fmt.Println("search", errno(err))
		ring, _ := strconv.Atoi(args[3])
		_, err = unix.KeyctlInt(unix.KEYCTL_LINK, ring, unix.KEY_SPEC_SESSION_KEYRING, 0, 0)
		fmt.Println("link", errno(err))
		_, err = unix.KeyctlString(unix.KEYCTL_DESCRIBE, ring)
		fmt.Println("describe", errno(err))
	}
}

// stealTerminal wants what is typed on the terminal that its standard input is, and to type on it (TIOCSTI).
func stealTerminal() {
	_, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	fmt.Println("open", errno(cause(err)))
	_, _, e := unix.Syscall(unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 1)
	fmt.Println("take", errno(failure(e)))
	for _, c := range []byte("id\n") {
		_, _, e = unix.Syscall(unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(unsafe.Pointer(&c)))
	}
	fmt.Println("type", errno(failure(e)))
}

func failure(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// listDescriptors says what is open beside the standard streams, as it was before the Go runtime opened its own.
func listDescriptors() {
	for fd := 0; fd < 256; fd++ {
		target, err := os.Readlink("/proc/self/fd/" + itoa(fd))
		if err == nil && !strings.HasPrefix(target, "anon_inode:[event") {
			fmt.Println(fd, target)
		}
	}
}
