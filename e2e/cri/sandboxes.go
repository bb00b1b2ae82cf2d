package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
	"github.com/gosuda/gosudacon/e2e/node"
)

// sandboxChecks are what pods must have in common, whether a pause container keeps it or the shim.
var sandboxChecks = []struct {
	name  string
	check func(context.Context, *runtimeService) error
}{
	{"files, names and sysctls", checkFiles},
	{"shared process ids", checkSharedPids},
	{"namespaces of the host", checkHostNamespaces},
	{"user namespace", checkUserNamespace},
	{"status and figures", checkStatus},
	{"containerd dies", checkContainerdDies},
	{"the shim dies", checkShimDies},
}

// unchecked has the reason of every check that a handler is spared.
var unchecked = map[string]map[string]string{
	"gosuda-table": {"user namespace": "containerd takes options of another type for those of runc (containerd#11091; see differences.go)"},
}

// checkSandboxes runs every check with a handler on a containerd of its own.
func (s *suite) checkSandboxes(ctx context.Context, handler string) error {
	return s.served(ctx, handler, func(r *runtimeService) error { return checkAll(ctx, r, handler) })
}

func checkAll(ctx context.Context, r *runtimeService, handler string) error {
	var errs []error
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, c := range sandboxChecks {
		if why := unchecked[handler][c.name]; why != "" {
			fmt.Printf("pod with %s: %s: not checked, because %s\n", handler, c.name, why)
			continue
		}
		if err := c.check(ctx, r); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	if handler == node.Pauseless {
		errs = append(errs, noPauseImage(ctx, r))
	}
	return errors.Join(append(errs, removeCgroups())...)
}

// noPauseImage fails when the image of pause containers was pulled for nothing.
func noPauseImage(ctx context.Context, r *runtimeService) error {
	answer, err := cri.NewImageServiceClient(r.conn).ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return err
	}
	for _, i := range answer.Images {
		if strings.Contains(strings.Join(i.RepoTags, " "), "pause") {
			return fmt.Errorf("there is an image %q", i.RepoTags)
		}
	}
	return nil
}

// removeCgroups removes the cgroups that the kubelet would make and remove.
func removeCgroups() error {
	var errs []error
	for _, pattern := range []string{"/sys/fs/cgroup/gosuda-cri", "/sys/fs/cgroup/*/gosuda-cri"} {
		roots, _ := filepath.Glob(pattern) // the pattern is one
		for _, root := range roots {
			pods, _ := filepath.Glob(root + "/pod*")
			for _, dir := range append(pods, root) {
				errs = append(errs, os.Remove(dir))
			}
		}
	}
	return errors.Join(errs...)
}

func ownPids() *cri.NamespaceOption { return &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER} }

// in runs a pod, calls f and removes the pod.
func (r *runtimeService) in(ctx context.Context, c *cri.PodSandboxConfig, f func(*pod) error) error {
	p, err := r.run(ctx, c)
	if err != nil {
		return err
	}
	return errors.Join(f(p), p.remove(ctx))
}

// sleeper is what containers do that wait to be asked.
const sleeper = "exec sleep 1000"

