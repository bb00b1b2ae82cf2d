package kubernetes

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// try is kubectl of what may fail: then it is "".
func try(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := kube.kubectl(ctx, "", args...)
	if err != nil {
		return ""
	}
	return out
}

// with runs kubectl with something on its standard input.
func with(t *testing.T, in string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := kube.kubectl(ctx, in, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestExec: standard input, output and exit code.
func TestExec(t *testing.T) {
	t.Parallel()
	pod := running(t, containers(shell("c", "exec sleep 1000", nil)))
	equal(t, "output", with(t, "in", "exec", "--stdin", pod, "--", "sh", "-c", "cat; echo out"), "inout")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := kube.kubectl(ctx, "", "exec", pod, "--", "sh", "-c", "exit 42"); err == nil || !strings.Contains(err.Error(), "exit code 42") {
		t.Errorf("an exec that exits with 42: %v", err)
	}
}

// TestAttach: what a container reads and writes, attached.
func TestAttach(t *testing.T) {
	t.Parallel()
	spec := containers(shell("c", "while read x; do echo got $x; done; sleep 1", object{"stdin": true, "stdinOnce": true}))
	spec["restartPolicy"] = "Never"
	pod := running(t, spec)
	if got := with(t, "one\ntwo\n", "attach", "--stdin", pod); !strings.Contains(got, "got one\ngot two") {
		t.Errorf("got %q", got)
	}
	until(t, pod, "{.status.phase}", "Succeeded")
}

// TestTerminal: a container with a terminal.
func TestTerminal(t *testing.T) {
	t.Parallel()
	equal(t, "output", strings.ReplaceAll(output(t, containers(shell("c", "tty; test -t 0 && echo terminal", object{"tty": true, "stdin": true}))), "\r", ""),
		"/dev/pts/0\nterminal")
}

var forwarding = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)

// TestPortForward: a port of the pod, on the loopback of who asks.
func TestPortForward(t *testing.T) {
	t.Parallel()
	pod := running(t, containers(object{"name": "c", "image": "registry.k8s.io/e2e-test-images/nginx:1.14-2"}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	forward := exec.CommandContext(ctx, filepath.Join(kube.kubernetes, "kubectl"), "port-forward", "pod/"+pod, ":80")
	forward.Env = append(os.Environ(), "KUBECONFIG="+kube.file("kubeconfig"))
	out, err := forward.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := forward.Start(); err != nil {
		t.Fatal(err)
	}
	defer forward.Wait()
	defer forward.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	address := forwarding.FindString(line)
	if err != nil || address == "" {
		t.Fatalf("kubectl port-forward says %q, %v", line, err)
	}
	eventually(t, func() string { // the web server may not listen yet
		reply, err := http.Get("http://" + address)
		if err != nil {
			return ""
		}
		defer reply.Body.Close()
		text, _ := io.ReadAll(reply.Body)
		return string(text)
	}, "hello from nginx\n")
}

// TestDebug: an ephemeral container sees the processes of the one that it is for.
func TestDebug(t *testing.T) {
	t.Parallel()
	pod := running(t, containers(shell("c", "exec sleep 1234", nil)))
	kubectl(t, "debug", pod, "--image="+image, "--target=c", "--container=debugger", "--profile=general", "--", "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline")
	eventually(t, func() string { return try(t, "logs", pod, "--container", "debugger") }, "sleep 1234")
}
