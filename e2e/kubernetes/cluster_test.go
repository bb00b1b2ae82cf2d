package kubernetes

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
	"github.com/gosuda/gosudacon/e2e/node"
)

// The machine's address, which must not be of the loopback, and the cluster's only node.
const (
	address  = "192.0.2.10"
	nodeName = "gosuda-node"
)

// cluster is one node with its own API server. The tests' pods name their node, and nobody but the kubelet acts on them; a scheduler and a few
// controllers are there for what deploy/ applies.
type cluster struct {
	site       *node.Site
	d          *containerdtest.Daemon
	dir        string
	kubernetes string // the directory of its programs
	cgroup     string // below which the kubelet makes those of pods, in every hierarchy
	started    []*exec.Cmd

	manager *node.Manager // of a machine that gosuda is deployed to, or nil
	before  []byte        // containerd's configuration before that
}

// startCluster starts etcd, an API server, a containerd and a kubelet, and returns when the node is ready.
func startCluster(ctx context.Context) (c *cluster, err error) {
	c = &cluster{cgroup: fmt.Sprintf("gosuda-kube-%d", os.Getpid())}
	if c.site, err = node.NewSite(ctx); err != nil {
		return nil, err
	}
	etcd, err := c.site.Tree.Peer("etcd")
	if err == nil {
		c.kubernetes, err = c.site.Tree.Peer("kubernetes")
	}
	switch {
	case err != nil:
	case deployed():
		if err = c.serveInstaller(ctx); err == nil {
			c.d, err = c.site.StartWithout()
		}
	default:
		c.d, err = c.site.Start()
	}
	if err != nil {
		return nil, errors.Join(err, c.site.Close())
	}
	c.dir = c.d.Dir
	steps := []func() error{
		c.network, c.writeFiles, c.makeCgroups,
		func() error { return c.start(filepath.Join(etcd, "etcd"), etcdFlags(c.file("etcd"))...) },
		func() error { return c.start(filepath.Join(c.kubernetes, "kube-apiserver"), c.apiserverFlags()...) },
		func() error { return c.await(ctx, "the API server", "get", "namespace", "default") },
		func() error { return c.runtimeClass(ctx) },
		func() error { return c.start(filepath.Join(c.kubernetes, "kubelet"), c.kubeletFlags()...) },
		func() error {
			return c.await(ctx, "the node", "wait", "--for=condition=Ready", "--timeout=1s", "node/"+nodeName)
		},
	}
	if deployed() {
		steps = append(steps, c.control, c.furnish, func() error { return c.deploy(ctx) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, errors.Join(err, c.stop())
		}
	}
	return c, nil
}

func (c *cluster) file(name string) string { return filepath.Join(c.dir, name) }

// network gives the machine an address.
func (c *cluster) network() error {
	for _, args := range [][]string{
		{"link", "add", "machine0", "type", "bridge"}, {"address", "add", address + "/24", "dev", "machine0"}, {"link", "set", "machine0", "up"},
		{"route", "add", "default", "via", "192.0.2.1", "dev", "machine0"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// runtimeClass makes the class of a handler that is not deployed, by the manifest that the project deploys.
func (c *cluster) runtimeClass(ctx context.Context) error {
	if *handler == node.Runc || deployed() {
		return nil
	}
	manifest, err := os.ReadFile(filepath.Join(string(c.site.Tree), "deploy", "runtimeclass.yaml"))
	if err != nil {
		return err
	}
	text := strings.NewReplacer("name: gosuda", "name: "+*handler, "handler: gosuda", "handler: "+*handler).Replace(string(manifest))
	_, err = c.kubectl(ctx, text, "create", "--filename", "-")
	return err
}

// hierarchies are the roots of cgroups: one of version 2, or the controllers of version 1.
func hierarchies() []string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup"}
	}
	list, _ := filepath.Glob("/sys/fs/cgroup/*")
	return slices.DeleteFunc(list, func(dir string) bool {
		info, err := os.Lstat(dir)
		return err != nil || !info.IsDir()
	})
}

func (c *cluster) makeCgroups() error {
	for _, h := range hierarchies() {
		if err := os.Mkdir(filepath.Join(h, c.cgroup), 0o755); err != nil {
			return err
		}
		// Processes are let into a cpuset only when it has processors and memory.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if text, err := os.ReadFile(filepath.Join(h, file)); err == nil {
				if err := os.WriteFile(filepath.Join(h, c.cgroup, file), text, 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// cgroups lists all of them, children first.
func (c *cluster) cgroups() (list []string) {
	for _, h := range hierarchies() {
		_ = filepath.WalkDir(filepath.Join(h, c.cgroup), func(path string, e os.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				list = append(list, path)
			}
			return nil
		})
	}
	slices.Reverse(list)
	return list
}

// podCgroups lists those of pods and their containers.
func (c *cluster) podCgroups() []string {
	return slices.DeleteFunc(c.cgroups(), func(dir string) bool { return !strings.Contains(dir, "/pod") })
}

// removeCgroups removes all and lists those of pods, which were to be gone.
func (c *cluster) removeCgroups() (left []string) {
	left = c.podCgroups()
	for _, dir := range c.cgroups() {
		_ = unix.Rmdir(dir)
	}
	return left
}

func etcdFlags(dir string) []string {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return []string{
		"--data-dir=" + dir, "--listen-client-urls=" + client, "--advertise-client-urls=" + client, "--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer, "--unsafe-no-fsync",
	}
}

func (c *cluster) apiserverFlags() []string {
	return []string{
		"--etcd-servers=http://127.0.0.1:2379", "--cert-dir=" + c.file("certs"), "--secure-port=6443", "--bind-address=127.0.0.1",
		"--advertise-address=" + address, "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/24",
		"--token-auth-file=" + c.file("tokens"), "--authorization-mode=AlwaysAllow", "--allow-privileged=true",
		"--service-account-issuer=https://gosuda.test", "--service-account-key-file=" + c.file("key"), "--service-account-signing-key-file=" + c.file("key"),
		"--disable-admission-plugins=ServiceAccount", "--kubelet-preferred-address-types=InternalIP",
	}
}

func (c *cluster) kubeletFlags() []string {
	return []string{
		"--config=" + c.file("kubelet.yaml"), "--kubeconfig=" + c.file("kubeconfig"), "--root-dir=/var/lib/kubelet", "--hostname-override=" + nodeName,
		"--node-ip=" + address,
	}
}

// control starts what turns a DaemonSet into pods, and deletes them with it.
func (c *cluster) control() error {
	flags := []string{"--kubeconfig=" + c.file("kubeconfig"), "--leader-elect=false"}
	return errors.Join(
		c.start(filepath.Join(c.kubernetes, "kube-scheduler"), append(flags, "--cert-dir="+c.file("scheduler"))...),
		c.start(filepath.Join(c.kubernetes, "kube-controller-manager"), append(flags, "--cert-dir="+c.file("controllers"),
			"--controllers=daemonset-controller,namespace-controller,garbage-collector-controller")...),
	)
}

const kubeletConfig = `
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://%s
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /%s
enforceNodeAllocatable: [pods]
oomScoreAdj: 0
address: 0.0.0.0
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", imagefs.available: "0%%"}
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 24h
syncFrequency: 2s
crashLoopBackOff: {maxContainerRestartPeriod: 2s}
allowedUnsafeSysctls: ["net.core.somaxconn"]
podLogsDir: /var/log/pods
resolvConf: %s
`

const kubeconfig = `
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: secret}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`

func (c *cluster) writeFiles() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		"key":          pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
		"tokens":       []byte("secret,admin,admin,system:masters\n"),
		"kubeconfig":   []byte(kubeconfig),
		"resolv.conf":  []byte("nameserver " + address + "\n"),
		"kubelet.yaml": fmt.Appendf(nil, kubeletConfig, c.d.Address(), c.cgroup, c.file("resolv.conf")),
	} {
		if err := os.WriteFile(c.file(name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// start starts one of the cluster's programs; its log is in a file of its name.
func (c *cluster) start(program string, args ...string) error {
	log, err := os.Create(c.file(filepath.Base(program) + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.started = append(c.started, cmd)
	return nil
}

// await asks again and again with kubectl, for at most two minutes, until it succeeds.
func (c *cluster) await(ctx context.Context, what string, args ...string) error {
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		out, err := c.kubectl(ctx, "", args...)
		if err == nil {
			return nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("wait for %s: %w: %s\n%s", what, err, out, c.logs())
		}
	}
}

// kubectl runs one command with something on its standard input, and returns what it printed without white space around it.
func (c *cluster) kubectl(ctx context.Context, in string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.kubernetes, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.file("kubeconfig"), "HOME="+c.dir)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(stdout.String()), err
}

// logs are the ends of the programs' logs.
func (c *cluster) logs() string {
	var all strings.Builder
	names, _ := filepath.Glob(c.file("*.log"))
	for _, name := range names {
		text, _ := os.ReadFile(name)
		lines := strings.SplitAfter(string(text), "\n")
		fmt.Fprintf(&all, "%s ends with:\n%s", filepath.Base(name), strings.Join(lines[max(0, len(lines)-25):], ""))
	}
	return all.String()
}

// collect removes what is left of sandboxes that have ended, as the kubelet does after a minute, and waits for what it is about to remove itself.
// None may run: all pods were deleted.
func (c *cluster) collect() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	mounts := c.d.State() + "/io.containerd.grpc.v1.cri/sandboxes/"
	for collected := false; ; time.Sleep(200 * time.Millisecond) {
		ready, err := c.site.Crictl(ctx, c.d, "pods", "--quiet", "--state", "ready")
		if err != nil {
			return err
		}
		if ready != "" {
			continue
		}
		if !collected {
			if _, err := c.site.Crictl(ctx, c.d, "rmp", "--all"); err != nil {
				return err
			}
			collected = true
		}
		table, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil || !strings.Contains(string(table), mounts) && len(c.podCgroups()) == 0 {
			return err
		}
	}
}

// stop ends everything and tells, as an error, what is left of the pods.
func (c *cluster) stop() error {
	var err error
	if c.manager != nil {
		err = errors.Join(c.undeploy(context.Background()), c.manager.Close())
	}
	err = errors.Join(err, c.collect())
	for _, cmd := range slices.Backward(c.started) {
		_ = cmd.Process.Signal(unix.SIGTERM)
		done := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // how it ends says nothing
		done.Stop()
	}
	err = errors.Join(err, node.Stop(c.d, *handler))
	for _, l := range c.removeCgroups() {
		err = errors.Join(err, errors.New("left behind: cgroup "+l))
	}
	return errors.Join(err, c.site.Close())
}
