package engine_test

import (
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

// early is a process without privileges that enters a container whose init waits for its start, and after it, and prints what came
// of it: "STEP: result".
func early() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	step := func(name string, err error) {
		if err != nil {
			fmt.Printf("%s: %v\n", name, err)
			os.Exit(0)
		}
	}
	e, err := engine.New(engine.Options{Root: os.Getenv("ROOT")})
	step("engine", err)
	c, err := e.Create(ctx, engine.CreateRequest{ID: os.Getenv("ID"), Bundle: os.Getenv("BUNDLE")})
	step("create", err)
	defer func() {
		c.Kill(ctx, "", uint32(unix.SIGKILL), true)
		c.Wait(ctx, "")
		_, err := c.Delete(ctx)
		left, _ := os.ReadDir(os.Getenv("ROOT"))
		fmt.Printf("end: %v, left %d\n", err, len(left))
	}()
	exec := func(name string, args ...string) string {
		r, w, err := os.Pipe()
		step("pipe", err)
		defer r.Close()
		defer w.Close()
		p := &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}}
		if err := c.AddExec(ctx, engine.ExecRequest{ID: name, Process: p}); err != nil {
			return err.Error()
		}
		if _, _, err := c.StartExec(ctx, name, engine.Stdio{Out: w, Err: w}); err != nil {
			return err.Error()
		}
		w.Close()
		text, _ := io.ReadAll(r)
		exit, err := c.Wait(ctx, name)
		return fmt.Sprintf("%d %v %s", exit.Status, err, text)
	}
	open := func(out string) string {
		return strings.Join(denied(strings.Split(strings.TrimSpace(out), "\n")), ", ")
	}
	const sees = "id; env | sort; for n in /proc/self/ns/*; do readlink $n; done; ls /; cat /proc/self/uid_map"
	before := exec("sees", "sh", "-c", sees)
	fmt.Printf("sees: %q\n", before)
	looked := exec("look", attackPath, "look", "1")
	fmt.Printf("look: %d ways, open: %q\n", strings.Count(looked, "\n"), open(looked))
	state, err := c.State("")
	fmt.Printf("state: %s, %v\n", state.Status, err)
	// Many at once, and the start among them.
	const many = 12
	ended := make(chan string, many)
	var started error
	for i := range many {
		go func() { ended <- exec(fmt.Sprint("many", i), "true") }()
		if i == many/2 {
			started = c.Start(ctx)
		}
	}
	for range many {
		if how := <-ended; how != "0 <nil> " {
			fmt.Printf("many: %s\n", how)
		}
	}
	fmt.Printf("start: %v\n", started)
	if after := exec("again", "sh", "-c", sees); started == nil && after != before {
		fmt.Printf("again: %q\n", after)
	}
	fmt.Printf("then: %s\n", open(exec("then", attackPath, "look", "1")))
}

// earlySpec is a user's config whose files include the attacker, and a directory at /out that belongs to the user.
func earlySpec(t *testing.T, args ...string) (spec *specs.Spec, out string) {
	t.Helper()
	spec = rootlessSpec(args...)
	attack := attackSpec(t, "CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH")
	spec.Process.Capabilities = attack.Process.Capabilities
	spec.Mounts = append(spec.Mounts, attack.Mounts[len(attack.Mounts)-1])
	if err := os.Chmod(attackDir, 0o755); err != nil {
		t.Fatal(err)
	}
	out = shared(t, spec)
	return spec, out
}

// TestRootlessEarly: an ordinary user's container is entered before its start by hooks and execs, as it is afterwards; those see
// nothing of init, which is a copy of the runtime until its own start.
func TestRootlessEarly(t *testing.T) {
	testkit.NoLeaks(t)
	spec, dir := earlySpec(t, "sh", "-c", "echo process >> /out/log; exec sleep 1000")
	hook := func(text string, env ...string) specs.Hook {
		return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", text}, Env: env}
	}
	spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{
		hook(`echo $A $(id -u) $(cat | tr -d '"' | grep -o "status:[a-z]*\|pid:[0-9]*") >> /out/log`, "A=hook", "PATH=/bin"),
		hook(attackPath + " look 1 > /out/look; echo $HOME $PATH >> /out/log"),
	}}
	out := rootlessChild(t, "early", spec, rootlessID, asUser())
	wantLines(t, out, map[string]string{"sees": `"0 <nil> uid=0(root) gid=0\nHOME=/root\n`, "look": `14 ways, open: ""`, "state": "created, <nil>", "start": "<nil>",
		"again": "", "then": "exe ok", "end": "<nil>, left 0"})
	look, err := os.ReadFile(filepath.Join(dir, "look"))
	if err != nil || strings.Count(string(look), "\n") != 14 || len(denied(strings.Split(string(look), "\n"))) > 0 {
		t.Errorf("what a hook gets of init: %s, %v", look, err)
	}
	for line := range strings.Lines(out) {
		if l, ok := strings.CutPrefix(line, "many: "); ok && !strings.Contains(l, "it goes on or ends just now") {
			t.Errorf("an exec at the time of the start: %s", l)
		}
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if want := "hook 0 status:created pid:1\n/root " + strings.TrimPrefix(spec.Process.Env[0], "PATH=") + "\nprocess\n"; err != nil || string(log) != want {
		t.Errorf("the log is %q, %v; want %q\n%s", log, err, want, out)
	}
}

// TestRootlessEarlyFails: a startContainer hook that fails ends a user's container, and one that cannot be run is told why.
func TestRootlessEarlyFails(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		change     func(*specs.Spec)
	}{
		{"exit status", "hooks.startContainer[0] /bin/sh: exit status 3: why", func(s *specs.Spec) { s.Hooks.StartContainer[0].Args[2] = "echo why; exit 3" }},
		{"timeout", "hooks.startContainer[0] /bin/sh: timed out after 1 s", func(s *specs.Spec) {
			s.Hooks.StartContainer[0].Args[2], s.Hooks.StartContainer[0].Timeout = "exec sleep 1000", new(1)
		}},
		{"no such program", "hooks.startContainer[0] /none: ", func(s *specs.Spec) { s.Hooks.StartContainer[0].Path = "/none" }},
		{"few descriptors left", "RLIMIT_NOFILE leaves no descriptor for that", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 5, Soft: 5}}
		}},
		{"no descriptor left", "RLIMIT_NOFILE leaves no descriptor for that", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 3, Soft: 3}}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			testkit.NoLeaks(t)
			spec, dir := earlySpec(t, "touch", "/out/process")
			spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "true"}}}}
			tc.change(spec)
			out := rootlessChild(t, "early", spec, rootlessID, asUser())
			wantLines(t, out, map[string]string{"start": tc.want, "end": "<nil>, left 0"})
			if _, err := os.Stat(filepath.Join(dir, "process")); err == nil {
				t.Errorf("the process ran: %s", out)
			}
		})
	}
}
