package engine_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// nsFiles are the files below /proc/PID/ns.
var nsFiles = map[specs.LinuxNamespaceType]string{
	specs.UserNamespace: "user", specs.PIDNamespace: "pid", specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc",
	specs.UTSNamespace: "uts", specs.MountNamespace: "mnt", specs.CgroupNamespace: "cgroup", specs.TimeNamespace: "time",
}

func nsOf(t *testing.T, pid int, file string) string {
	t.Helper()
	link, err := os.Readlink("/proc/" + itoa(pid) + "/ns/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// TestNamespaceCombinations makes containers with each namespace absent, new or joined, beside a user namespace that is
// absent, new or joined, and looks which ones init and an exec are in.
func TestNamespaceCombinations(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	types := []specs.LinuxNamespaceType{specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace,
		specs.CgroupNamespace}
	files := maps.Clone(nsFiles)
	if exists("/proc/self/ns/time") {
		types = append(types, specs.TimeNamespace)
	} else {
		delete(files, specs.TimeNamespace)
	}
	every := func(s *specs.Spec, user bool) {
		s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}}
		for _, typ := range types {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: typ})
		}
		if user {
			addUserNamespace(s)
		}
	}
	pods := map[bool]int{}
	for _, user := range []bool{false, true} {
		pod := testkit.Spec("sleep", "1000")
		every(pod, user)
		c := create(t, e, pod, nil)
		if err := c.Start(timeout(t)); err != nil {
			t.Fatal(err)
		}
		pods[user] = c.Pid()
	}
	const absent, fresh, joined = "absent", "new", "joined"
	for _, user := range []string{absent, fresh, joined} {
		for _, one := range types {
			for _, mode := range []string{absent, fresh, joined} {
				t.Run(fmt.Sprintf("user %s, %s %s", user, one, mode), func(t *testing.T) {
					spec := testkit.Spec("sleep", "1000")
					every(spec, user != absent)
					pod := pods[user == joined]
					want := map[string]string{}
					spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == one && mode == absent })
					for i, n := range spec.Linux.Namespaces {
						if n.Type == one && mode == joined || n.Type == specs.UserNamespace && user == joined {
							spec.Linux.Namespaces[i].Path = "/proc/" + itoa(pod) + "/ns/" + nsFiles[n.Type]
							want[nsFiles[n.Type]] = nsOf(t, pod, nsFiles[n.Type])
						}
					}
					if user != absent && mode != fresh {
						// The kernel mounts what shows these only for who owns them.
						spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool {
							return one == specs.PIDNamespace && m.Type == "proc" || one == specs.NetworkNamespace && m.Type == "sysfs" ||
								one == specs.IPCNamespace && m.Type == "mqueue"
						})
					}
					c := create(t, e, spec, nil)
					for typ, file := range files {
						got, host := nsOf(t, c.Pid(), file), nsOf(t, os.Getpid(), file)
						isPresent := slices.ContainsFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == typ })
						switch {
						case want[file] != "" && got != want[file]:
							t.Errorf("%s: %s, want the joined %s", file, got, want[file])
						case !isPresent && got != host:
							t.Errorf("%s: %s, want the host's %s", file, got, host)
						case isPresent && got == host:
							t.Errorf("%s: is the host's", file)
						}
					}
					if one == specs.TimeNamespace && mode != absent {
						if a, b := nsOf(t, c.Pid(), "time"), nsOf(t, c.Pid(), "time_for_children"); a != b {
							t.Errorf("time %s, time_for_children %s", a, b)
						}
					}
					p := testkit.Spec("sleep", "1000").Process
					if err := c.AddExec(timeout(t), engine.ExecRequest{ID: "x", Process: p}); err != nil {
						t.Fatal(err)
					}
					pid, _, err := c.StartExec(timeout(t), "x", engine.Stdio{})
					if err != nil {
						t.Fatal(err)
					}
					for _, file := range files {
						if a, b := nsOf(t, pid, file), nsOf(t, c.Pid(), file); a != b {
							t.Errorf("exec: %s %s, init %s", file, a, b)
						}
					}
				})
			}
		}
	}
}

