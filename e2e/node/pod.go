package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// The pod and the container that RunPod runs, as crictl reads them.
const (
	podConfig       = `{"metadata": {"name": "pod", "uid": "pod-uid", "namespace": "default"}, "log_directory": %q, "linux": {"cgroup_parent": %q}}`
	containerConfig = `{"metadata": {"name": "shell"}, "image": {"image": "registry.k8s.io/e2e-test-images/busybox:1.29-2"},
		"command": ["sh", "-c", "echo started; exec sleep 1000"], "log_path": "shell.log", "linux": {}}`
)

// RunPod runs one pod with the handler, as crictl does it step by step: make, exec, logs, stop, remove. whileRuns, unless nil, is called while
// the container runs.
func (s *Site) RunPod(ctx context.Context, n *containerdtest.Daemon, handler string, whileRuns func() error) error {
	crictl := func(args ...string) (string, error) { return s.Crictl(ctx, n, args...) }
	defer func() { _, _ = crictl("rmp", "--all", "--force") }() // what a step that failed has left
	podFile, containerFile := filepath.Join(n.Dir, "pod.json"), filepath.Join(n.Dir, "container.json")
	parent := "" // the CRI plugin's
	if s.SystemdCgroup {
		parent = "system.slice"
	}
	if err := errors.Join(
		os.WriteFile(podFile, fmt.Appendf(nil, podConfig, filepath.Join(n.Dir, "logs"), parent), 0o644),
		os.WriteFile(containerFile, []byte(containerConfig), 0o644),
	); err != nil {
		return err
	}
	if _, err := crictl("pull", "registry.k8s.io/e2e-test-images/busybox:1.29-2"); err != nil {
		return err
	}
	pod, err := crictl("runp", "--runtime", handler, podFile)
	if err != nil {
		return err
	}
	container, err := crictl("create", pod, containerFile, podFile)
	if err != nil {
		return err
	}
	if _, err := crictl("start", container); err != nil {
		return err
	}
	if out, err := crictl("exec", container, "echo", "hello"); err != nil || out != "hello" {
		return errors.Join(err, fmt.Errorf("exec echo hello: printed %q", out))
	}
	if out, err := crictl("logs", container); err != nil || out != "started" {
		return errors.Join(err, fmt.Errorf("logs: printed %q", out))
	}
	if whileRuns != nil {
		if err := whileRuns(); err != nil {
			return err
		}
	}
	for _, step := range [][]string{{"stop", "--timeout", "0", container}, {"rm", container}, {"stopp", pod}, {"rmp", pod}} {
		if _, err := crictl(step...); err != nil {
			return err
		}
	}
	return nil
}
