package shimdrive

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// sandbox is a pod's shim, as containerd's shim sandboxer has it.
type sandbox struct {
	*setup
	t       *testing.T
	shim    *Shim
	bundle  *Bundle
	config  *cri.PodSandboxConfig
	network string
	mapping []syscall.SysProcIDMap
	pid     int
}

// ownPids is what the kubelet asks for unless a pod says shareProcessNamespace.
func ownPids() *cri.NamespaceOption { return &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER} }

// podConfig is the config of a pod with the namespaces.
func (s *setup) podConfig(o *cri.NamespaceOption) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: "pod", Uid: "u", Namespace: "default", Attempt: 3}, Hostname: "the-pod",
		DnsConfig: &cri.DNSConfig{Servers: []string{"10.0.0.10", "10.0.0.11"}, Searches: []string{"a.test", "b.test"}, Options: []string{"ndots:5"}},
		Labels:    map[string]string{"l": "1"}, Annotations: map[string]string{"a": "2"},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: "/" + s.namespace, Sysctls: map[string]string{"kernel.shm_rmid_forced": "1", "net.ipv4.ip_forward": "1"},
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: o},
		},
	}
}

// newSandbox executes start in a bundle without config.json.
func (s *setup) newSandbox(t *testing.T, c *cri.PodSandboxConfig) *sandbox {
	t.Helper()
	counter++
	p := &sandbox{setup: s, t: t, config: c, bundle: s.bundle(t, fmt.Sprintf("p%d", counter), nil)}
	o := c.Linux.SecurityContext.NamespaceOptions
	if u := o.UsernsOptions; u.GetMode() == cri.NamespaceMode_POD && len(u.GetUids()) > 0 {
		p.mapping = []syscall.SysProcIDMap{{ContainerID: int(u.Uids[0].ContainerId), HostID: int(u.Uids[0].HostId), Size: int(u.Uids[0].Length)}}
	}
	if o.Network != cri.NamespaceMode_NODE {
		path, remove, err := PinNetwork(filepath.Dir(s.rootfs), p.mapping)
		if err != nil {
			t.Fatal(err)
		}
		p.network = path
		t.Cleanup(func() {
			if err := remove(); err != nil {
				t.Error(err)
			}
		})
	}
	var err error
	if p.shim, err = s.Start(t.Context(), s.binary, p.bundle); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *sandbox) create() error {
	p.t.Helper()
	value, err := proto.Marshal(p.config)
	if err != nil {
		p.t.Fatal(err)
	}
	_, err = p.shim.Sandbox().CreateSandbox(p.t.Context(), &sandboxapi.CreateSandboxRequest{
		SandboxID: p.bundle.ID, BundlePath: p.bundle.Path, NetnsPath: p.network,
		Options: &anypb.Any{TypeUrl: "types.googleapis.com/runtime.v1.PodSandboxConfig", Value: value},
	})
	return err
}

// pod is a sandbox that is ready.
func (s *setup) pod(t *testing.T, c *cri.PodSandboxConfig) *sandbox {
	t.Helper()
	p := s.newSandbox(t, c)
	t.Cleanup(p.remove)
	if err := p.create(); err != nil {
		t.Fatal(err)
	}
	r, err := p.shim.Sandbox().StartSandbox(t.Context(), &sandboxapi.StartSandboxRequest{SandboxID: p.bundle.ID})
	if err != nil {
		t.Fatal(err)
	}
	p.pid = int(r.Pid)
	if age := time.Since(r.CreatedAt.AsTime()); age < 0 || age > time.Minute {
		t.Errorf("created %v ago", age)
	}
	return p
}

// remove does what RemovePodSandbox does.
func (p *sandbox) remove() {
	ctx := p.bundleContext()
	if _, err := p.shim.Sandbox().ShutdownSandbox(ctx, &sandboxapi.ShutdownSandboxRequest{SandboxID: p.bundle.ID}); err != nil {
		p.t.Errorf("shut down: %v", err)
	}
	p.deleted()
}

