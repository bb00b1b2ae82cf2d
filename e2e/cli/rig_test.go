// Package cli tests gosudacon as its callers meet it: the built program, real bundles, one process per command, and runc beside it
// where both must say the same.
package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

var runtimeFlag = flag.String("runtime", "", "command line to test (default: the one that make build left)")

// shared is what all tests use.
var shared struct {
	gosudacon, runc string // programs; runc "" when make runc has not been run
	rootfs          string // never written to
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(setUp(m))
}

func setUp(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	tree, err := containerdtest.FindTree()
	if err != nil {
		return fail(err)
	}
	shared.gosudacon = filepath.Join(tree.Bin(), "gosudacon")
	if *runtimeFlag != "" {
		shared.gosudacon = *runtimeFlag
	}
	if dir, err := tree.Peer("runc"); err == nil {
		shared.runc = filepath.Join(dir, "runc")
	}
	// A script that runs tests in the background, and nohup(1), ignore signals, which commands would inherit. A handler is not inherited.
	for _, s := range []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	if shared.rootfs, err = os.MkdirTemp("", "gosuda-cli-rootfs-"); err != nil {
		return fail(err)
	}
	defer os.RemoveAll(shared.rootfs)
	if err := errors.Join(os.Chmod(shared.rootfs, 0o755), containerdtest.WriteRootfs(shared.rootfs)); err != nil {
		return fail(err)
	}
	// As conmon and containerd's shim do: a container whose creator has gone is ours to reap.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fail(err)
	}
	return m.Run()
}

// rig is one test's own state root, bundle and runtime.
type rig struct {
	t       *testing.T
	program string
	dir     string // of everything
	root    string
	bundle  string
	cgroups string // all containers are below this cgroup
	spec    *specs.Spec
	globals []string // further options before the command
	// wrap is a command line that executes the one appended to it, as somebody else; env is added to its environment.
	wrap, env []string
	ownRoot   bool // the runtime is not told where its state root is
}

var rigs int

// newRig makes a bundle that runs args. Nothing of its containers may be left when the test ends.
func newRig(t *testing.T, args ...string) *rig {
	t.Helper()
	rigs++
	r := &rig{t: t, program: shared.gosudacon, dir: t.TempDir(), cgroups: fmt.Sprintf("/gosuda-cli-%d-%d", os.Getpid(), rigs)}
	r.root, r.bundle = filepath.Join(r.dir, "root"), filepath.Join(r.dir, "bundle")
	r.check(os.MkdirAll(filepath.Join(r.bundle, "rootfs"), 0o755))
	r.mountRootfs()
	r.spec = example(args)
	r.spec.Linux.CgroupsPath = r.cgroups + "/c"
	r.writeConfig()
	t.Cleanup(r.nothingLeft)
	return r
}

// withRunc is a rig that has runc for its runtime.
func (r *rig) withRunc() *rig {
	r.t.Helper()
	if shared.runc == "" {
		r.t.Fatal("this test needs runc to compare with: make runc")
	}
	other := *r
	other.program, other.root = shared.runc, r.root+"-runc"
	return &other
}

// example is the config of `runc spec`, without a terminal.
func example(args []string) *specs.Spec {
	caps := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	return &specs.Spec{
		Version: specs.Version, Root: &specs.Root{Path: "rootfs"}, Hostname: "test",
		Process: &specs.Process{Args: args, Env: []string{"PATH=/bin:/usr/bin", "TERM=xterm"}, Cwd: "/", NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
				Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		Linux: &specs.Linux{
			Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
			Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.MountNamespace}},
		},
	}
}

func (r *rig) mountRootfs() {
	r.t.Helper()
	target := filepath.Join(r.bundle, "rootfs")
	r.check(unix.Mount(shared.rootfs, target, "", unix.MS_BIND, ""))
	r.t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			r.t.Errorf("the root file system is in use: %v", err)
			unix.Unmount(target, unix.MNT_DETACH)
		}
	})
}

func (r *rig) writeConfig() {
	r.t.Helper()
	data, err := json.Marshal(r.spec)
	r.check(err)
	r.check(os.WriteFile(filepath.Join(r.bundle, "config.json"), data, 0o600))
}

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// path returns where the rig's file of that name is.
func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) read(name string) string {
	r.t.Helper()
	b, err := os.ReadFile(r.path(name))
	r.check(err)
	return string(b)
}

// result is how a command ended.
type result struct {
	code     int
	out, err string
}

func (r *rig) command(args ...string) *exec.Cmd {
	line := append(slices.Clone(r.wrap), r.program)
	if !r.ownRoot {
		line = append(line, "--root", r.root)
	}
	line = slices.Concat(line, r.globals, args)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir = r.bundle
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, r.env...)
	return cmd
}

