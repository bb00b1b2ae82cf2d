package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runc "github.com/containerd/go-runc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestGoRunc drives gosudacon with the library that containerd, Docker and BuildKit call runc with.
func TestGoRunc(t *testing.T) {
	r := newRig(t, "sh", "-c", "echo started; exec sleep 1000")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := &runc.Runc{Command: r.program, Root: r.root, Log: r.path("log.json"), LogFormat: runc.JSON, PdeathSignal: unix.SIGKILL}
	io, err := runc.NewSTDIO()
	r.check(err)

	if v, err := client.Version(ctx); err != nil || v.Runc != "" { // it fills in what calls itself runc
		t.Errorf("version: %+v, %v", v, err)
	}
	if f, err := client.Features(ctx); err != nil || f.OCIVersionMax != specs.Version {
		t.Errorf("features: %+v, %v", f, err)
	}
	if list, err := client.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("list: %v, %v", list, err)
	}
	r.check(client.Create(ctx, "c", r.bundle, &runc.CreateOpts{PidFile: r.path("pid"), IO: io, NoNewKeyring: true}))
	pid, err := runc.ReadPidFile(r.path("pid"))
	r.check(err)
	if c, err := client.State(ctx, "c"); err != nil || c.Status != "created" || c.Pid != pid || c.Bundle != r.bundle || time.Since(c.Created) > time.Minute {
		t.Errorf("state: %+v, %v", c, err)
	}
	r.check(client.Start(ctx, "c"))
	if list, err := client.List(ctx); err != nil || len(list) != 1 || list[0].Status != "running" {
		t.Errorf("list: %+v, %v", list, err)
	}
	if pids, err := client.Ps(ctx, "c"); err != nil || len(pids) != 1 || pids[0] != pid {
		t.Errorf("ps: %v, %v", pids, err)
	}
	if exec.Command("ps", "-ef").Run() != nil {
		t.Log("ps -ef fails on this kernel (User Mode Linux tells no boot time), so its list is not looked at")
	} else if top, err := client.Top(ctx, "c", "-ef"); err != nil || len(top.Processes) != 1 || top.Headers[0] != "UID" {
		t.Errorf("top: %+v, %v", top, err)
	}

	p := specs.Process{Args: []string{"sh", "-c", "exit 6"}, Cwd: "/", Env: []string{"PATH=/bin"}}
	err = client.Exec(ctx, "c", p, &runc.ExecOpts{PidFile: r.path("exec.pid"), IO: io})
	if exit := (*runc.ExitError)(nil); !asExit(err, &exit) || exit.Status != 6 {
		t.Errorf("exec: %v", err)
	}
	p.Args = []string{"nothing"}
	if err := client.Exec(ctx, "c", p, &runc.ExecOpts{IO: io}); err == nil {
		t.Error("exec of nothing succeeded")
	}
	if log := r.read("log.json"); !strings.Contains(log, "executable file not found in $PATH") {
		t.Errorf("log: %s", log)
	}

	r.check(client.Pause(ctx, "c"))
	if c, err := client.State(ctx, "c"); err != nil || c.Status != "paused" {
		t.Errorf("state: %+v, %v", c, err)
	}
	r.check(client.Resume(ctx, "c"))
	limit := int64(33)
	r.check(client.Update(ctx, "c", &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &limit}}))
	if s, err := client.Stats(ctx, "c"); err != nil || s.Pids.Limit != 33 || s.Pids.Current != 1 || s.Memory.Usage.Usage == 0 || s.Cpu.Usage.Total == 0 {
		t.Errorf("stats: %+v, %v", s, err)
	}
	events, err := client.Events(ctx, "c", time.Second)
	r.check(err)
	if e := <-events; e == nil || e.Err != nil || e.Type != "stats" || e.ID != "c" || e.Stats.Pids.Limit != 33 {
		t.Errorf("event: %+v", e)
	}
	r.check(client.Kill(ctx, "c", int(unix.SIGKILL), &runc.KillOpts{All: true}))
	for e := range events { // ends with the container
		if e.Err != nil {
			t.Fatal(e.Err) // the library repeats it without end
		}
	}
	r.stopped("c")
	if err := client.Kill(ctx, "c", int(unix.SIGKILL), nil); err == nil || !strings.Contains(err.Error(), "container not running") {
		t.Errorf("kill of a stopped container: %v", err)
	}
	r.check(client.Delete(ctx, "c", nil))
	if err := client.Delete(ctx, "c", nil); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("second delete: %v", err)
	}
	r.check(client.Delete(ctx, "c", &runc.DeleteOpts{Force: true}))
}

func asExit(err error, exit **runc.ExitError) bool {
	for err != nil {
		if e, ok := err.(*runc.ExitError); ok {
			*exit = e
			return true
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return false
		}
		err = u.Unwrap()
	}
	return false
}

// TestGoRuncRun: in the foreground, as BuildKit has it, with an exec beside it and the log that it reads.
func TestGoRuncRun(t *testing.T) {
	r := newRig(t, "sh", "-c", "while ! test -e /dev/shm/go; do sleep 0.01; done; exit 11")
	r.spec.Mounts = append(r.spec.Mounts, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: r.dir, Options: []string{"bind"}})
	r.writeConfig()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := &runc.Runc{Command: r.program, Root: r.root, Log: r.path("log.json"), LogFormat: runc.JSON, Setpgid: true, PdeathSignal: unix.SIGKILL}
	io, err := runc.NewNullIO()
	r.check(err)
	started := make(chan int, 1)
	status := make(chan int, 1)
	go func() {
		code, _ := client.Run(ctx, "c", r.bundle, &runc.CreateOpts{IO: io, NoPivot: false, Started: started})
		status <- code
	}()
	<-started
	r.eventually("it runs", func() bool { return strings.Contains(r.run("state", "c").out, `"running"`) })
	if err := client.Exec(ctx, "c", specs.Process{Args: []string{"touch", "/dev/shm/go"}, Cwd: "/", Env: []string{"PATH=/bin"}}, &runc.ExecOpts{IO: io}); err != nil {
		t.Errorf("exec: %v", err)
	}
	if code := <-status; code != 11 {
		t.Errorf("exit code %d", code)
	}
	if exists(filepath.Join(r.root, "c")) {
		t.Error("the container was not removed")
	}
	if log, err := os.ReadFile(r.path("log.json")); err != nil || len(log) != 0 {
		t.Errorf("log: %q, %v", log, err)
	}
}

// TestGoRuncConsole: a terminal over the socket that go-runc listens on.
func TestGoRuncConsole(t *testing.T) {
	r := newRig(t, "sh", "-c", "tty; sleep 1000")
	r.spec.Process.Terminal = true
	r.writeConfig()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := &runc.Runc{Command: r.program, Root: r.root}
	socket, err := runc.NewTempConsoleSocket()
	r.check(err)
	defer socket.Close()
	r.check(client.Create(ctx, "c", r.bundle, &runc.CreateOpts{ConsoleSocket: socket}))
	console, err := socket.ReceiveMaster()
	r.check(err)
	defer console.Close()
	r.check(client.Start(ctx, "c"))
	buf := make([]byte, 100)
	n, err := console.Read(buf)
	if err != nil || string(buf[:n]) != "/dev/pts/0\r\n" {
		t.Errorf("terminal: %q, %v", buf[:n], err)
	}
	r.check(client.Delete(ctx, "c", &runc.DeleteOpts{Force: true}))
}