// deleted closes the connection and executes the delete verb.
func (p *sandbox) deleted() {
	if err := p.shim.Close(); err != nil {
		p.t.Error(err)
	}
	if _, err := p.Delete(p.bundleContext(), p.binary, p.bundle); err != nil {
		p.t.Errorf("delete verb: %v", err)
	}
	if entries, _ := filepath.Glob(filepath.Join(p.bundle.Path, "pod", "*")); len(entries) > 0 {
		p.t.Errorf("left behind: %q", entries)
	}
}

func (p *sandbox) status(verbose bool) *sandboxapi.SandboxStatusResponse {
	p.t.Helper()
	r, err := p.shim.Sandbox().SandboxStatus(p.t.Context(), &sandboxapi.SandboxStatusRequest{SandboxID: p.bundle.ID, Verbose: verbose})
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// container makes a container as CRI does: with the namespaces of the announced process and containerd's default mounts, without the pod's files.
func (p *sandbox) container(script string, opts ...oci.SpecOpts) (*Bundle, string) {
	p.t.Helper()
	id, spec := p.spec(p.t, "sh", "-c", script)
	ns := func(t specs.LinuxNamespaceType, file string) oci.SpecOpts {
		return oci.WithLinuxNamespace(specs.LinuxNamespace{Type: t, Path: fmt.Sprintf("/proc/%d/ns/%s", p.pid, file)})
	}
	opts = append(opts, ns(specs.NetworkNamespace, "net"), ns(specs.IPCNamespace, "ipc"), ns(specs.UTSNamespace, "uts"))
	if p.config.Linux.SecurityContext.NamespaceOptions.Pid != cri.NamespaceMode_CONTAINER {
		opts = append(opts, ns(specs.PIDNamespace, "pid"))
	}
	if p.mapping != nil {
		m := []specs.LinuxIDMapping{{ContainerID: uint32(p.mapping[0].ContainerID), HostID: uint32(p.mapping[0].HostID), Size: uint32(p.mapping[0].Size)}}
		opts = append(opts, ns(specs.UserNamespace, "user"), oci.WithUserNamespace(m, m))
	}
	for _, o := range opts {
		if err := o(p.t.Context(), nil, nil, spec); err != nil {
			p.t.Fatal(err)
		}
	}
	b := p.setup.bundle(p.t, id, config(p.t, spec))
	out := filepath.Join(filepath.Dir(p.rootfs), id+".out")
	if _, err := p.shim.Task.Create(p.t.Context(), &taskapi.CreateTaskRequest{ID: b.ID, Bundle: b.Path, Stdout: "file://" + out}); err != nil {
		p.t.Fatalf("create: %v", err)
	}
	p.t.Cleanup(func() { p.end(b) })
	if _, err := p.shim.Task.Start(p.t.Context(), &taskapi.StartRequest{ID: id}); err != nil {
		p.t.Fatalf("start: %v", err)
	}
	return b, out
}

// end kills and deletes a container, if it is there, and asks the shim to end, as containerd does.
func (p *sandbox) end(b *Bundle) {
	ctx := p.bundleContext()
	_, _ = p.shim.Task.Kill(ctx, &taskapi.KillRequest{ID: b.ID, Signal: uint32(unix.SIGKILL), All: true}) // it may have ended
	_, _ = p.shim.Task.Wait(ctx, &taskapi.WaitRequest{ID: b.ID})
	if _, err := p.shim.Task.Delete(ctx, &taskapi.DeleteRequest{ID: b.ID}); err != nil && !errors.Is(errgrpc.ToNative(err), errdefs.ErrNotFound) {
		p.t.Errorf("delete: %v", err)
	}
	if _, err := p.shim.Task.Shutdown(ctx, &taskapi.ShutdownRequest{ID: b.ID}); err != nil {
		p.t.Errorf("shutdown: %v", err)
	}
	if _, err := p.Delete(ctx, p.binary, b); err != nil {
		p.t.Errorf("delete verb: %v", err)
	}
}

// run returns what a container prints.
func (p *sandbox) run(script string, opts ...oci.SpecOpts) string {
	p.t.Helper()
	b, out := p.container(script, opts...)
	if _, err := p.shim.Task.Wait(p.t.Context(), &taskapi.WaitRequest{ID: b.ID}); err != nil {
		p.t.Fatal(err)
	}
	p.end(b)
	text, err := os.ReadFile(out)
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func (p *sandbox) shimPid() int {
	p.t.Helper()
	r, err := p.shim.Task.Connect(p.t.Context(), &taskapi.ConnectRequest{ID: p.bundle.ID})
	if err != nil {
		p.t.Fatal(err)
	}
	return int(r.ShimPid)
}

// TestSandbox takes a pod through its life.
func TestSandbox(t *testing.T) {
	s := newSetup(t)
	p := s.pod(t, s.podConfig(ownPids()))
	st := p.status(true)
	if st.State != "SANDBOX_READY" || int(st.Pid) != p.pid || st.SandboxID != p.bundle.ID || st.CreatedAt.AsTime().IsZero() || st.ExitedAt != nil {
		t.Errorf("status: %+v", st)
	}
	if children := children(p.shimPid()); len(children) > 0 {
		t.Errorf("processes of a pod without containers: %v", children)
	}
	for file, own := range map[string]bool{"ipc": true, "uts": true, "net": true, "pid": false, "mnt": false, "user": false} {
		ours, theirs := readLink(t, "/proc/self/ns/"+file), readLink(t, fmt.Sprintf("/proc/%d/ns/%s", p.pid, file))
		if (ours != theirs) != own {
			t.Errorf("namespace %s is %s, the host's %s", file, theirs, ours)
		}
	}
	p.checkInfo(st.Info["info"])
	if r, err := p.shim.Sandbox().Platform(t.Context(), &sandboxapi.PlatformRequest{SandboxID: p.bundle.ID}); err != nil || r.Platform.OS != "linux" || r.Platform.Architecture == "" {
		t.Errorf("platform: %v, %v", r, err)
	}
	if _, err := p.shim.Sandbox().PingSandbox(t.Context(), &sandboxapi.PingRequest{SandboxID: p.bundle.ID}); err != nil {
		t.Errorf("ping: %v", err)
	}
	_, err := p.shim.Sandbox().UpdateSandbox(t.Context(), &sandboxapi.UpdateSandboxRequest{SandboxID: p.bundle.ID})
	refused(t, err, errdefs.ErrNotImplemented)

	for script, want := range map[string]string{
		"hostname; cat /etc/hostname":                            "the-pod\nthe-pod",
		"cat /etc/resolv.conf":                                   "search a.test b.test\nnameserver 10.0.0.10\nnameserver 10.0.0.11\noptions ndots:5",
		"cat /etc/hosts":                                         readFile(t, "/etc/hosts"),
		"cat /proc/sys/net/ipv4/ip_forward":                      "1",
		"cat /proc/sys/kernel/shm_rmid_forced":                   "1",
		"cat /proc/sys/net/ipv4/ip_unprivileged_port_start":      "0",
		"cat /proc/sys/net/ipv4/ping_group_range | tr '\\t' ' '": "0 2147483647",
		"df -k /dev/shm | tail -1 | awk '{print $2}'":            "65536",
		"echo $$": "1",
	} {
		if got := p.run(script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	// What one container leaves in /dev/shm and in the files, the next one sees; a read-only one may not write there.
	p.run("echo shared >/dev/shm/file; echo 1.2.3.4 other >>/etc/hosts")
	if got := p.run("cat /dev/shm/file; tail -1 /etc/hosts"); got != "shared\n1.2.3.4 other" {
		t.Errorf("from the container before: %q", got)
	}
	readonly := func(_ any, spec *specs.Spec) { spec.Root.Readonly = true }
	if got := p.run("(echo x >>/etc/hosts) 2>&1 | grep -c Read-only", edit(readonly)); got != "1" {
		t.Errorf("writing /etc/hosts in a container with a read-only root: %q", got)
	}
	// What the config mounts itself stays.
	own := filepath.Join(filepath.Dir(s.rootfs), "own")
	if err := os.WriteFile(own, []byte("own\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	mounts := edit(func(_ any, spec *specs.Spec) {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: own, Options: []string{"rbind", "ro"}},
			specs.Mount{Destination: "/dev/shm/below", Type: "bind", Source: own, Options: []string{"rbind", "ro"}})
	})
	if got := p.run("cat /etc/hosts /dev/shm/below /dev/shm/file", mounts); got != "own\nown\nshared" {
		t.Errorf("with mounts of its own: %q", got)
	}

	waited := make(chan *sandboxapi.WaitSandboxResponse, 1)
	go func() {
		r, err := p.shim.Sandbox().WaitSandbox(t.Context(), &sandboxapi.WaitSandboxRequest{SandboxID: p.bundle.ID})
		if err != nil {
			t.Errorf("wait: %v", err)
		}
		waited <- r
	}()
	// Without a task the shim stays, whatever containerd asks.
	if _, err := p.shim.Task.Shutdown(t.Context(), &taskapi.ShutdownRequest{ID: p.bundle.ID}); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if st := p.status(false); st.State != "SANDBOX_READY" || len(st.Info) > 0 {
		t.Errorf("status: %+v", st)
	}
	b, _ := p.container("sleep 1000")
	p.stop()
	if r, err := p.shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: b.ID}); err != nil || r.ExitStatus != 137 {
		t.Errorf("a container of a pod that was stopped: %v, %v", r, err)
	}
	if r := <-waited; r == nil || r.ExitStatus != 0 || r.ExitedAt.AsTime().IsZero() {
		t.Errorf("wait answered %v", r)
	}
	if st := p.status(true); st.State != "SANDBOX_NOTREADY" || st.Pid != 0 || st.ExitedAt == nil {
		t.Errorf("status: %+v", st)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", p.shimPid(), p.pid)); err == nil {
		time.Sleep(time.Second) // a thread ends some time after its goroutine
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", p.shimPid(), p.pid)); err == nil {
			t.Error("the thread of a pod that was stopped is there")
		}
	}
	p.stop() // again
	id, spec := s.spec(t, "true")
	late := s.bundle(t, id, config(t, spec))
	_, err = p.shim.Task.Create(t.Context(), &taskapi.CreateTaskRequest{ID: id, Bundle: late.Path})
	refused(t, err, errdefs.ErrFailedPrecondition, p.bundle.ID, "not ready")
}

