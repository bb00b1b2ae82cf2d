package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// script is a hook that runs a shell script.
func script(text string, env ...string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", text}, Env: append(env, "PATH=/bin:/usr/bin")}
}

// shared gives the container a directory of the host at /out and returns it.
func shared(t testing.TB, spec *specs.Spec) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) { // a user of a user namespace must get there
		os.Chmod(d, 0o777)
	}
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/out", Type: "bind", Source: dir, Options: []string{"rbind"}})
	return dir
}

// TestHooks runs all six points: in order, each in its namespaces, with the state on its standard input.
func TestHooks(t *testing.T) {
	for _, userNS := range []bool{false, true} {
		t.Run(fmt.Sprintf("user namespace %t", userNS), func(t *testing.T) {
			testkit.NoLeaks(t)
			spec := testkit.Spec("sh", "-c", "echo process >> /out/log")
			if userNS {
				withUserNamespace(spec)
			}
			dir := shared(t, spec)
			root := testkit.Bundle(t, spec) + "/rootfs"
			if err := os.Mkdir(root+"/out", 0o755); err != nil { // a user namespace's root may not
				t.Fatal(err)
			}
			if err := os.WriteFile(dir+"/log", nil, 0o666); err != nil {
				t.Fatal(err)
			}
			os.Chmod(dir+"/log", 0o666)
			own, err := os.Readlink("/proc/self/ns/mnt")
			if err != nil {
				t.Fatal(err)
			}
			// Each tells its name, the state's status and pid, whose mount namespace it is in, where it starts, whether the
			// container's mounts are there, and the lowest pid that it sees of itself.
			hook := func(name, out, rootfs string) []specs.Hook {
				return []specs.Hook{script(`s=$(cat); f() { echo "$s" | grep -o "\"$1\":[^,}]*" | tr -d '"'; }
					m=container; test "$(readlink /proc/self/ns/mnt)" = "` + own + `" && m=runtime
					v=unmounted; test -e ` + rootfs + `/proc/version && v=mounted
					p=$(grep NSpid /proc/self/status | wc -w)
					echo ` + name + ` $(f status) $(f pid) $m $(pwd) $v $p >> ` + out + `/log`)}
			}
			spec.Hooks = &specs.Hooks{
				Prestart: hook("prestart", dir, root), CreateRuntime: hook("createRuntime", dir, root), //nolint:staticcheck // prestart is in the spec
				CreateContainer: hook("createContainer", dir, root), StartContainer: hook("startContainer", "/out", ""),
				Poststart: hook("poststart", dir, root), Poststop: hook("poststop", dir, root),
			}
			e, _ := newEngine(t)
			spec.Linux.CgroupsPath = "/" + newID()
			bundle := filepath.Dir(root)
			testkit.WriteConfig(t, bundle, spec)
			ctx := timeout(t)
			c, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: bundle})
			if err != nil {
				t.Fatal(err)
			}
			pid := c.Pid()
			if err := c.Start(ctx); err != nil {
				t.Error(err)
			}
			c.Wait(ctx, "")
			if _, err := c.Delete(ctx); err != nil {
				t.Error(err)
			}
			b, _ := os.ReadFile(dir + "/log")
			want := fmt.Sprintf(`prestart status:creating pid:%[1]d runtime %[2]s unmounted 2
createRuntime status:creating pid:%[1]d runtime %[2]s unmounted 2
createContainer status:creating pid:1 container %[2]s/rootfs mounted 3
startContainer status:created pid:1 container / mounted 2
process
poststart status:running pid:%[1]d runtime %[2]s unmounted 2
poststop status:stopped runtime %[2]s unmounted 2
`, pid, bundle)
			got := string(b)
			// The process and poststart run side by side.
			if i := strings.Index(got, "process\n"); i > strings.Index(got, "poststart") {
				got = strings.Replace(strings.Replace(got, "process\n", "", 1), "poststart", "process\npoststart", 1)
			}
			if got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// withUserNamespace gives the container a user namespace whose root is nobody on the host.
func withUserNamespace(spec *specs.Spec) {
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	spec.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	spec.Linux.GIDMappings = spec.Linux.UIDMappings
}

// TestHookFails: each point's failure does what the spec says, the hooks after it do not run, and poststop always does.
func TestHookFails(t *testing.T) {
	for _, tc := range []struct {
		point          string
		create, start  string // the errors' beginnings, "" for none
		ran            string // the hooks that ran
		processStarted bool
	}{
		{"prestart", "hooks.prestart[0] /bin/sh: exit status 3: why", "", "prestart poststop", false},
		{"createRuntime", "hooks.createRuntime[0] /bin/sh: ", "", "prestart createRuntime poststop", false},
		{"createContainer", "hooks.createContainer[0] /bin/sh: exit status 3: why", "", "prestart createRuntime createContainer poststop", false},
		{"startContainer", "", "hooks.startContainer[0] /bin/sh: exit status 3: why", "prestart createRuntime createContainer startContainer poststop", false},
		{"poststart", "", "hooks.poststart[0] /bin/sh: exit status 3: why", "prestart createRuntime createContainer startContainer poststart poststop", true},
		{"poststop", "", "", "prestart createRuntime createContainer startContainer poststart poststop", true},
	} {
		t.Run(tc.point, func(t *testing.T) {
			testkit.NoLeaks(t)
			spec := testkit.Spec("sh", "-c", "touch /out/started; sleep 1000")
			dir := shared(t, spec)
			hook := func(name, out string) []specs.Hook {
				text := "echo " + name + " >> " + out + "/log"
				if name == tc.point {
					text += "; echo why; exit 3"
				}
				return []specs.Hook{script(text)}
			}
			spec.Hooks = &specs.Hooks{
				Prestart: hook("prestart", dir), CreateRuntime: hook("createRuntime", dir), CreateContainer: hook("createContainer", dir), //nolint:staticcheck // prestart is in the spec
				StartContainer: hook("startContainer", "/out"), Poststart: hook("poststart", dir), Poststop: hook("poststop", dir),
			}
			var log bytes.Buffer
			e, ev := newLoggedEngine(t, &log)
			spec.Linux.CgroupsPath = "/" + newID()
			ctx := timeout(t)
			c, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)})
			if !failedWith(err, tc.create) {
				t.Errorf("create: %v, want %q", err, tc.create)
			}
			if err == nil {
				if err := c.Start(ctx); !failedWith(err, tc.start) {
					t.Errorf("start: %v, want %q", err, tc.start)
				}
				if tc.start == "" {
					c.Kill(ctx, "", uint32(unix.SIGKILL), true)
				}
				if exit, err := c.Wait(ctx, ""); err != nil || exit.Status != 137 { // whoever's hook failed is killed
					t.Errorf("wait: %+v, %v", exit, err)
				}
				if _, err := c.Delete(ctx); err != nil {
					t.Errorf("delete: %v", err)
				}
			} else if len(ev.kinds()) > 0 {
				t.Errorf("events after a failed create: %v", ev.kinds())
			}
			b, _ := os.ReadFile(dir + "/log")
			if got := strings.Join(strings.Fields(string(b)), " "); got != tc.ran {
				t.Errorf("hooks that ran: %s\nwant: %s", got, tc.ran)
			}
			if !tc.processStarted && exists(dir+"/started") {
				t.Error("the process was started")
			}
			if logged := strings.Contains(log.String(), "hooks.poststop[0] /bin/sh: exit status 3: why"); logged != (tc.point == "poststop") {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}

func failedWith(err error, begin string) bool {
	if begin == "" {
		return err == nil
	}
	return err != nil && strings.HasPrefix(err.Error(), begin)
}

// TestStartContainerHook has the identity, capabilities, limits and environment of the process, and may take its own time
// only.
func TestStartContainerHook(t *testing.T) {
	testkit.NoLeaks(t)
	spec := testkit.Spec("true")
	dir := shared(t, spec)
	spec.Process.User = specs.User{UID: 1000, GID: 1001}
	spec.Process.Env = append(spec.Process.Env, "A=b")
	spec.Process.Cwd = "/tmp"
	text := "(id -u; id -g; echo $A $HOME $PWD; ulimit -n; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; echo $(ls /proc/self/fd); grep -c . /proc/self/cgroup) > /out/$0"
	with, without := specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", text, "with"}, Env: []string{"A=own"}},
		specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", text, "without"}}
	spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{with, without}}
	run(t, spec)
	for name, want := range map[string]string{"with": "own /tmp", "without": "b /home/user /tmp"} {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		lines := strings.Split(string(b), "\n")
		if len(lines) < 8 {
			t.Fatalf("%s: %s", name, b)
		}
		if got := strings.Join(lines[:8], "|"); got != "1000|1001|"+want+"|1024|CapEff:\t0000000000000000|CapBnd:\t00000000a80425fb|NoNewPrivs:\t1|0 1 2 3" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestHookTimeout: a hook that takes longer than it may is killed, wherever it runs.
func TestHookTimeout(t *testing.T) {
	one := 1
	slow := script("exec sleep 1000")
	slow.Timeout = &one
	for point, hooks := range map[string]*specs.Hooks{
		"createRuntime": {CreateRuntime: []specs.Hook{slow}}, "createContainer": {CreateContainer: []specs.Hook{slow}},
		"startContainer": {StartContainer: []specs.Hook{slow}},
	} {
		t.Run(point, func(t *testing.T) {
			testkit.NoLeaks(t)
			e, _ := newEngine(t)
			spec := testkit.Spec("true")
			spec.Hooks = hooks
			spec.Linux.CgroupsPath = "/" + newID()
			ctx := timeout(t)
			c, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)})
			if err == nil {
				err = c.Start(ctx)
				c.Wait(ctx, "")
				c.Delete(ctx)
			}
			if err == nil || !strings.Contains(err.Error(), "hooks."+point+"[0] /bin/sh: timed out after 1 s: signal: killed") {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestHookMissing: a hook's program that is not there is not the container's.
func TestHookMissing(t *testing.T) {
	testkit.NoLeaks(t)
	for point, hooks := range map[string]*specs.Hooks{
		"createRuntime": {CreateRuntime: []specs.Hook{{Path: "/no/such"}}}, "createContainer": {CreateContainer: []specs.Hook{{Path: "/no/such"}}},
		"startContainer": {StartContainer: []specs.Hook{{Path: "/no/such"}}}, "poststart": {Poststart: []specs.Hook{{Path: "/no/such"}}},
	} {
		e, _ := newEngine(t)
		spec := testkit.Spec("sleep", "1000")
		spec.Hooks = hooks
		spec.Linux.CgroupsPath = "/" + newID()
		ctx := timeout(t)
		c, err := e.Create(ctx, engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)})
		if err == nil {
			err = c.Start(ctx)
			c.Wait(ctx, "")
			c.Delete(ctx)
		}
		if err == nil || !strings.Contains(err.Error(), "hooks."+point+"[0] /no/such: ") || !strings.HasSuffix(err.Error(), "no such file or directory") {
			t.Errorf("%v", err)
		}
	}
}

// TestHookCancelled: whoever gives up a start takes its hook and the container along.
func TestHookCancelled(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	spec := testkit.Spec("true")
	dir := shared(t, spec)
	spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{script("touch /out/hook; exec sleep 1000")}}
	c := create(t, e, spec, nil)
	ctx, cancel := context.WithCancel(timeout(t))
	go func() {
		for !exists(dir+"/hook") && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if err := c.Start(ctx); err == nil {
		t.Error("start did not fail")
	}
	if exit, err := c.Wait(timeout(t), ""); err != nil || exit.Status != 137 {
		t.Errorf("wait: %+v, %v", exit, err)
	}
}

// TestBigState: a state that no pipe holds reaches a hook that reads it and does not stop for one that doesn't.
func TestBigState(t *testing.T) {
	testkit.NoLeaks(t)
	spec := testkit.Spec("true")
	dir := shared(t, spec)
	spec.Annotations = map[string]string{"big": strings.Repeat("x", 1<<20)}
	spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/true"}, script("wc -c >> " + dir + "/size")},
		CreateContainer: []specs.Hook{{Path: "/bin/true"}, script("wc -c >> " + dir + "/size")}}
	run(t, spec)
	f, err := os.Open(dir + "/size")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, _ := io.ReadAll(f)
	var a, z int
	if _, err := fmt.Sscan(string(b), &a, &z); err != nil || a < 1<<20 || z < 1<<20 {
		t.Errorf("hooks read %q", b)
	}
}
