package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// The runtime handlers of the node, as an operator would configure them. The first is runc's own shim with runc; then gosuda under its own
// type, without options and with a table of them, and gosuda in the place of runc's shim.
const handlersTOML = `
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'runc'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    BinaryName = %[1]q
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gosuda]
  runtime_type = 'io.containerd.gosuda.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gosuda-table]
  runtime_type = 'io.containerd.gosuda.v2'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gosuda-table.options]
    Root = '/run/containerd/gosuda'
    SystemdCgroup = false
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.in-place]
  runtime_type = 'io.containerd.runc.v2'
  runtime_path = %[2]q
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.in-place.options]
    SystemdCgroup = false
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

// shim is gosuda's.
const shim = "containerd-shim-gosuda-v2"

func (s *suite) file(name string) string { return filepath.Join(s.dir, name) }

// writeSettings writes the files that containerd's configuration names: every registry is our own.
func (s *suite) writeSettings() error {
	hosts := fmt.Sprintf("server = 'http://%[1]s'\n[host.'http://%[1]s']\n  capabilities = ['pull', 'resolve']\n", s.registry)
	return errors.Join(
		os.MkdirAll(s.file("certs.d/_default"), 0o755), os.WriteFile(s.file("certs.d/_default/hosts.toml"), []byte(hosts), 0o644),
		os.MkdirAll(s.file("net.d"), 0o755), os.WriteFile(s.file("net.d/10-bridge.conflist"), []byte(network), 0o644),
		os.MkdirAll(s.file("tmp"), 0o755),
	)
}

// startNode starts a containerd with every handler, in a new directory. The caller closes it.
func (s *suite) startNode() (*containerdtest.Daemon, error) {
	dir, err := os.MkdirTemp(s.dir, "n")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	runc := filepath.Join(s.programs.runc, "runc")
	return containerdtest.Start(containerdtest.Config{
		Bin:       s.programs.containerd,
		Path:      []string{s.tree.Bin(), s.programs.containerd, s.programs.runc},
		Dir:       dir,
		Namespace: "k8s.io", // the CRI plugin's
		CRI:       true,
		Env:       []string{"TMPDIR=" + s.file("tmp")},
		Extra: fmt.Sprintf(handlersTOML, runc, filepath.Join(s.tree.Bin(), shim)) +
			fmt.Sprintf(nodeTOML, sandboxImage, s.file("certs.d"), s.programs.cni, s.file("net.d")),
	})
}

// closeNode ends the containerd and tells what is left of it. The shim of runc leaves sockets, which fails nothing.
func (s *suite) closeNode(d *containerdtest.Daemon, handler string) error {
	left, err := d.Close()
	for _, l := range left {
		fmt.Fprintf(os.Stderr, "left behind by %s: %s\n", handler, l)
	}
	if len(left) > 0 && handler != runcHandler {
		err = errors.Join(err, fmt.Errorf("%s left %d things behind", handler, len(left)))
	}
	if err != nil && s.verbose {
		fmt.Fprintln(os.Stderr, d.Log())
	}
	return err
}