func (p *sandbox) stop() {
	p.t.Helper()
	if _, err := p.shim.Sandbox().StopSandbox(p.t.Context(), &sandboxapi.StopSandboxRequest{SandboxID: p.bundle.ID, TimeoutSecs: 30}); err != nil {
		p.t.Fatalf("stop: %v", err)
	}
}

// edit changes a spec.
func edit(f func(any, *specs.Spec)) oci.SpecOpts {
	return oci.Compose(func(ctx ctxt, _ oci.Client, _ *container, s *specs.Spec) error { f(ctx, s); return nil })
}

// checkInfo checks what CRI makes of the pod's info: it decodes the config as cri-api's.
func (p *sandbox) checkInfo(text string) {
	p.t.Helper()
	var info struct {
		Pid           int
		ProcessStatus string
		Config        cri.PodSandboxConfig
		RuntimeSpec   specs.Spec
	}
	if err := json.Unmarshal([]byte(text), &info); err != nil {
		p.t.Fatalf("info: %v: %s", err, text)
	}
	if !proto.Equal(&info.Config, p.config) {
		p.t.Errorf("config is %v, want %v", &info.Config, p.config)
	}
	if info.Pid != p.pid || info.ProcessStatus != "running" {
		p.t.Errorf("info: %s", text)
	}
	for _, n := range info.RuntimeSpec.Linux.Namespaces {
		if n.Type == specs.NetworkNamespace && n.Path == p.network {
			return
		}
	}
	p.t.Errorf("info has no network namespace %s: %s", p.network, text)
}

