package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/node"
)

// Where deploy/ looks for things on a machine, and puts them.
const (
	programs = "/usr/local/bin"
	shim     = programs + "/containerd-shim-gosuda-v2"
	settings = "/etc/containerd"
	bundles  = "/run/containerd/io.containerd.runtime.v2.task"
)

// deployed tells whether the node gets gosuda by what deploy/ has for a cluster, unchanged; otherwise it has all handlers from the beginning.
func deployed() bool { return *handler == "gosuda" }

// serveInstaller makes the installer's image and puts it into the registry.
func (c *cluster) serveInstaller(ctx context.Context) error {
	archive := c.site.File("installer.tar")
	const name = "ghcr.io/gosuda/gosudacon-installer:latest"
	build := exec.CommandContext(ctx, filepath.Join(string(c.site.Tree), "deploy", "image.sh"), archive, name)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("make the installer's image: %w: %s", err, out)
	}
	return c.site.Serve(archive)
}

// furnish makes a machine as the DaemonSet expects it around the private containerd: programs, settings and state where they usually are, a service
// manager. All of it is in a mount namespace of our own.
func (c *cluster) furnish() error {
	for _, dir := range []string{settings, bundles, c.d.State() + "/io.containerd.runtime.v2.task", c.file("service")} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	if err := errors.Join(
		unix.Mount("tmpfs", programs, "tmpfs", 0, "mode=755"),
		unix.Mount(c.dir, settings, "", unix.MS_BIND, ""),
		unix.Mount(c.d.State()+"/io.containerd.runtime.v2.task", bundles, "", unix.MS_BIND, ""),
		os.Symlink(filepath.Join(c.d.Bin, "containerd"), programs+"/containerd"),
	); err != nil {
		return fmt.Errorf("put containerd where it usually is: %w", err)
	}
	var err error
	if c.manager, err = node.NewManager(c.d, c.file("service")); err != nil {
		return err
	}
	systemctl := fmt.Sprintf("#!/bin/sh\n[ \"$*\" = 'restart containerd' ] && exec %q\n", c.file("service/restart.sh"))
	return os.WriteFile(programs+"/systemctl", []byte(systemctl), 0o755)
}

// deploy does what README says, and waits until the node has the handler.
func (c *cluster) deploy(ctx context.Context) error {
	var err error
	if c.before, err = os.ReadFile(settings + "/config.toml"); err != nil {
		return err
	}
	if _, err := c.kubectl(ctx, "", "apply", "-k", c.manifests()); err != nil {
		return err
	}
	const has = `--for=jsonpath={.status.runtimeHandlers[?(@.name=="gosuda")].name}=gosuda`
	if err := c.await(ctx, "the installer", "rollout", "status", "daemonset/gosuda-installer", "--namespace=gosuda-system", "--timeout=1s"); err != nil {
		return err
	}
	return c.await(ctx, "the handler", "wait", has, "--timeout=1s", "node/"+nodeName)
}

// undeploy takes gosuda away again, and tells what of it stays, which is an error.
func (c *cluster) undeploy(ctx context.Context) error {
	// The installer waits until no pod uses gosuda; the kubelet removes what is left of those that were deleted, after a minute.
	ended, err := c.site.Crictl(ctx, c.d, "pods", "--quiet", "--state", "notready")
	if err == nil && ended != "" {
		_, err = c.site.Crictl(ctx, c.d, append([]string{"rmp"}, strings.Fields(ended)...)...)
	}
	if err == nil {
		_, err = c.kubectl(ctx, "", "apply", "-k", filepath.Join(c.manifests(), "remove"))
	}
	if err == nil {
		err = c.awaitLog(ctx, "gosuda: removed")
	}
	if err != nil {
		return err
	}
	if _, err := c.kubectl(ctx, "", "delete", "-k", c.manifests(), "--timeout=60s"); err != nil {
		return err
	}
	config, err := os.ReadFile(settings + "/config.toml")
	if err == nil && string(config) != string(c.before) {
		err = fmt.Errorf("containerd's configuration is not as it was:\n%s", config)
	}
	for _, path := range []string{shim, programs + "/gosudacon", settings + "/conf.d"} {
		if _, statErr := os.Lstat(path); statErr == nil {
			err = errors.Join(err, errors.New("left behind: "+path))
		}
	}
	if n := c.manager.Restarts(); n != 2 {
		err = errors.Join(err, fmt.Errorf("containerd was restarted %d times, not when gosuda came and when it went", n))
	}
	return err
}

// awaitLog waits until the installer says something.
func (c *cluster) awaitLog(ctx context.Context, want string) error {
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		log, err := c.kubectl(ctx, "", "logs", "--namespace=gosuda-system", "daemonset/gosuda-installer", "--tail=-1")
		if strings.Contains(log, want) {
			return nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("wait until the installer says %q: %w: %s\n%s", want, err, log, c.logs())
		}
	}
}

func (c *cluster) manifests() string { return filepath.Join(string(c.site.Tree), "deploy") }
