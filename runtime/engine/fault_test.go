package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// TestEveryStepFails makes each step of a plan fail in turn: create says which, and nothing is left.
func TestEveryStepFails(t *testing.T) {
	a := startAgent(t)
	tree := hostTree(t, unix.MS_PRIVATE)
	tried := map[string]bool{} // by the step's line in the plan
	t.Run("usual", func(t *testing.T) {
		if n := everyStepFails(t, func(*testing.T, *specs.Spec) {}, tried); n < 45 {
			t.Errorf("only %d steps failed", n)
		}
	})
	for name, change := range map[string]func(*testing.T, *specs.Spec){
		"attributes": func(t *testing.T, s *specs.Spec) {
			addUserNamespace(s)
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch}
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE}
			s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux}
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolDefault}
		},
		"seccomp agent": func(t *testing.T, s *specs.Spec) {
			s.Linux.Seccomp = notified(a)
			s.Process.NoNewPrivileges = false
		},
		"network device": func(t *testing.T, s *specs.Spec) {
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{veth(t, 9): {}}
		},
		"mounted passwd": func(t *testing.T, s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/passwd", Source: "/etc/passwd", Type: "bind", Options: []string{"bind"}})
		},
		"clocks": func(t *testing.T, s *specs.Spec) {
			if !exists("/proc/self/timens_offsets") {
				t.Skip("the kernel has no time namespaces (CONFIG_TIME_NS)")
			}
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}}
		},
		"user namespace beside a joined one": func(t *testing.T, s *specs.Spec) {
			addUserNamespace(s)
			for i, n := range s.Linux.Namespaces {
				if n.Type == specs.CgroupNamespace {
					s.Linux.Namespaces[i].Path = "/proc/self/ns/cgroup"
				}
			}
		},
		"mounts": func(t *testing.T, s *specs.Spec) {
			bind := specs.Mount{Destination: "/b", Type: "bind", Source: tree, Options: []string{"rbind", "rro", "private"}}
			if kernelAtLeast(t, 6, 3) { // or the ids of a tmpfs cannot be mapped
				bind.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}}
				bind.GIDMappings = bind.UIDMappings
			}
			s.Linux.RootfsPropagation = "shared"
			s.Mounts = append(s.Mounts, bind,
				specs.Mount{Destination: "/b", Options: []string{"bind", "remount", "noexec"}},
				specs.Mount{Destination: "/etc", Type: "tmpfs", Source: "t", Options: []string{"tmpcopyup", "ro", "slave"}},
				specs.Mount{Destination: "/t", Type: "tmpfs", Source: "t", Options: []string{"sync"}},
				specs.Mount{Destination: "/t", Type: "tmpfs", Options: []string{"remount", "size=1m"}},
				specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro"}})
		},
		"cgroups of v1 that come later": func(t *testing.T, s *specs.Spec) {
			if onV2() {
				t.Skip("the controllers are in cgroup v2")
			}
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace })
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup"})
		},
		"no pivot": func(_ *testing.T, s *specs.Spec) { noPivot(s) },
		"a shared mount namespace": func(t *testing.T, s *specs.Spec) {
			s.Root.Readonly, s.Process.Terminal = false, false
			s.Mounts, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil, nil
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.MountNamespace })
		},
	} {
		t.Run(name, func(t *testing.T) {
			if n := everyStepFails(t, change, tried); n == 0 {
				t.Error("the config has no step of its own")
			}
		})
	}
}

// noPivot is the change of a config to one whose bundle asks for no pivot; everyStepFails knows it.
func noPivot(s *specs.Spec) { s.Annotations = map[string]string{"test.no-pivot": "true"} }