// TestSandboxSharesPids: the first process of the pod is ours, and reaps what others leave.
func TestSandboxSharesPids(t *testing.T) {
	s := newSetup(t)
	p := s.pod(t, s.podConfig(&cri.NamespaceOption{}))
	if got := strings.TrimRight(readFile(t, fmt.Sprintf("/proc/%d/cmdline", p.pid)), "\x00"); got != "/pause" {
		t.Errorf("the announced process is %q", got)
	}
	if got := regexp.MustCompile(`CapEff:\t0+\n[^$]*NoNewPrivs:\t1\n`).FindString(readFile(t, fmt.Sprintf("/proc/%d/status", p.pid))); got == "" {
		t.Error("the first process has privileges")
	}
	b, _ := p.container("sleep 1001 & (sleep 1002 & exec sleep 1003) & sleep 1004")
	// The parent of one ends, by a signal: it becomes a child of the first, and ends.
	kill := func(what string) string {
		return "kill -9 $(ps -o pid,args | awk '$2 == \"sleep\" && $3 == " + what + " {print $1}'); sleep 0.2; "
	}
	script := "tr '\\0' ' ' </proc/1/cmdline; " + kill("1003") + kill("1002") + "ps -o ppid,stat | grep -c '^ *1 Z'"
	if got := p.run(script); got != "/pause 0" {
		t.Errorf("in a pod with one pid namespace: %q", got)
	}
	if got := p.run("ps -o args | grep -c 'sleep 100[14]$'"); got != "2" {
		t.Errorf("sees %s processes of another container", got)
	}
	p.end(b)
	if p.pid != int(p.status(false).Pid) {
		t.Error("the first process has changed")
	}
	rollup := readFile(t, fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
	if m := regexp.MustCompile(`Pss: +(\d+) kB`).FindStringSubmatch(rollup); m == nil {
		t.Errorf("smaps_rollup: %s", rollup)
	} else if kib, _ := strconv.Atoi(m[1]); kib > 64 {
		t.Errorf("the first process takes %d KiB", kib)
	}
}

// TestSandboxFirstProcessDies: that is the end of the pod.
func TestSandboxFirstProcessDies(t *testing.T) {
	s := newSetup(t)
	p := s.pod(t, s.podConfig(&cri.NamespaceOption{}))
	b, _ := p.container("sleep 1000")
	if err := unix.Kill(p.pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r, err := p.shim.Sandbox().WaitSandbox(t.Context(), &sandboxapi.WaitSandboxRequest{SandboxID: p.bundle.ID})
	if err != nil || r.ExitStatus != 137 {
		t.Errorf("wait: %v, %v", r, err)
	}
	if r, err := p.shim.Task.Wait(t.Context(), &taskapi.WaitRequest{ID: b.ID}); err != nil || r.ExitStatus != 137 {
		t.Errorf("a container: %v, %v", r, err)
	}
	if st := p.status(false); st.State != "SANDBOX_NOTREADY" {
		t.Errorf("status: %+v", st)
	}
	p.end(b)
}

// TestSandboxContainerSharesPids: a container may share the process ids of a pod that was not told so. It must never be the host's.
func TestSandboxContainerSharesPids(t *testing.T) {
	s := newSetup(t)
	p := s.pod(t, s.podConfig(ownPids()))
	pids := oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.PIDNamespace, Path: fmt.Sprintf("/proc/%d/ns/pid", p.pid)})
	for range 2 {
		if got := p.run("tr '\\0' ' ' </proc/1/cmdline", pids); got != "/pause" {
			t.Errorf("process 1 is %q", got)
		}
	}
	if int(p.status(false).Pid) != p.pid {
		t.Error("the announced process has changed")
	}
}

