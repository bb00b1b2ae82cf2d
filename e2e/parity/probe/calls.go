package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/parity/ask"
)

// calls tries system calls, each in a process of its own that it may end.
func (r report) calls(q *ask.Question) {
	for _, c := range q.Calls {
		args := []string{ask.Call, strconv.Itoa(c.Nr)}
		for _, a := range c.Args {
			args = append(args, strconv.FormatUint(a, 10))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		out, err := exec.CommandContext(ctx, ask.Probe, args...).Output()
		var exit *exec.ExitError
		switch {
		case ctx.Err() != nil:
			r["call "+c.Name] = "not finished"
		case errors.As(err, &exit):
			r["call "+c.Name] = exit.ProcessState.String()
		default:
			r["call "+c.Name] = value(string(out), err)
		}
		cancel()
	}
}

// call makes one system call and prints its outcome: the result is of no interest, which may be a number that differs each time. A
// filter may end the thread alone, which another one notices.
func call(args []string) {
	runtime.LockOSThread()
	own := fmt.Sprintf("/proc/self/task/%d/stat", unix.Gettid())
	go func() {
		for !ended(own) {
			time.Sleep(time.Millisecond)
		}
		fmt.Print("the thread is gone, the process stays")
		os.Exit(0)
	}()
	var n [7]uintptr
	for i, a := range args[:min(len(args), 7)] {
		v, _ := strconv.ParseUint(a, 10, 64)
		n[i] = uintptr(v)
	}
	_, _, errno := unix.Syscall6(n[0], n[1], n[2], n[3], n[4], n[5], n[6])
	if errno != 0 {
		fmt.Print(failure(errno))
		return
	}
	fmt.Print("ok")
}

// ended tells whether a thread has, by its stat: the first of a process stays as a zombie, the others disappear.
func ended(stat string) bool {
	text, err := os.ReadFile(stat)
	return err != nil || strings.Contains(string(text), ") Z ")
}

// hook writes what a hook sees as a line of a file.
func hook(name, file string, how []string) {
	run := ask.HookRun{Name: name, Args: os.Args, Env: environment(), Namespaces: map[string]string{}, State: map[string]string{}}
	run.Cwd, _ = os.Getwd()
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		run.Namespaces[ns], _ = os.Readlink("/proc/self/ns/" + ns)
	}
	run.Root = "of the host"
	if _, err := os.Stat(ask.File); err == nil {
		run.Root = "of the container"
	}
	input, err := io.ReadAll(os.Stdin)
	var state map[string]any
	if err == nil {
		err = json.Unmarshal(input, &state)
	}
	if err != nil {
		run.State["error"] = err.Error()
	}
	for _, key := range []string{"ociVersion", "id", "status", "bundle", "annotations"} {
		run.State[key] = fmt.Sprint(state[key])
	}
	run.Init = "none"
	if pid, ok := state["pid"].(float64); ok && pid > 0 {
		run.Init = "alive"
		if errors.Is(unix.Kill(int(pid), 0), unix.ESRCH) {
			run.Init = "gone"
		}
	}
	line, _ := json.Marshal(run)
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.Write(append(line, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hook:", err)
		os.Exit(1)
	}
	if len(how) > 0 && how[0] == "fail" {
		os.Exit(3)
	}
	if len(how) > 0 && how[0] == "sleep" {
		time.Sleep(time.Minute)
	}
}

// environment is sorted: what a runtime inherits it may pass on in any order. A shell that has started the runtime adds to it.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(s string) bool {
		return strings.HasPrefix(s, "PWD=") || strings.HasPrefix(s, "OLDPWD=") || strings.HasPrefix(s, "SHLVL=") || strings.HasPrefix(s, "_=")
	})
	slices.Sort(env)
	return env
}