// TestTimeOffsets: the clocks of init and of execs are ahead, whoever owns the namespace, and a container can join it.
func TestTimeOffsets(t *testing.T) {
	testkit.NoLeaks(t)
	if !exists("/proc/self/timens_offsets") {
		refusedWith(t, "linux.namespaces[5]: this kernel has no time namespaces", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		})
		return
	}
	const day, margin = 86400, 600
	// Of a process in the namespace, uptime is boottime.
	ahead := func(text string) int {
		first, _, _ := strings.Cut(strings.TrimSpace(text), ".")
		up, err := strconv.Atoi(first)
		b, _ := os.ReadFile("/proc/uptime")
		host, _, _ := strings.Cut(string(b), ".")
		h, _ := strconv.Atoi(host)
		if err != nil {
			t.Fatalf("uptime %q: %v", text, err)
		}
		return (up - h + margin) / day
	}
	for _, user := range []bool{false, true} {
		e, _ := newEngine(t)
		spec := testkit.Spec("sleep", "1000")
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 3 * day}, "monotonic": {Secs: 5 * day, Nanosecs: 7}}
		if user {
			addUserNamespace(spec)
		}
		c := create(t, e, spec, nil)
		if err := c.Start(timeout(t)); err != nil {
			t.Fatal(err)
		}
		offsets, _ := os.ReadFile("/proc/" + itoa(c.Pid()) + "/timens_offsets")
		if got := strings.Join(strings.Fields(string(offsets)), " "); got != "monotonic 432000 7 boottime 259200 0" {
			t.Errorf("offsets %s", got)
		}
		if out, _ := startExec(t, c, "x", "cat", "/proc/uptime"); ahead(out) != 3 {
			t.Errorf("user %t: exec: uptime %s", user, out)
		}
		second := testkit.Spec("cat", "/proc/uptime")
		second.Linux.Namespaces = append(second.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace, Path: "/proc/" + itoa(c.Pid()) + "/ns/time"})
		if out, _ := run(t, second); ahead(out) != 3 {
			t.Errorf("user %t: joined: uptime %s", user, out)
		}
	}
	refusedWith(t, "linux.timeOffsets: set the clocks boottime -1099511627776 0: numerical result out of range (a clock would be before 0", func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: -1 << 40}}
	})
}

// TestJoinedMappings: a config may repeat the maps of the user namespace that it joins, as the CRI plugin's do, but not
// say others.
func TestJoinedMappings(t *testing.T) {
	testkit.NoLeaks(t)
	e, _ := newEngine(t)
	first := testkit.Spec("sleep", "1000")
	addUserNamespace(first)
	first.Linux.UIDMappings = append(first.Linux.UIDMappings, specs.LinuxIDMapping{ContainerID: 70000, HostID: 300000, Size: 5})
	a := create(t, e, first, nil)
	second := func(change func(*specs.Linux)) error {
		spec := testkit.Spec("true")
		spec.Linux.CgroupsPath = "/" + newID()
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/proc/" + itoa(a.Pid()) + "/ns/user"})
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = slices.Clone(first.Linux.UIDMappings), first.Linux.GIDMappings
		change(spec.Linux)
		c, err := e.Create(timeout(t), engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)})
		if err == nil {
			_, err = c.Delete(timeout(t))
		}
		return err
	}
	if err := second(func(l *specs.Linux) {}); err != nil {
		t.Errorf("the same: %v", err)
	}
	if err := second(func(l *specs.Linux) { slices.Reverse(l.UIDMappings) }); err != nil {
		t.Errorf("in another order: %v", err)
	}
	err := second(func(l *specs.Linux) { l.UIDMappings[0].Size-- })
	if want := "uid_map of the user namespace is 0:100000:65536,70000:300000:5"; err == nil || !strings.HasPrefix(err.Error(), "linux.uidMappings: ") || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("another size: %v", err)
	}
	err = second(func(l *specs.Linux) { l.UIDMappings = nil })
	if want := "uid_map of the user namespace is"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("half of the maps: %v", err)
	}
}

// TestSysctlOfJoinedNamespace: a network namespace that turns out to be the host's own is not changed.
func TestSysctlOfJoinedNamespace(t *testing.T) {
	testkit.NoLeaks(t)
	refusedWith(t, "is the runtime's own network namespace", func(s *specs.Spec) {
		s.Linux.Sysctl = map[string]string{"net.ipv4.ip_default_ttl": "77"}
		for i, n := range s.Linux.Namespaces {
			if n.Type == specs.NetworkNamespace {
				s.Linux.Namespaces[i].Path = "/proc/" + itoa(os.Getpid()) + "/ns/net"
			}
		}
	})
	if b, _ := os.ReadFile("/proc/sys/net/ipv4/ip_default_ttl"); strings.TrimSpace(string(b)) == "77" {
		t.Error("the host was changed")
	}
}

// TestSysctlsOfNamespaces: each kind is what the container reads, also in a user namespace.
func TestSysctlsOfNamespaces(t *testing.T) {
	testkit.NoLeaks(t)
	for _, user := range []bool{false, true} {
		spec := testkit.Spec("cat", "/proc/sys/net/ipv4/ip_default_ttl", "/proc/sys/kernel/domainname")
		spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_default_ttl": "77", "kernel.domainname": "example.org"}
		want := "77\nexample.org\n"
		if user {
			addUserNamespace(spec)
			spec.Linux.Sysctl["user.max_net_namespaces"] = "123"
			spec.Process.Args = append(spec.Process.Args, "/proc/sys/user/max_net_namespaces")
			want += "123\n"
		} else {
			spec.Linux.Sysctl["kernel.msgmax"], spec.Linux.Sysctl["fs/mqueue/msg_max"] = "4097", "11"
			spec.Process.Args = append(spec.Process.Args, "/proc/sys/kernel/msgmax", "/proc/sys/fs/mqueue/msg_max")
			want += "4097\n11\n"
		}
		if out, _ := run(t, spec); out != want {
			t.Errorf("user %t: %q, want %q", user, out, want)
		}
	}
}
