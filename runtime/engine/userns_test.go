package engine_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// userNamespaceOf makes a user namespace that the user owns, with the container's mappings, and returns its path. containerd makes those of pods so.
func userNamespaceOf(t *testing.T, user uint32, s *specs.Spec) string {
	t.Helper()
	holder := exec.Command("unshare", "--user", "sh", "-c", "echo made; read end")
	holder.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		holder.Wait() // reads nothing and ends
	})
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("make a user namespace: %v", err)
	}
	proc := "/proc/" + itoa(holder.Process.Pid)
	for file, maps := range map[string][]specs.LinuxIDMapping{"uid_map": s.Linux.UIDMappings, "gid_map": s.Linux.GIDMappings} {
		var text strings.Builder
		for _, m := range maps {
			fmt.Fprintln(&text, m.ContainerID, m.HostID, m.Size)
		}
		if err := os.WriteFile(proc+"/"+file, []byte(text.String()), 0); err != nil {
			t.Fatal(err)
		}
	}
	return proc + "/ns/user"
}

// TestUserNamespaceOfAnotherUser joins a user namespace over which root has only the capabilities that it has everywhere. RLIMIT_NOFILE, which Go
// raises, is given back also when CAP_SYS_RESOURCE is none of them.
func TestUserNamespaceOfAnotherUser(t *testing.T) {
	testkit.NoLeaks(t)
	spec := testkit.Spec("sh", "-c", "cat /proc/self/uid_map; ulimit -n")
	spec.Process.Rlimits = nil
	addUserNamespace(spec)
	m := spec.Linux.UIDMappings[0]
	for i, n := range spec.Linux.Namespaces {
		if n.Type == specs.UserNamespace {
			spec.Linux.Namespaces[i].Path = userNamespaceOf(t, m.HostID, spec)
		}
	}
	limit, err := exec.Command("sh", "-c", "ulimit -n").Output() // package syscall gives it back to a child of ours
	if err != nil {
		t.Fatal(err)
	}
	out, exit := run(t, spec)
	got := strings.Join(strings.Fields(out), " ")
	if want := fmt.Sprintf("%d %d %d %s", m.ContainerID, m.HostID, m.Size, strings.TrimSpace(string(limit))); got != want {
		t.Errorf("got %q, %+v, want %q", got, exit, want)
	}
}