// TestSandboxUserNamespace: everything of the pod belongs to its user namespace, which CRI has made with the network or nobody has.
func TestSandboxUserNamespace(t *testing.T) {
	maps := []*cri.IDMapping{{HostId: 100000, ContainerId: 0, Length: 65536}}
	for name, o := range map[string]*cri.NamespaceOption{
		"own network":  {Pid: cri.NamespaceMode_CONTAINER},
		"shared pids":  {},
		"host network": {Pid: cri.NamespaceMode_CONTAINER, Network: cri.NamespaceMode_NODE},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t)
			o.UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: maps, Gids: maps}
			c := s.podConfig(o)
			var without oci.SpecOpts = func(ctxt, oci.Client, *container, *specs.Spec) error { return nil }
			if o.Network == cri.NamespaceMode_NODE {
				c.Linux.Sysctls = map[string]string{"kernel.shm_rmid_forced": "1"}
				without = oci.WithoutMounts("/sys") // as CRI does
			}
			p := s.pod(t, c)
			for _, name := range []string{"hostname", "hosts", "resolv.conf"} { // the root file system belongs to the host's root, and not to the pod's
				if err := os.WriteFile(filepath.Join(s.rootfs, "etc", name), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			script := "awk '{print $1, $2, $3}' /proc/self/uid_map; stat -c %u:%g /etc/hosts; echo x >>/etc/hosts && echo y >/dev/shm/$$ && echo written"
			if got := p.run(script, without); got != "0 100000 65536\n0:0\nwritten" {
				t.Errorf("got %q", got)
			}
			if got := p.run("cat /proc/sys/kernel/shm_rmid_forced; grep -c ' /dev/mqueue mqueue ' /proc/mounts", without); got != "1\n1" {
				t.Errorf("the ipc namespace: %q", got)
			}
			if p.mapping != nil && o.Pid == cri.NamespaceMode_POD {
				if ours, theirs := readLink(t, "/proc/self/ns/user"), readLink(t, fmt.Sprintf("/proc/%d/ns/user", p.pid)); ours == theirs {
					t.Error("the first process is in the host's user namespace")
				}
			}
		})
	}
}

