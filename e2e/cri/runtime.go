package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// runtimeService makes pods as the kubelet does.
type runtimeService struct {
	cri.RuntimeServiceClient
	conn    *grpc.ClientConn
	daemon  *containerdtest.Daemon
	handler string
	made    int
}

const busybox = "registry.k8s.io/e2e-test-images/busybox:1.29-2"

// served calls f with a handler of a containerd of its own.
func (s *suite) served(ctx context.Context, handler string, f func(*runtimeService) error) (err error) {
	n, err := s.Start()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop(n, handler)) }()
	r, err := connect(ctx, n, handler)
	if err != nil {
		return err
	}
	defer r.conn.Close()
	return f(r)
}

func connect(ctx context.Context, d *containerdtest.Daemon, handler string) (*runtimeService, error) {
	conn, err := grpc.NewClient("unix://"+d.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	r := &runtimeService{cri.NewRuntimeServiceClient(conn), conn, d, handler, 0}
	_, err = cri.NewImageServiceClient(conn).PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: busybox}})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return r, nil
}

// pod is a pod with its config.
type pod struct {
	*runtimeService
	id     string
	config *cri.PodSandboxConfig
}

// newConfig is the config of another pod. Its processes have ids of their own in each container, unless the namespaces say otherwise.
func (r *runtimeService) newConfig(o *cri.NamespaceOption) *cri.PodSandboxConfig {
	r.made++
	name := fmt.Sprintf("pod%d", r.made)
	return &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "default"}, Hostname: "host-of-" + name, LogDirectory: r.daemon.Dir,
		DnsConfig: &cri.DNSConfig{Servers: []string{"10.0.0.10"}, Searches: []string{"a.test"}, Options: []string{"ndots:5"}},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: "/gosuda-cri/" + name, Sysctls: map[string]string{"kernel.shm_rmid_forced": "1"},
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: o},
		},
	}
}

func (r *runtimeService) run(ctx context.Context, c *cri.PodSandboxConfig) (*pod, error) {
	answer, err := r.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: c, RuntimeHandler: r.handler})
	if err != nil {
		return nil, err
	}
	return &pod{r, answer.PodSandboxId, c}, nil
}

// remove stops and removes the pod with all that is in it.
func (p *pod) remove(ctx context.Context) error {
	_, err := p.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.id})
	if err == nil {
		_, err = p.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.id})
	}
	return err
}

// container starts a container with a shell that goes on.
func (p *pod) container(ctx context.Context, script string) (id string, err error) {
	p.made++
	answer, err := p.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: p.id, SandboxConfig: p.config, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: fmt.Sprintf("c%d", p.made)}, Image: &cri.ImageSpec{Image: busybox},
		Command: []string{"sh", "-c", script},
		Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
			NamespaceOptions: p.config.Linux.SecurityContext.NamespaceOptions,
		}},
	}})
	if err != nil {
		return "", err
	}
	_, err = p.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: answer.ContainerId})
	return answer.ContainerId, err
}

// shell returns what a command prints in a container.
func (p *pod) shell(ctx context.Context, id, script string) (string, error) {
	answer, err := p.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh", "-c", script}, Timeout: 30})
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(answer.Stdout) + string(answer.Stderr)), nil
}

// want fails unless a command prints just that.
func (p *pod) want(ctx context.Context, id, script, want string) error {
	got, err := p.shell(ctx, id, script)
	if err == nil && got != want {
		err = fmt.Errorf("printed %q, want %q", got, want)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", script, err)
	}
	return nil
}

// status is the pod's state, and what crictl inspectp shows of it.
func (p *pod) status(ctx context.Context) (*cri.PodSandboxStatusResponse, error) {
	return p.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: p.id, Verbose: true})
}

// shim is the id of the process that has the pod's id on its command line.
func (p *pod) shim() (pid int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		line, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline") // of what is no process, or has ended, there is none
		if strings.Contains(string(line), "\x00-id\x00"+p.id+"\x00") {
			_, err := fmt.Sscan(e.Name(), &pid)
			return pid, err
		}
	}
	return 0, fmt.Errorf("pod %s has no shim", p.id)
}

// patience is how long all checks of a handler may take.
const patience = 2 * time.Minute
