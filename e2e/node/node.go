// Package node is a machine of a Kubernetes cluster, as far as it is containerd's: a private containerd with the CRI plugin and a runtime handler for each
// way to deploy gosuda and for runc, a network, and a registry with the images that tests name.
package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// runcTOML is the handler of runc's own shim with runc.
const runcTOML = `
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'runc'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    BinaryName = %q
    SystemdCgroup = %t
`

// gosudaTOML are gosuda's handlers, as an operator would configure them: under its own type, without options and with a table of them, in
// the place of runc's shim, and without pause containers. Where there are no options, the syntax of a
// pod's cgroup chooses who makes it.
const gosudaTOML = `
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gosuda]
  runtime_type = 'io.containerd.gosuda.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gosuda-table]
  runtime_type = 'io.containerd.gosuda.v2'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gosuda-table.options]
    Root = '/run/containerd/gosuda'
    SystemdCgroup = %[2]t
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.in-place]
  runtime_type = 'io.containerd.runc.v2'
  runtime_path = %[1]q
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.in-place.options]
    SystemdCgroup = %[2]t
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.pauseless]
  runtime_type = 'io.containerd.gosuda.v2'
  sandboxer = 'shim'
  disable_pause_image_pull = true
`

// nodeTOML is the rest of containerd's configuration for Kubernetes: where images, networks and plugins come from. Some build machines' root may
// not lower a process' OOM score below its own, hence restrict_oom_score_adj.
const nodeTOML = `
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = %[1]q
[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = %[2]q
[plugins.'io.containerd.cri.v1.runtime']
  netns_mounts_under_state_dir = true
  cdi_spec_dirs = []
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = [%[3]q]
  conf_dir = %[4]q
`

// network is a bridge with addresses, and ports of the host that lead into pods.
const network = `{
  "cniVersion": "1.0.0", "name": "gosuda-cri",
  "plugins": [
    {"type": "bridge", "bridge": "gosuda-cri0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`

// Runc is the handler that is not gosuda, Pauseless the one of pods without a pause container.
const (
	Runc      = "runc"
	Pauseless = "pauseless"
)

// shim is gosuda's.
const shim = "containerd-shim-gosuda-v2"

// Site is what nodes need: images, a registry, networks, plugins. Close it.
type Site struct {
	Tree containerdtest.Tree
	Dir  string // of everything that is made

	SystemdCgroup bool // pods' cgroups are made by systemd, for nodes that are started after it is set

	containerd, runc, cni, criTools string // the directories of programs
	images                          *registry
	listener                        net.Listener
}

// Empty are the directories that must be a site's own, for alone.Config.
var Empty = []string{"/var/lib/cni", "/var/log/pods", "/run/containerd"}

// NewSite makes the images and serves them for every registry, on a port of the loopback.
//
// Preconditions: the directories Empty are the program's own.
func NewSite(ctx context.Context) (*Site, error) {
	tree, err := containerdtest.FindTree()
	if err != nil {
		return nil, err
	}
	s := &Site{Tree: tree}
	for _, p := range []struct {
		name string
		dir  *string
	}{{"containerd", &s.containerd}, {"runc", &s.runc}, {"cni", &s.cni}, {"cri-tools", &s.criTools}} {
		if *p.dir, err = tree.Peer(p.name); err != nil {
			return nil, err
		}
	}
	if s.Dir, err = os.MkdirTemp("", "gosuda-node-"); err != nil {
		return nil, err
	}
	s.images = newRegistry()
	err = os.Chmod(s.Dir, 0o755) // the users of user namespaces walk through it
	if err == nil {
		err = putImages(ctx, tree, s.Dir, s.images)
	}
	if err == nil {
		s.listener, err = s.images.listen()
	}
	if err == nil {
		err = s.writeSettings()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close stops the registry and removes the directory.
func (s *Site) Close() error {
	var err error
	if s.listener != nil {
		err = s.listener.Close()
	}
	return errors.Join(err, os.RemoveAll(s.Dir))
}

// File is the path of a file of the site.
func (s *Site) File(name string) string { return filepath.Join(s.Dir, name) }

// Critest is the program.
func (s *Site) Critest() string { return filepath.Join(s.criTools, "critest") }

// writeSettings writes the files that containerd's configuration names: every registry is our own.
func (s *Site) writeSettings() error {
	hosts := fmt.Sprintf("server = 'http://%[1]s'\n[host.'http://%[1]s']\n  capabilities = ['pull', 'resolve']\n", s.listener.Addr())
	return errors.Join(
		os.MkdirAll(s.File("certs.d/_default"), 0o755), os.WriteFile(s.File("certs.d/_default/hosts.toml"), []byte(hosts), 0o644),
		os.MkdirAll(s.File("net.d"), 0o755), os.WriteFile(s.File("net.d/10-bridge.conflist"), []byte(network), 0o644),
		os.MkdirAll(s.File("tmp"), 0o755),
	)
}

// Start starts a containerd with every handler, in a new directory. Close it with Stop.
func (s *Site) Start() (*containerdtest.Daemon, error) {
	return s.start(fmt.Sprintf(gosudaTOML, filepath.Join(s.Tree.Bin(), shim), s.SystemdCgroup))
}

// StartWithout is Start, but the only handler is Runc.
func (s *Site) StartWithout() (*containerdtest.Daemon, error) { return s.start("") }

func (s *Site) start(handlers string) (*containerdtest.Daemon, error) {
	dir, err := os.MkdirTemp(s.Dir, "n")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	return containerdtest.Start(containerdtest.Config{
		Bin:       s.containerd,
		Path:      []string{s.Tree.Bin(), s.containerd, s.runc},
		Dir:       dir,
		Namespace: "k8s.io", // the CRI plugin's
		CRI:       true,
		Env:       []string{"TMPDIR=" + s.File("tmp")},
		Extra: fmt.Sprintf(runcTOML, filepath.Join(s.runc, "runc"), s.SystemdCgroup) + handlers +
			fmt.Sprintf(nodeTOML, sandboxImage, s.File("certs.d"), s.cni, s.File("net.d")),
	})
}

// Stop ends the containerd and tells what is left of it and of the handler's containers, which is an error. The shim of runc leaves sockets,
// which is none.
func Stop(d *containerdtest.Daemon, handler string) error {
	left, err := d.Close()
	for _, l := range left {
		fmt.Fprintf(os.Stderr, "left behind by %s: %s\n", handler, l)
	}
	if len(left) > 0 && handler != Runc {
		err = errors.Join(err, fmt.Errorf("%s left %d things behind", handler, len(left)))
	}
	return err
}

// Crictl runs one command of crictl and returns what it printed, without white space around it.
func (s *Site) Crictl(ctx context.Context, d *containerdtest.Daemon, args ...string) (string, error) {
	options := []string{"--config", os.DevNull, "--runtime-endpoint", "unix://" + d.Address(), "--timeout", "30s"}
	cmd := exec.CommandContext(ctx, filepath.Join(s.criTools, "crictl"), append(options, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("crictl %s: %w: %s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out)), err
}