// everyStepFails makes each step fail that was not tried, and returns how many it were.
func everyStepFails(t *testing.T, change func(*testing.T, *specs.Spec), tried map[string]bool) (steps int) {
	testkit.NoLeaks(t)
	spec := testkit.Spec("true")
	spec.Hostname = "x"
	spec.Root.Readonly = true
	spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/run/mnt", Source: "/etc", Type: "bind", Options: []string{"rbind", "ro"}})
	hook := []specs.Hook{{Path: "/bin/true"}}
	spec.Hooks = &specs.Hooks{Prestart: hook, CreateRuntime: hook, CreateContainer: hook, StartContainer: hook} //nolint:staticcheck // prestart is in the spec
	spec.Process.Terminal = true
	spec.Process.Args = []string{"sleep", "1000"}
	change(t, spec)
	e, ev := newEngine(t)
	dir := testkit.Bundle(t, spec)
	request := engine.CreateRequest{ID: "x", Bundle: dir, Terminal: spec.Process.Terminal, NoPivotRoot: spec.Annotations["test.no-pivot"] != ""}
	x, err := e.Explain(request)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range x.Steps {
		step, what := s.Number, s.Place+" "+s.Config+" "+s.What
		if step == 0 || tried[what] { // 0: before or after the launch
			continue
		}
		tried[what] = true
		spec.Linux.CgroupsPath = "/" + newID()
		testkit.WriteConfig(t, dir, spec)
		ctx := timeout(t)
		request.ID, request.FailStep = newID(), step
		c, err := e.Create(ctx, request)
		if err == nil {
			// The last steps come after `created`: the gate is open when they fail.
			err = c.Start(ctx)
			c.Kill(ctx, "", uint32(unix.SIGKILL), true)
			c.Wait(ctx, "")
			if _, e := c.Delete(ctx); e != nil {
				t.Errorf("step %d: delete: %v", step, e)
			}
		} else if len(ev.list) > 0 {
			t.Errorf("step %d: events after a failed create: %v", step, ev.kinds())
		}
		ev.list = nil
		if !errors.Is(err, unix.EIO) {
			t.Fatalf("step %d: %v, want EIO", step, err)
		}
		steps++
	}
	return steps
}

// TestEveryExecStepFails makes each step of an exec's plan fail in turn, in a container with much of what an exec has to
// follow it into: its start says so, nothing is left, and the next exec works.
func TestEveryExecStepFails(t *testing.T) {
	testkit.NoLeaks(t)
	a := startAgent(t)
	e, _ := newEngine(t)
	spec := testkit.Spec("sleep", "1000")
	addUserNamespace(spec)
	if exists("/proc/self/timens_offsets") {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	}
	spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux}
	spec.Linux.Seccomp = notified(a)
	spec.Process.NoNewPrivileges = false
	c := create(t, e, spec, nil)
	ctx := timeout(t)
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	p := *spec.Process
	p.Args, p.Terminal = []string{"true"}, true
	p.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch}
	p.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE}
	p.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "0"}
	steps := 0
	for step := 1; ; step++ {
		id := "x" + itoa(step)
		if err := c.AddExec(ctx, engine.ExecRequest{ID: id, Process: &p, FailStep: step}); err != nil {
			t.Fatal(err)
		}
		_, console, err := c.StartExec(ctx, id, engine.Stdio{})
		if err == nil {
			console.Close()
			if _, err := c.Wait(ctx, id); err != nil {
				t.Fatal(err)
			}
			break
		}
		if !errors.Is(err, unix.EIO) {
			t.Fatalf("step %d: %v, want EIO", step, err)
		}
		if _, err := c.DeleteExec(ctx, id); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		steps++
	}
	if steps < 18 {
		t.Errorf("only %d steps failed", steps)
	}
	if pids, err := c.Pids(); err != nil || len(pids) != 1 {
		t.Errorf("processes %v, %v; want init alone", pids, err)
	}
}

