package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/ociruntime"
	"github.com/gosuda/gosudacon/e2e/parity/ask"
)

// patience is how long a container may live, and a call to a runtime may take, on a machine that others keep busy.
const patience = 45 * time.Second

// random is what gosudacon appends to the name of a container's keyring.
var random = regexp.MustCompile(`\$ID\.[0-9a-f]{16}`)

// view is what is compared of one container: its fields, and notes that are only printed.
type view struct {
	fields map[string]string
	notes  map[string]string // what the runtime said, by the field
}

// one runs a variation with a runtime. Only what goes wrong outside of the runtimes is a field "suite".
func (s *suite) one(ctx context.Context, v variation, r ociruntime.Runtime) view {
	out := view{map[string]string{}, map[string]string{}}
	dir := filepath.Join(s.dir, v.name)
	r.Root = filepath.Join(dir, "root")
	err := errors.Join(os.MkdirAll(r.Root, 0o711), os.Mkdir(filepath.Join(dir, "bundle"), 0o755))
	if err == nil {
		err = ociruntime.InMountNamespace(func() {
			b, err := s.newBundle(v, filepath.Join(dir, "bundle"))
			if err == nil {
				l := &life{ctx: ctx, b: b, r: r, view: out}
				l.run()
				err = unmountBelow(dir)
			}
			if err != nil {
				out.fields["suite"] = err.Error()
			}
		})
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		out.fields["suite"] = err.Error()
	}
	for field, value := range out.fields {
		value = strings.ReplaceAll(value, filepath.Join(dir, "bundle"), "$BUNDLE")
		value = strings.ReplaceAll(value, dir, "$RUN")
		value = strings.ReplaceAll(value, "parity-"+v.name, "$ID")
		out.fields[field] = random.ReplaceAllString(value, "$$ID.$$RANDOM")
	}
	return out
}

// unmountBelow takes away the mounts that a variation or a container without a mount namespace has made, so that nothing of the host is
// below dir when it is removed.
func unmountBelow(dir string) error {
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			if err := unix.Unmount(f[4], unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("unmount %s: %w", f[4], err)
			}
		}
	}
	return nil
}

// life is one container from create to delete.
type life struct {
	ctx context.Context
	b   *bundle
	r   ociruntime.Runtime
	view
}

// call calls the runtime and makes a field of how that ended.
func (l *life) call(verb string, stdout, stderr *os.File, args ...string) bool {
	ctx, cancel := context.WithTimeout(l.ctx, patience)
	defer cancel()
	cmd := l.r.Command(ctx, append([]string{verb}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "INHERITED=1"}
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if stdout != nil {
		cmd.Stdout, cmd.Stderr = stdout, stderr
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGQUIT) } // a Go program says where it is
	cmd.WaitDelay = patience
	err := cmd.Run()
	if err != nil {
		if stderr != nil {
			said, _ := os.ReadFile(stderr.Name())
			text.Write(said)
		}
		l.notes[verb] = strings.TrimSpace(text.String())
	}
	switch {
	case ctx.Err() != nil:
		l.fields[verb] = "not finished"
		fmt.Fprintf(os.Stderr, "%s %s of %s has not finished after %v: %s\n", l.r.Name, verb, l.b.id, patience, l.notes[verb])
	case err != nil:
		l.fields[verb] = "refused"
	default:
		l.fields[verb] = "ok"
		return true
	}
	return false
}

func (l *life) run() {
	stderr, err := os.Create(filepath.Join(l.b.dir, "stderr"))
	if err != nil {
		l.fields["suite"] = err.Error()
		return
	}
	defer stderr.Close()
	out, in, err := os.Pipe()
	if err != nil {
		l.fields["suite"] = err.Error()
		return
	}
	defer func() { out.Close(); in.Close() }()
	args := []string{"--bundle", l.b.dir}
	var console *consoleSocket
	if l.b.Process != nil && l.b.Process.Terminal {
		if console, err = listenConsole(); err != nil {
			l.fields["suite"] = err.Error()
			return
		}
		defer console.close()
		args = append(args, "--console-socket", console.path)
	}
	defer func() {
		if err := l.r.Clean(context.WithoutCancel(l.ctx)); err != nil {
			l.fields["left"] = err.Error()
		}
		l.hooks()
	}()
	if !l.call("create", in, stderr, append(args, l.b.id)...) {
		if ids, _ := l.r.Containers(); len(ids) > 0 {
			l.fields["after refusal"] = fmt.Sprintf("left %v", ids)
		}
		return
	}
	in.Close()
	pidfd := l.created()
	if pidfd >= 0 {
		defer unix.Close(pidfd)
	}
	var from io.Reader = out
	if console != nil {
		if master := console.accept(); master != nil {
			defer master.Close()
			from = master
		}
	}
	if l.call("start", nil, nil, l.b.id) {
		l.probe(from, stderr.Name())
	}
	l.wait(pidfd)
	l.state("stopped")
	l.call("delete", nil, nil, l.b.id)
}