func checkFiles(ctx context.Context, r *runtimeService) error {
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil {
		return err
	}
	c := r.newConfig(ownPids())
	return r.in(ctx, c, func(p *pod) error {
		one, err := p.container(ctx, sleeper)
		if err != nil {
			return err
		}
		other, err := p.container(ctx, sleeper)
		if err != nil {
			return err
		}
		return errors.Join(
			p.want(ctx, one, "hostname; cat /etc/hostname; echo $HOSTNAME", strings.Join([]string{c.Hostname, c.Hostname, c.Hostname}, "\n")),
			p.want(ctx, one, "cat /etc/hosts", strings.TrimSpace(string(hosts))),
			p.want(ctx, one, "cat /etc/resolv.conf", "search a.test\nnameserver 10.0.0.10\noptions ndots:5"),
			p.want(ctx, one, "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start", "1\n0"),
			p.want(ctx, one, "awk '{print $1, $2}' /proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
			p.want(ctx, one, "df -k /dev/shm | awk 'END {print $2}'; cat /proc/1/comm", "65536\nsleep"),
			p.want(ctx, one, "echo shared >/dev/shm/file; echo x >>/etc/hosts", ""),
			p.want(ctx, other, "cat /dev/shm/file; tail -1 /etc/hosts", "shared\nx"),
			sameNamespaces(ctx, p, one, other),
		)
	})
}

// sameNamespaces fails unless two containers share the pod's namespaces and no others.
func sameNamespaces(ctx context.Context, p *pod, one, other string) error {
	const list = "for n in ipc uts net pid mnt; do readlink /proc/1/ns/$n; done"
	a, err := p.shell(ctx, one, list)
	if err != nil {
		return err
	}
	b, err := p.shell(ctx, other, list)
	if err != nil {
		return err
	}
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	if len(as) != 5 || len(bs) != 5 {
		return fmt.Errorf("%s: printed %q and %q", list, a, b)
	}
	for i := range as {
		host, err := os.Readlink("/proc/self/ns/" + strings.Split(as[i], ":")[0])
		if err != nil || as[i] == host || (as[i] == bs[i]) != (i < 3) {
			return errors.Join(err, fmt.Errorf("namespaces of two containers: %q and %q", as, bs))
		}
	}
	return nil
}

func checkSharedPids(ctx context.Context, r *runtimeService) error {
	return r.in(ctx, r.newConfig(&cri.NamespaceOption{}), func(p *pod) error {
		one, err := p.container(ctx, "(sleep 2001 & exec sleep 2002) & exec sleep 2003")
		if err != nil {
			return err
		}
		other, err := p.container(ctx, sleeper)
		if err != nil {
			return err
		}
		const list = "ps -o args | awk '$1 == \"sleep\" {print $2}' | sort | xargs"
		kill := func(what string) string {
			return "kill -9 $(ps -o pid,args | awk '$2 == \"sleep\" && $3 == " + what + " {print $1}'); sleep 0.3; " + list
		}
		return errors.Join(
			p.want(ctx, other, "tr '\\0' ' ' </proc/1/cmdline; "+list, "/pause 1000 2001 2002 2003"),
			// The parent of one ends: it becomes the first process's, which reaps it.
			p.want(ctx, other, kill("2002"), "1000 2001 2003"),
			p.want(ctx, other, kill("2001"), "1000 2003"),
			p.want(ctx, other, "grep -l '^State:.Z' /proc/[0-9]*/status | xargs -r grep -l '^PPid:.1$'", ""),
			p.want(ctx, one, list, "1000 2003"),
		)
	})
}

func checkHostNamespaces(ctx context.Context, r *runtimeService) error {
	c := r.newConfig(&cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_NODE, Ipc: cri.NamespaceMode_NODE})
	c.Hostname, c.DnsConfig, c.Linux.Sysctls = "", nil, nil
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	var want []string
	for _, file := range []string{"ipc", "uts", "net", "pid"} {
		link, err := os.Readlink("/proc/self/ns/" + file)
		if err != nil {
			return err
		}
		want = append(want, link)
	}
	return r.in(ctx, c, func(p *pod) error {
		one, err := p.container(ctx, sleeper)
		if err != nil {
			return err
		}
		return errors.Join(p.want(ctx, one, "hostname", host),
			p.want(ctx, one, "for n in ipc uts net pid; do readlink /proc/self/ns/$n; done", strings.Join(want, "\n")))
	})
}

func checkUserNamespace(ctx context.Context, r *runtimeService) error {
	maps := []*cri.IDMapping{{HostId: 200000, ContainerId: 0, Length: 65536}}
	var errs []error
	for _, o := range []*cri.NamespaceOption{{Pid: cri.NamespaceMode_CONTAINER}, {}, {Pid: cri.NamespaceMode_CONTAINER, Network: cri.NamespaceMode_NODE}} {
		o.UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: maps, Gids: maps}
		c := r.newConfig(o)
		if o.Network == cri.NamespaceMode_NODE {
			c.Hostname = "" // as the kubelet has it
		}
		errs = append(errs, r.in(ctx, c, func(p *pod) error {
			one, err := p.container(ctx, sleeper)
			if err != nil {
				return err
			}
			return errors.Join(
				p.want(ctx, one, "awk '{print $1, $2, $3}' /proc/self/uid_map", "0 200000 65536"),
				p.want(ctx, one, "stat -c %u:%g /etc/hosts /etc/resolv.conf; echo x >/dev/shm/x && cat /dev/shm/x", "0:0\n0:0\nx"),
				p.want(ctx, one, "cat /proc/sys/kernel/shm_rmid_forced", "1"),
			)
		}))
	}
	return errors.Join(errs...)
}

