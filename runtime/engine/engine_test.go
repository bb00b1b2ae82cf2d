package engine_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// events collects what an engine tells.
type events struct {
	mu   sync.Mutex
	list []engine.Event
}

func (e *events) add(ev engine.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, ev)
}

func (e *events) kinds() []engine.EventKind {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []engine.EventKind
	for _, ev := range e.list {
		out = append(out, ev.Kind)
	}
	return out
}

var lastID atomic.Int64

func itoa(n int) string { return strconv.Itoa(n) }

func newID() string { return fmt.Sprintf("%s%d", testkit.Prefix, lastID.Add(1)) }

func newEngine(t testing.TB) (*engine.Engine, *events) {
	t.Helper()
	return newLoggedEngine(t, io.Discard)
}

func newLoggedEngine(t testing.TB, log io.Writer) (*engine.Engine, *events) {
	t.Helper()
	ev := &events{}
	e, err := engine.New(engine.Options{Root: filepath.Join(t.TempDir(), "state"), OnEvent: ev.add, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return e, ev
}

// timeout bounds what hangs, on machines that others keep busy too.
func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// run creates, starts, waits for and deletes a container, and returns its output and exit.
func run(t testing.TB, spec *specs.Spec) (string, engine.Exit) {
	t.Helper()
	return runBundle(t, testkit.Bundle(t, spec), spec)
}

// runBundle is run of a bundle that is there; its config is written.
func runBundle(t testing.TB, bundle string, spec *specs.Spec) (string, engine.Exit) {
	t.Helper()
	e, _ := newEngine(t)
	spec.Linux.CgroupsPath = "/" + newID()
	testkit.WriteConfig(t, bundle, spec)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx := timeout(t)
	c, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: bundle, Stdio: engine.Stdio{Out: w, Err: w}})
	w.Close()
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	if err := c.Start(ctx); err != nil {
		c.Delete(ctx)
		t.Fatalf("start: %v", err)
	}
	out, _ := io.ReadAll(r)
	exit, err := c.Wait(ctx, "")
	if err != nil {
		t.Fatalf("wait: %v", err)
	}
	if _, err := c.Delete(ctx); err != nil {
		t.Fatalf("delete: %v", err)
	}
	return string(out), exit
}

func TestRun(t *testing.T) {
	testkit.NoLeaks(t)
	out, exit := run(t, testkit.Spec("sh", "-c", "echo hello; exit 7"))
	if strings.TrimSpace(out) != "hello" || exit.Status != 7 {
		t.Fatalf("output %q, status %d; want hello, 7", out, exit.Status)
	}
}

// TestLargeEnvironment: a program that is too large to follow while its child works is made before.
func TestLargeEnvironment(t *testing.T) {
	testkit.NoLeaks(t)
	s := testkit.Spec("sh", "-c", "cat /proc/1/environ | wc -c")
	const variables, size = 15, 100 << 10
	s.Process.Env = nil
	for i := range variables {
		s.Process.Env = append(s.Process.Env, fmt.Sprintf("V%02d=%s", i, strings.Repeat("x", size)))
	}
	s.Process.Env = append(s.Process.Env, "PATH=/bin", "HOME=/")
	want := variables*(size+len("V00=")+1) + len("PATH=/bin") + 1 + len("HOME=/") + 1
	if out, exit := run(t, s); strings.TrimSpace(out) != strconv.Itoa(want) || exit.Status != 0 {
		t.Errorf("the environment has %.100q bytes, status %d; want %d", out, exit.Status, want)
	}
}