// created looks at the container from outside before it is started, and returns a pidfd of its init, or -1.
func (l *life) created() int {
	state := l.state("created")
	pid, _ := state["pid"].(float64)
	if pid == 0 {
		return -1
	}
	l.cgroup(int(pid))
	fd, err := unix.PidfdOpen(int(pid), 0)
	if err != nil {
		return -1
	}
	return fd
}

// state makes fields of the runtime's state.
func (l *life) state(when string) map[string]any {
	state, err := l.r.State(l.ctx, l.b.id)
	if err != nil {
		l.fields["state "+when], l.notes["state "+when] = "refused", err.Error()
		return nil
	}
	for _, key := range []string{"ociVersion", "id", "status", "bundle"} {
		l.fields["state "+when+" "+key] = fmt.Sprint(state[key])
	}
	annotations, _ := state["annotations"].(map[string]any)
	for key, value := range annotations {
		l.fields["state "+when+" annotation "+key] = fmt.Sprint(value)
	}
	pid, _ := state["pid"].(float64)
	l.fields["state "+when+" pid"] = map[bool]string{true: "some", false: "none"}[pid > 0]
	return state
}

// probe reads what the probe has seen.
func (l *life) probe(from io.Reader, stderr string) {
	type answer struct {
		text []byte
		err  error
	}
	ch := make(chan answer, 1)
	go func() {
		text, err := io.ReadAll(from)
		ch <- answer{text, err}
	}()
	select {
	case a := <-ch:
		var seen map[string]string
		if err := json.Unmarshal(a.text, &seen); err != nil {
			said, _ := os.ReadFile(stderr)
			l.fields["probe"], l.notes["probe"] = "no report", strings.TrimSpace(string(a.text)+string(said))
			return
		}
		for field, value := range seen {
			l.fields[field] = value
		}
	case <-time.After(patience):
		l.fields["probe"] = "not finished"
		l.call("kill", nil, nil, l.b.id, "KILL")
	}
}

// wait waits for init's end.
func (l *life) wait(pidfd int) {
	if pidfd < 0 {
		return
	}
	if l.fields["start"] != "ok" { // a container whose start failed may live on
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
	}
	if n == 0 {
		l.fields["end"] = "init lives on"
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	}
}

// hooks makes fields of what the hooks wrote.
func (l *life) hooks() {
	n := 0
	var order []string
	for _, file := range []string{filepath.Join(l.b.dir, "hooks"), filepath.Join(l.b.rootfs, ask.Log)} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(text) {
			var h ask.HookRun
			if err := json.Unmarshal(line, &h); err != nil {
				l.fields["suite"] = err.Error()
				continue
			}
			n++
			order = append(order, h.Name)
			at := "hook " + strconv.Itoa(n) + " " + h.Name + " "
			for name, link := range h.Namespaces {
				l.fields[at+"ns "+name] = map[bool]string{true: "host", false: "other"}[link == l.b.host.namespaces[name]]
			}
			for key, value := range h.State {
				l.fields[at+"state "+key] = value
			}
			l.fields[at+"cwd"], l.fields[at+"root"], l.fields[at+"init"] = h.Cwd, h.Root, h.Init
			l.fields[at+"args"], l.fields[at+"env"] = fmt.Sprintf("%q", h.Args), fmt.Sprintf("%q", h.Env)
		}
	}
	if n > 0 {
		l.fields["hooks"] = strings.Join(order, ", ")
	}
}
