package engine_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// veth adds a device to the host, up and with addresses; it is gone after the test.
func veth(t *testing.T, n int) string {
	t.Helper()
	name := fmt.Sprintf("gs%d-%d", os.Getpid()%100000, n)
	if out, err := exec.Command("/bin/busybox", "ip", "link", "add", name, "type", "veth").CombinedOutput(); err != nil {
		t.Skipf("the kernel has no veth devices (CONFIG_VETH): %s", out)
	}
	t.Cleanup(func() { exec.Command("/bin/busybox", "ip", "link", "del", name).Run() })
	commands := [][]string{{"link", "set", name, "mtu", "1400", "up"}, {"addr", "add", fmt.Sprintf("192.0.2.%d/32", n), "dev", name}}
	if ipv6() {
		commands = append(commands, []string{"addr", "add", fmt.Sprintf("2001:db8::%d/128", n), "dev", name})
	}
	for _, args := range commands {
		if out, err := exec.Command("/bin/busybox", append([]string{"ip"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %q: %v %s", args, err, out)
		}
	}
	return name
}

// ipv6 tells whether the kernel has IPv6.
func ipv6() bool { return exists("/proc/net/if_inet6") }

// hostDevice returns flags and addresses of a device of the host.
func hostDevice(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("/bin/busybox", "ip", "addr", "show", "dev", name).CombinedOutput()
	if err != nil {
		return "none"
	}
	return string(out)
}

// TestNetDevices moves devices into new and joined network namespaces, also those of a user namespace, with their addresses.
func TestNetDevices(t *testing.T) {
	testkit.NoLeaks(t)
	for _, mode := range []string{"new", "in a user namespace", "joined"} {
		t.Run(mode, func(t *testing.T) {
			e, _ := newEngine(t)
			one, two, three := veth(t, 1), veth(t, 2), veth(t, 3)
			spec := testkit.Spec("sleep", "1000")
			spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{one: {}, two: {Name: "eth0"}, three: {Name: "net%d"}}
			switch mode {
			case "in a user namespace":
				addUserNamespace(spec)
			case "joined":
				pod := create(t, e, testkit.Spec("sleep", "1000"), nil)
				for i, n := range spec.Linux.Namespaces {
					if n.Type == specs.NetworkNamespace {
						spec.Linux.Namespaces[i].Path = "/proc/" + itoa(pod.Pid()) + "/ns/net"
					}
				}
			}
			c := create(t, e, spec, nil)
			for i, name := range []string{one, "eth0", "net0"} {
				out, _ := startExec(t, c, name, "ip", "addr", "show", "dev", name)
				wanted := []string{",UP", "mtu 1400", fmt.Sprintf("inet 192.0.2.%d/32", i+1)}
				if ipv6() {
					wanted = append(wanted, fmt.Sprintf("inet6 2001:db8::%d/128", i+1))
				}
				for _, want := range wanted {
					if !strings.Contains(out, want) {
						t.Errorf("%s lacks %q:\n%s", name, want, out)
					}
				}
			}
			for _, name := range []string{one, two, three} {
				if got := hostDevice(t, name); got != "none" {
					t.Errorf("%s is on the host still: %s", name, got)
				}
			}
		})
	}
}

// TestNetDevicesRefused: a create that fails leaves the host's devices as they were, also those that it had moved.
func TestNetDevicesRefused(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	one := veth(t, 1)
	before := hostDevice(t, one)
	spec := testkit.Spec("true")
	dir := testkit.Bundle(t, spec)
	refused := func(change func(*specs.Spec)) error {
		spec := testkit.Spec("true")
		spec.Linux.CgroupsPath = "/" + newID()
		spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{one: {Name: "eth0"}}
		change(spec)
		testkit.WriteConfig(t, dir, spec)
		c, err := e.Create(timeout(t), engine.CreateRequest{ID: newID(), Bundle: dir})
		if err == nil {
			c.Delete(timeout(t))
			t.Error("create did not fail")
		}
		// What the device is but for its index, which is new when it was away.
		if a, b := withoutIndex(hostDevice(t, one)), withoutIndex(before); a != b {
			t.Errorf("the device is\n%s\nnot\n%s", a, b)
		}
		return err
	}
	err := refused(func(s *specs.Spec) { s.Linux.NetDevices["none0"] = specs.LinuxNetDevice{} })
	if want := "linux.netDevices.none0: move the network device none0 into the network namespace, as none0: find the device: "; err == nil || !strings.HasPrefix(err.Error(), want) || !errors.Is(err, unix.ENODEV) {
		t.Errorf("a device that is not there: %v", err)
	}
	err = refused(func(s *specs.Spec) { s.Linux.NetDevices[one] = specs.LinuxNetDevice{Name: "lo"} })
	if want := "the container's network has a device lo"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a name that is taken: %v", err)
	}
	err = refused(func(s *specs.Spec) { s.Process.Args = []string{"/none"} })
	if want := "stat /none: no such file or directory"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a later step: %v", err)
	}
	err = refused(func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: filepath.Join("/bin", "false")}}}
	})
	if want := "hooks.createRuntime[0] /bin/false"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a hook: %v", err)
	}
}

// withoutIndex drops what the kernel counts or finds out: the device's number, its carrier, its link-local address.
func withoutIndex(text string) string {
	_, text, _ = strings.Cut(text, ": ")
	var out []string
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "fe80:") && !strings.Contains(line, "valid_lft") {
			out = append(out, line)
		}
	}
	return strings.ReplaceAll(strings.Join(out, ""), "NO-CARRIER,", "")
}
