package deploy

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// installerImage is the name of the image that TestImage makes.
const installerImage = "localhost/gosudacon-installer:test"

// The installer's pod and container, as the DaemonSet has them.
const (
	installerPod = `{"metadata": {"name": "installer", "uid": "installer-uid", "namespace": "gosuda-system"}, "log_directory": %q,
		"linux": {"security_context": {"namespace_options": {"pid": 2}, "privileged": true}}}`
	installerContainer = `{"metadata": {"name": "installer"}, "image": {"image": %q}, "args": [%q], "log_path": "installer.log",
		"envs": [%s], "mounts": [{"container_path": "/host", "host_path": "/"}],
		"linux": {"security_context": {"privileged": true, "namespace_options": {"pid": 2}}}}`
)

// TestImage makes the installer's image and runs it in a pod: it installs, stays while containerd is restarted under it, and leaves.
func TestImage(t *testing.T) {
	m := newMachine(t)
	before := m.config()
	archive := m.file("image.tar")
	build := exec.CommandContext(t.Context(), filepath.Join(string(site.Tree), "deploy", "image.sh"), archive, installerImage)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make the image: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := m.d.Import(ctx, archive); err != nil {
		t.Fatal(err)
	}
	stop := m.installer(ctx, "stay", "containerd has the handler gosuda")
	if err := m.pod(nil); err != nil {
		t.Error(err)
	}
	stop()
	if _, err := os.Stat(m.program()); err != nil {
		t.Errorf("the end of the installer's pod takes away what it installed: %v", err)
	}
	m.installer(ctx, "leave", "removed")()
	m.clean(before)
}

// installer runs the installer's pod with runc until its log has want. stop removes the pod.
func (m *machine) installer(ctx context.Context, verb, want string) (stop func()) {
	m.t.Helper()
	var envs []string
	for _, s := range append(m.settings(), "ROOT=/host", fmt.Sprintf("ON_HOST=nsenter --target %d --mount --", os.Getpid())) {
		key, value, _ := strings.Cut(s, "=")
		envs = append(envs, fmt.Sprintf(`{"key": %q, "value": %q}`, key, value))
	}
	pod, container := m.file("pod.json"), m.file("container.json")
	m.write("pod.json", fmt.Sprintf(installerPod, m.file("logs")))
	m.write("container.json", fmt.Sprintf(installerContainer, installerImage, verb, strings.Join(envs, ", ")))
	crictl := func(args ...string) string {
		m.t.Helper()
		out, err := site.Crictl(ctx, m.d, args...)
		if err != nil {
			m.t.Fatal(err)
		}
		return out
	}
	id := crictl("run", "--no-pull", container, pod)
	log := ""
	for !strings.Contains(log, want) {
		text, err := os.ReadFile(m.file("logs/installer.log"))
		if log = string(text); err != nil || ctx.Err() != nil {
			m.t.Fatalf("the installer's log: %v, %v, without %q:\n%s", err, ctx.Err(), want, log)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if state := crictl("inspect", "--output", "go-template", "--template", "{{.status.state}}", id); state != "CONTAINER_RUNNING" {
		m.t.Errorf("the installer is %s", state)
	}
	return func() {
		m.t.Helper()
		crictl("rmp", "--all", "--force")
	}
}