// TestSandboxHostNamespaces: what is the host's stays the host's.
func TestSandboxHostNamespaces(t *testing.T) {
	s := newSetup(t)
	c := s.podConfig(&cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_NODE, Ipc: cri.NamespaceMode_NODE})
	c.Hostname, c.DnsConfig, c.Linux.Sysctls = "", nil, nil
	name := readFile(t, "/proc/sys/kernel/hostname")
	p := s.pod(t, c)
	for _, file := range []string{"ipc", "uts", "net", "pid"} {
		if ours, theirs := readLink(t, "/proc/self/ns/"+file), readLink(t, fmt.Sprintf("/proc/%d/ns/%s", p.pid, file)); ours != theirs {
			t.Errorf("namespace %s is not the host's", file)
		}
	}
	want := fmt.Sprintf("%s\n%s\n%d", strings.TrimSpace(name), strings.TrimSpace(readFile(t, "/etc/resolv.conf")), os.Getpid())
	if got := p.run(fmt.Sprintf("hostname; cat /etc/resolv.conf; [ -d /proc/%d ] && echo %[1]d", os.Getpid())); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestSandboxMetrics: the figures are those of the pod's cgroup, with all its containers.
func TestSandboxMetrics(t *testing.T) {
	s := newSetup(t)
	p := s.pod(t, s.podConfig(ownPids()))
	b, _ := p.container("sleep 1000")
	defer p.end(b)
	r, err := p.shim.Sandbox().SandboxMetrics(t.Context(), &sandboxapi.SandboxMetricsRequest{SandboxID: p.bundle.ID})
	if err != nil {
		t.Fatal(err)
	}
	if r.Metrics.ID != p.bundle.ID || time.Since(r.Metrics.Timestamp.AsTime()) > time.Minute {
		t.Errorf("metrics: %v", r.Metrics)
	}
	if n := processesIn(t, r.Metrics.Data); n < 1 {
		t.Errorf("%d processes in the pod", n)
	}
}

