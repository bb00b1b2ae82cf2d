package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// The pod and the container that runPods runs, as crictl reads them.
const (
	podConfig       = `{"metadata": {"name": "pod", "uid": "pod-uid", "namespace": "default"}, "log_directory": %q, "linux": {}}`
	containerConfig = `{"metadata": {"name": "shell"}, "image": {"image": "registry.k8s.io/e2e-test-images/busybox:1.29-2"},
		"command": ["sh", "-c", "echo started; exec sleep 1000"], "log_path": "shell.log", "linux": {}}`
)

// runPods runs one pod with each handler, as crictl does it step by step.
func (s *suite) runPods(ctx context.Context, handlers []string) error {
	var errs []error
	for _, h := range handlers {
		node, err := s.startNode()
		if err == nil {
			err = errors.Join(s.runPod(ctx, node, h), s.closeNode(node, h))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("pod with %s: %w", h, err))
			continue
		}
		fmt.Printf("pod with %s: ok\n", h)
	}
	return errors.Join(errs...)
}

func (s *suite) runPod(ctx context.Context, node *containerdtest.Daemon, handler string) error {
	crictl := func(args ...string) (string, error) { return s.crictl(ctx, node, args...) }
	defer func() { _, _ = crictl("rmp", "--all", "--force") }() // what a step that failed has left
	podFile, containerFile := filepath.Join(node.Dir, "pod.json"), filepath.Join(node.Dir, "container.json")
	if err := errors.Join(
		os.WriteFile(podFile, fmt.Appendf(nil, podConfig, filepath.Join(node.Dir, "logs")), 0o644),
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
	for _, step := range [][]string{{"stop", "--timeout", "0", container}, {"rm", container}, {"stopp", pod}, {"rmp", pod}} {
		if _, err := crictl(step...); err != nil {
			return err
		}
	}
	return nil
}

// crictl runs one command and returns what it printed, without white space around it.
func (s *suite) crictl(ctx context.Context, node *containerdtest.Daemon, args ...string) (string, error) {
	options := []string{"--config", os.DevNull, "--runtime-endpoint", "unix://" + node.Address(), "--timeout", "30s"}
	cmd := exec.CommandContext(ctx, filepath.Join(s.programs.criTools, "crictl"), append(options, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("crictl %s: %w: %s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out)), err
}