// TestBadConfig: each is one clear error that names the thing.
func TestBadConfig(t *testing.T) {
	testkit.NoLeaks(t)
	for _, tc := range []struct {
		name   string
		change func(*specs.Spec)
		want   string
		kind   engine.Kind
	}{
		{"no args", func(s *specs.Spec) { s.Process.Args = nil }, "process.args: is empty", engine.InvalidArgument},
		{"relative cwd", func(s *specs.Spec) { s.Process.Cwd = "x" }, "process.cwd", engine.InvalidArgument},
		{"unknown program", func(s *specs.Spec) { s.Process.Args = []string{"nothing"} }, `exec: "nothing": executable file not found in $PATH`, engine.Internal},
		{"unknown path", func(s *specs.Spec) { s.Process.Args = []string{"/nothing"} }, `exec: "/nothing": stat /nothing: no such file or directory`, engine.Internal},
		{"not executable", func(s *specs.Spec) { s.Process.Args = []string{"/etc/passwd"} }, `exec: "/etc/passwd": permission denied`, engine.Internal},
		{"a directory", func(s *specs.Spec) { s.Process.Args = []string{"/etc"} }, `exec: "/etc": is a directory`, engine.Internal},
		{"root leaves the bundle", func(s *specs.Spec) { s.Root.Path = "../x" }, `root.path: "../x" leads out of the bundle`, engine.InvalidArgument},
		{"no root", func(s *specs.Spec) { s.Root.Path = "missing" }, "root.path", engine.InvalidArgument},
		{"missing source", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Source: "/no/such", Type: "bind", Options: []string{"rbind"}})
		}, "mounts[7]: rbind /no/such on /x", engine.Internal},
		{"cgroup escapes", func(s *specs.Spec) { s.Linux.CgroupsPath = "/../../x" }, "linux.cgroupsPath", engine.InvalidArgument},
		{"mount on /proc", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/proc/self/attr", Source: "/tmp", Type: "bind", Options: []string{"bind"}})
		}, "mounts[7]", engine.InvalidArgument},
		{"foreign sysctl", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.pid_max": "10"} }, "linux.sysctl.kernel.pid_max", engine.InvalidArgument},
		{"no resource control", func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "x"} }, "linux.intelRdt: ", engine.InvalidArgument},
		{"unreachable cwd", func(s *specs.Spec) { s.Process.Cwd = "/proc/self/fd/7" }, "process.", engine.Internal},
		{"hook fails", func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo no >&2; exit 3"}}}}
		}, "hooks.createRuntime[0] /bin/sh: exit status 3: no", engine.Internal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			testkit.NoLeaks(t)
			e, ev := newEngine(t)
			spec := testkit.Spec("true")
			spec.Linux.CgroupsPath = "/" + newID()
			tc.change(spec)
			c, err := e.Create(context.Background(), engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)})
			if err == nil {
				c.Delete(timeout(t))
				t.Fatal("create did not fail")
			}
			if !strings.Contains(err.Error(), tc.want) || kindOf(err) != tc.kind {
				t.Errorf("kind %d: %v\nwant kind %d with %q", kindOf(err), err, tc.kind, tc.want)
			}
			if len(ev.list) > 0 {
				t.Errorf("events: %v", ev.kinds())
			}
		})
	}
}

// TestDuplicate: an id is used once.
func TestDuplicate(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	c := create(t, e, testkit.Spec("true"), nil)
	if _, err := e.Create(timeout(t), engine.CreateRequest{ID: c.ID(), Bundle: testkit.Bundle(t, testkit.Spec("true"))}); kindOf(err) != engine.AlreadyExists {
		t.Errorf("second create: %v", err)
	}
	for _, id := range []string{"", ".", "..", "a/b", "a b"} {
		if _, err := e.Create(timeout(t), engine.CreateRequest{ID: id, Bundle: "/x"}); kindOf(err) != engine.InvalidArgument {
			t.Errorf("id %q: %v", id, err)
		}
	}
}

// TestCancel: a create whose caller gives up leaves nothing, here while a hook sleeps.
func TestCancel(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	spec := testkit.Spec("true")
	spec.Linux.CgroupsPath = "/" + newID()
	started := t.TempDir() + "/started"
	spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "mkfifo " + started + " 2>/dev/null; exec sleep 1000"}}}}
	ctx, cancel := context.WithCancel(context.Background())
	spec.Hooks.CreateRuntime = append([]specs.Hook{{Path: "/bin/true"}}, spec.Hooks.CreateRuntime...)
	go func() {
		for !exists(started) {
			if ctx.Err() != nil {
				return
			}
		}
		cancel()
	}()
	if _, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)}); err == nil {
		t.Error("create did not fail")
	}
}