// run carries out one command. Its output goes to files: a container may inherit it and outlive the command.
func (r *rig) run(args ...string) result { return r.finish(r.command(args...)) }

func (r *rig) finish(cmd *exec.Cmd) result {
	r.t.Helper()
	open := func() *os.File {
		f, err := os.CreateTemp(r.dir, "out-")
		r.check(err)
		return f
	}
	out, errs := open(), open()
	defer out.Close()
	defer errs.Close()
	if cmd.Stdout == nil {
		cmd.Stdout = out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = errs
	}
	alarm := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer alarm.Stop()
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	text := func(f *os.File) string {
		b, err := os.ReadFile(f.Name())
		r.check(err)
		return string(b)
	}
	return result{cmd.ProcessState.ExitCode(), text(out), text(errs)}
}

// ok carries out a command that must succeed and returns its output.
func (r *rig) ok(args ...string) string {
	r.t.Helper()
	res := r.run(args...)
	if res.code != 0 {
		r.t.Fatalf("%q: exit code %d: %s%s", args, res.code, res.out, res.err)
	}
	return res.out
}

// fails carries out a command that must fail with a text in its error.
func (r *rig) fails(want string, args ...string) result {
	r.t.Helper()
	res := r.run(args...)
	if res.code == 0 || !strings.Contains(res.err, want) {
		r.t.Errorf("%q: exit code %d, %q; want a failure with %q", args, res.code, res.err, want)
	}
	return res
}

// container is what state prints.
type container struct {
	specs.State
	Rootfs  string    `json:"rootfs"`
	Created time.Time `json:"created"`
	Owner   string    `json:"owner"`
}

func (r *rig) state(id string) container {
	r.t.Helper()
	var c container
	if err := json.Unmarshal([]byte(r.ok("state", id)), &c); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) expect(id string, want specs.ContainerState) container {
	r.t.Helper()
	c := r.state(id)
	if c.Status != want {
		r.t.Fatalf("container %s is %s, want %s", id, c.Status, want)
	}
	return c
}

// patience is for what should not take a second, on a machine that others keep busy.
const patience = time.Minute

// eventually waits for what no signal tells.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// stopped waits until a container's first process has ended.
func (r *rig) stopped(id string) {
	r.t.Helper()
	r.eventually(id+" is stopped", func() bool { r.reap(); return r.state(id).Status == specs.StateStopped })
}

// reap reaps what was reparented to this process. Commands are waited for before it is called.
func (r *rig) reap() {
	for {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || pid == 0 {
			return
		}
	}
}

// nothingLeft fails the test for containers, processes, cgroups and mounts that are still there, and removes them.
func (r *rig) nothingLeft() {
	for _, root := range []string{r.root, r.root + "-runc"} {
		left, _ := filepath.Glob(filepath.Join(root, "*"))
		for _, path := range left {
			r.t.Errorf("left behind: %s", path)
		}
	}
	parents, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", r.cgroups))
	if p := filepath.Join("/sys/fs/cgroup", r.cgroups); exists(p) {
		parents = append(parents, p)
	}
	if memory, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/memory/*/*", r.cgroups)); memory != nil {
		parents = append(parents, memory...)
	}
	for _, parent := range parents {
		r.removeCgroup(parent)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if errors.Is(err, unix.ECHILD) {
			break
		}
		if pid == 0 && time.Now().After(end) {
			children, _ := filepath.Glob("/proc/self/task/*/children")
			for _, name := range children {
				b, _ := os.ReadFile(name)
				for pid := range strings.FieldsSeq(string(b)) {
					line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
					r.t.Errorf("left behind: process %s %q", pid, bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
					n, _ := strconv.Atoi(pid)
					unix.Kill(n, unix.SIGKILL)
				}
			}
			break
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], r.root) {
			r.t.Errorf("left behind: mount %s", f[4])
		}
	}
}

// removeCgroup removes the parent of a rig's cgroups. Those below it should be gone; what is not is told, killed and removed.
func (r *rig) removeCgroup(parent string) {
	var dirs []string
	filepath.WalkDir(parent, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	slices.Reverse(dirs) // children first
	for _, dir := range dirs {
		if dir != parent {
			r.t.Errorf("left behind: %s", dir)
		}
		for end := time.Now().Add(20 * time.Second); unix.Rmdir(dir) == unix.EBUSY && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			procs, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			for pid := range strings.FieldsSeq(string(procs)) {
				n, _ := strconv.Atoi(pid)
				unix.Kill(n, unix.SIGKILL)
			}
			if state := filepath.Join(dir, "freezer.state"); exists(state) {
				os.WriteFile(state, []byte("THAWED"), 0) // a frozen process of cgroup v1 does not die
			}
			r.reap()
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