// TestSandboxShimKilled: the delete verbs remove what is left of a pod.
func TestSandboxShimKilled(t *testing.T) {
	for name, o := range map[string]*cri.NamespaceOption{"own pids": ownPids(), "shared pids": {}} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t)
			p := s.newSandbox(t, s.podConfig(o))
			if err := p.create(); err != nil {
				t.Fatal(err)
			}
			started, err := p.shim.Sandbox().StartSandbox(t.Context(), &sandboxapi.StartSandboxRequest{SandboxID: p.bundle.ID})
			if err != nil {
				t.Fatal(err)
			}
			p.pid = int(started.Pid)
			id, spec := s.spec(t, "sleep", "1000")
			b := s.bundle(t, id, config(t, spec))
			mustStart(t, p.shim, b)
			shim := p.shimPid()
			if err := unix.Kill(shim, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := Reap(shim); err != nil {
				t.Fatal(err)
			}
			if _, err := s.deleteOrphaned(t.Context(), b); err != nil {
				t.Errorf("delete verb of the container: %v", err)
			}
			p.shim.Close()
			if _, err := s.deleteOrphaned(t.Context(), p.bundle); err != nil {
				t.Errorf("delete verb of the sandbox: %v", err)
			}
			if err := os.Remove(filepath.Join(p.bundle.Path, "pod", "shm")); err != nil {
				t.Errorf("the pod's /dev/shm: %v", err)
			}
		})
	}
}

// TestSandboxOptions: the options come with start alone.
func TestSandboxOptions(t *testing.T) {
	s := newSetup(t)
	root := filepath.Join(filepath.Dir(s.rootfs), "state")
	s.binary.Options = runtimeOptions(t, fmt.Sprintf("Root = %q\n", root))
	p := s.pod(t, s.podConfig(&cri.NamespaceOption{}))
	if _, err := os.Stat(filepath.Join(root, s.namespace, p.bundle.ID)); err != nil {
		t.Errorf("state of the first process: %v", err)
	}
}

// TestSandboxRefuses: what cannot be is refused with its name, and nothing is left.
func TestSandboxRefuses(t *testing.T) {
	maps := func(n int) (list []*cri.IDMapping) {
		for i := range n {
			list = append(list, &cri.IDMapping{HostId: uint32(100000 * (i + 1)), ContainerId: uint32(1000 * i), Length: 1000})
		}
		return list
	}
	for name, c := range map[string]struct {
		change func(*sandbox)
		parts  []string
	}{
		"sysctl of the host":   {func(p *sandbox) { p.config.Linux.Sysctls["vm.swappiness"] = "1" }, []string{"vm.swappiness", "host"}},
		"sysctl that is none":  {func(p *sandbox) { p.config.Linux.Sysctls["net.none"] = "1" }, []string{"net.none", "no such file"}},
		"sysctl's value":       {func(p *sandbox) { p.config.Linux.Sysctls["net.ipv4.ip_forward"] = "x" }, []string{"net.ipv4.ip_forward", "invalid argument"}},
		"mode":                 {func(p *sandbox) { p.config.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_TARGET }, []string{"namespace_options.pid"}},
		"network of the host":  {func(p *sandbox) { p.config.Linux.SecurityContext.NamespaceOptions.Network = cri.NamespaceMode_NODE }, []string{"network", "netns"}},
		"no network":           {func(p *sandbox) { p.network += "x" }, []string{"netnsx", "no such file"}},
		"no network namespace": {func(p *sandbox) { p.network = "/proc/self/ns/ipc" }, []string{"/proc/self/ns/ipc", "network"}},
		"two mappings": {func(p *sandbox) {
			p.config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: maps(2), Gids: maps(2)}
		}, []string{"userns_options", "one mapping"}},
		"network of the host's user namespace": {func(p *sandbox) {
			p.config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: maps(1), Gids: maps(1)}
		}, []string{"netns", "user namespace"}},
		"cgroup": {func(p *sandbox) { p.config.Linux.CgroupParent = "relative" }, []string{"cgroup_parent", "relative"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t)
			p := s.newSandbox(t, s.podConfig(ownPids()))
			c.change(p)
			refused(t, p.create(), nil, c.parts...)
			p.remove() // as containerd does
		})
	}
}