// TestEnvironment asserts what a plain container looks like from inside.
func TestEnvironment(t *testing.T) {
	testkit.NoLeaks(t)
	for _, tc := range []struct {
		name   string
		change func(*specs.Spec)
		script string
		want   string
	}{
		{"nothing of the host is mounted", nil, "grep -c ' / / ' /proc/self/mountinfo; grep -c ' /sys/fs/cgroup' /proc/self/mountinfo; cat /proc/1/comm; true", "0\n0\nsh"},
		{"nothing of the host is mounted, without masks", func(s *specs.Spec) { s.Linux.MaskedPaths = nil },
			"grep -c ' / / ' /proc/self/mountinfo; grep -c ' /sys/fs/cgroup' /proc/self/mountinfo; cat /proc/1/comm; true", "0\n0\nsh"},
		{"pid 1", nil, "echo $$", "1"},
		{"no descriptors", nil, "echo $(ls /proc/self/fd)", "0 1 2 3"}, // 3 is the directory itself
		{"devices", nil, "for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done; readlink /dev/ptmx; readlink /dev/fd", "pts/ptmx\n/proc/self/fd"},
		{"masked", nil, "cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l", "0\n0"},
		{"read-only paths", nil, "(echo 1 > /proc/sys/kernel/pid_max) 2>&1; echo $?", "sh: can't create /proc/sys/kernel/pid_max: Read-only file system\n1"},
		{"home", nil, "echo $HOME", "/root"},
		{"home of a user", func(s *specs.Spec) {
			s.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{5, 10}}
		},
			"echo $HOME; id -u; id -g; id -G", "/home/user\n1000\n1000\n1000 5 10"},
		{"stderr belongs to the user", func(s *specs.Spec) { s.Process.User.UID = 7 }, "echo x > /dev/stderr", "x"},
		{"capabilities", nil, "grep Cap /proc/self/status | head -n 4", "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb"},
		{"no capabilities as a user", func(s *specs.Spec) { s.Process.User.UID = 7 }, "grep CapEff /proc/self/status", "CapEff:\t0000000000000000"},
		{"ambient", func(s *specs.Spec) {
			s.Process.User.UID = 7
			c := []string{"CAP_NET_RAW"}
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: c, Permitted: c, Inheritable: c, Effective: c, Ambient: c}
		}, "grep Cap /proc/self/status", "CapInh:\t0000000000002000\nCapPrm:\t0000000000002000\nCapEff:\t0000000000002000\nCapBnd:\t0000000000002000\nCapAmb:\t0000000000002000"},
		{"no_new_privs", nil, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"},
		{"signals", func(s *specs.Spec) { s.Process.Args = []string{"grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"} }, "", "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000"},
		{"limit from the spec", nil, "ulimit -n", "1024"},
		{"oom score", func(s *specs.Spec) { n := 123; s.Process.OOMScoreAdj = &n }, "cat /proc/self/oom_score_adj", "123"},
		{"read-only root", func(s *specs.Spec) { s.Root.Readonly = true }, "touch /x 2>&1; touch /run/y && echo ok", "touch: /x: Read-only file system\nok"},
		{"hostname", func(s *specs.Spec) { s.Hostname = "mars" }, "hostname", "mars"},
		{"working directory is made", func(s *specs.Spec) { s.Process.Cwd = "/a/b" }, "pwd", "/a/b"},
		{"umask", func(s *specs.Spec) { u := uint32(0o077); s.Process.User.Umask = &u }, "umask", "0077"},
		{"loopback is up", nil, "ip addr show lo | grep -c 127.0.0.1", "1"},
		{"sysctl", func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmax": "4096"}
		},
			"cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax", "1\n4096"},
		{"cgroup namespace", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
		}, "grep -vc ':/$' /proc/self/cgroup", "0"},
		{"device", func(s *specs.Spec) {
			mode := os.FileMode(0o640)
			uid := uint32(5)
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/deep/fuse", Type: "c", Major: 10, Minor: 229, FileMode: &mode, UID: &uid}}
		}, "stat -c '%t %T %a %u' /dev/deep/fuse", "a e5 640 5"},
		{"mask and file bind", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/new/hosts", Source: "/etc/hostname", Type: "bind", Options: []string{"bind", "ro"}})
		}, "test -s /etc/new/hosts && (echo x > /etc/new/hosts) 2>&1", "sh: can't create /etc/new/hosts: Read-only file system"},
		{"user namespace", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 0, Size: 65536}}
			s.Linux.GIDMappings = s.Linux.UIDMappings
		}, "cat /proc/self/uid_map | wc -l; test -c /dev/null && echo x >/dev/null && id -u; cat /proc/self/oom_score_adj", "1\n0\n0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec := testkit.Spec("sh", "-c", tc.script)
			if tc.change != nil {
				tc.change(spec)
			}
			out, _ := run(t, spec)
			if got := strings.TrimSpace(out); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