func checkStatus(ctx context.Context, r *runtimeService) error {
	c := r.newConfig(ownPids())
	return r.in(ctx, c, func(p *pod) error {
		if _, err := p.container(ctx, sleeper); err != nil {
			return err
		}
		st, err := p.status(ctx)
		if err != nil {
			return err
		}
		var info struct {
			Pid           int
			ProcessStatus string
			Config        struct{ Hostname string }
			RuntimeSpec   struct {
				Linux struct {
					Namespaces []struct{ Type, Path string }
				}
			}
		}
		if err := json.Unmarshal([]byte(st.Info["info"]), &info); err != nil {
			return fmt.Errorf("info %q: %w", st.Info, err)
		}
		network := ""
		for _, n := range info.RuntimeSpec.Linux.Namespaces {
			if n.Type == "network" {
				network = n.Path
			}
		}
		age := time.Since(time.Unix(0, st.Status.CreatedAt))
		if st.Status.State != cri.PodSandboxState_SANDBOX_READY || st.Status.Network.Ip == "" || age < 0 || age > patience ||
			info.ProcessStatus != "running" || info.Config.Hostname != c.Hostname || network == "" {
			return fmt.Errorf("status: %v", st)
		}
		if r.handler == node.Pauseless {
			shim, err := p.shim()
			if err != nil {
				return err
			}
			if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", shim, info.Pid)); err != nil {
				return fmt.Errorf("the pod's namespaces are not those of a thread of its shim: %w", err)
			}
		}
		theirs, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", info.Pid))
		if err != nil {
			return err
		}
		if pinned, err := os.Stat(network); err != nil || !os.SameFile(theirs, pinned) {
			return errors.Join(err, fmt.Errorf("process %d is not in the network %s", info.Pid, network))
		}
		return patiently(func() error { // containerd collects them from time to time
			answer, err := p.PodSandboxStats(ctx, &cri.PodSandboxStatsRequest{PodSandboxId: p.id})
			if err != nil {
				return err
			}
			if l := answer.Stats.Linux; l.Memory.WorkingSetBytes.GetValue() == 0 || l.Cpu.UsageCoreNanoSeconds.GetValue() == 0 ||
				l.Network.DefaultInterface.GetName() != "eth0" || len(l.Containers) != 1 ||
				l.Process.ProcessCount.GetValue() != 1 && r.handler != node.Runc { // whose shim has no figures of containers on some hosts
				return fmt.Errorf("figures: %v", answer.Stats)
			}
			return nil
		})
	})
}

// checkContainerdDies kills containerd under pods: they are as they were, and take containers as before.
func checkContainerdDies(ctx context.Context, r *runtimeService) error {
	type running struct {
		*pod
		container string
		before    *cri.PodSandboxStatusResponse
	}
	var all []running
	for _, o := range []*cri.NamespaceOption{ownPids(), {}} {
		p, err := r.run(ctx, r.newConfig(o))
		if err != nil {
			return err
		}
		id, err := p.container(ctx, sleeper)
		if err != nil {
			return err
		}
		st, err := p.status(ctx)
		if err != nil {
			return err
		}
		all = append(all, running{p, id, st})
	}
	if err := restartContainerd(ctx, r.daemon, r); err != nil {
		return err
	}
	var errs []error
	for _, p := range all {
		errs = append(errs, func() error {
			st, err := p.status(ctx)
			if err != nil {
				return err
			}
			if st.Status.State != cri.PodSandboxState_SANDBOX_READY || st.Status.CreatedAt != p.before.Status.CreatedAt || st.Status.Network.Ip != p.before.Status.Network.Ip {
				return fmt.Errorf("status after containerd was away: %v, before: %v", st.Status, p.before.Status)
			}
			other, err := p.pod.container(ctx, sleeper)
			if err != nil {
				return err
			}
			if p.config.Linux.SecurityContext.NamespaceOptions.Pid == cri.NamespaceMode_CONTAINER {
				err = sameNamespaces(ctx, p.pod, p.container, other)
			}
			return errors.Join(err, p.want(ctx, p.container, "echo still", "still"), p.remove(ctx))
		}())
	}
	return errors.Join(errs...)
}

func restartContainerd(ctx context.Context, d *containerdtest.Daemon, r *runtimeService) error {
	if err := errors.Join(d.Kill(), d.Launch()); err != nil {
		return err
	}
	return patiently(func() error {
		_, err := r.Version(ctx, &cri.VersionRequest{})
		return err
	})
}

// checkShimDies kills a pod's shim: the pod is not ready then, and can be removed.
func checkShimDies(ctx context.Context, r *runtimeService) error {
	var errs []error
	for _, o := range []*cri.NamespaceOption{ownPids(), {}} {
		errs = append(errs, r.in(ctx, r.newConfig(o), func(p *pod) error {
			id, err := p.container(ctx, sleeper)
			if err != nil {
				return err
			}
			shim, err := p.shim()
			if err != nil {
				return err
			}
			if err := unix.Kill(shim, unix.SIGKILL); err != nil {
				return fmt.Errorf("kill shim %s: %w", strconv.Itoa(shim), err)
			}
			return patiently(func() error {
				st, err := p.status(ctx)
				if err != nil {
					return err
				}
				c, err := p.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
				if err != nil {
					return err
				}
				if st.Status.State != cri.PodSandboxState_SANDBOX_NOTREADY || c.Status.State != cri.ContainerState_CONTAINER_EXITED || c.Status.ExitCode == 0 {
					return fmt.Errorf("without a shim: the pod is %v, its container %v with %d", st.Status.State, c.Status.State, c.Status.ExitCode)
				}
				return nil
			})
		}))
	}
	return errors.Join(errs...)
}
