package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
	"github.com/gosuda/gosudacon/e2e/node"
)

// leaverConfig is a container that ends when the file /host/go appears.
const leaverConfig = `{"metadata": {"name": "leaver"}, "image": {"image": "registry.k8s.io/e2e-test-images/busybox:1.29-2"},
	"command": ["sh", "-c", "echo first words; until [ -e /host/go ]; do sleep 0.05; done; echo last words; touch /host/gone; exit 7"],
	"log_path": "leaver.log", "mounts": [{"container_path": "/host", "host_path": %q}], "linux": {}}`

// restart kills containerd under a pod with a container that stays and one that ends meanwhile, and starts it again: the one that ended
// must keep its exit code and its last words. With the runc shim containerd drops it, and says that it ended with 255 for an unknown reason.
func (s *suite) restart(ctx context.Context, n *containerdtest.Daemon, handler string) error {
	crictl := func(args ...string) (string, error) { return s.Crictl(ctx, n, args...) }
	pod, err := crictl("pods", "--quiet")
	if err != nil {
		return err
	}
	stays, err := crictl("ps", "--quiet")
	if err != nil {
		return err
	}
	host := filepath.Join(n.Dir, "host")
	file := filepath.Join(n.Dir, "leaver.json")
	if err := errors.Join(os.Mkdir(host, 0o755), os.WriteFile(file, fmt.Appendf(nil, leaverConfig, host), 0o644)); err != nil {
		return err
	}
	leaver, err := crictl("create", pod, file, filepath.Join(n.Dir, "pod.json"))
	if err == nil {
		_, err = crictl("start", leaver)
	}
	if err == nil {
		err = n.Kill()
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(host, "go"), nil, 0o644)
	}
	if err != nil {
		return err
	}
	gone := func() error { _, err := os.Stat(filepath.Join(host, "gone")); return err }
	if err := patiently(gone); err != nil {
		return err
	}
	time.Sleep(time.Second) // from its last words to its end
	if err := n.Launch(); err != nil {
		return err
	}
	var found struct {
		Status struct {
			State, Reason string
			ExitCode      int
		}
	}
	inspect := func() error { // the CRI plugin is ready some time after containerd
		text, err := crictl("inspect", leaver)
		if err != nil {
			return err
		}
		return json.Unmarshal([]byte(text), &found)
	}
	if err := patiently(inspect); err != nil {
		return err
	}
	words, err := crictl("logs", leaver)
	if err != nil {
		return err
	}
	if handler == node.Runc {
		fmt.Printf("pod with %s: ended while containerd was away: %+v, its words %q\n", handler, found.Status, words)
		return nil
	}
	if st := found.Status; st.State != "CONTAINER_EXITED" || st.ExitCode != 7 || st.Reason != "Error" {
		err = fmt.Errorf("a container that ended with 7 while containerd was away: %+v", st)
	}
	if words != "first words\nlast words" {
		err = errors.Join(err, fmt.Errorf("the words of a container that ended while containerd was away: %q", words))
	}
	if out, execErr := crictl("exec", stays, "echo", "still"); execErr != nil || out != "still" {
		err = errors.Join(err, execErr, fmt.Errorf("exec after containerd was away: printed %q", out))
	}
	return err
}

// patiently tries until f succeeds, for half a minute.
func patiently(f func() error) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}
