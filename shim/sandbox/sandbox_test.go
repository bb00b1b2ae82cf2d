package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
	api "github.com/gosuda/gosudacon/shim/internal/sandboxapi"
)

// TestPause executes the program: it sleeps, and leaves its children to the kernel.
func TestPause(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pause")
	if err := os.WriteFile(file, pause(), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() // killed
	defer cmd.Process.Kill()
	ignored := regexp.MustCompile(`SigIgn:\t([0-9a-f]+)`)
	sleeps := regexp.MustCompile(`State:\tS`)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		var mask uint64
		if m := ignored.FindSubmatch(text); m != nil {
			mask, _ = strconv.ParseUint(string(m[1]), 16, 64)
		}
		if mask&(1<<(unix.SIGCHLD-1)) != 0 && sleeps.Match(text) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("it does not ignore SIGCHLD and sleep:\n%s", text)
		}
	}
}

func TestEditMounts(t *testing.T) {
	dir := t.TempDir()
	p := &pod{files: filesIn(dir)}
	if err := os.Mkdir(p.files.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hosts", "hostname"} { // and no resolv.conf, which the host may not have
		if err := os.WriteFile(p.files.path(name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	shm := specs.Mount{Type: "tmpfs", Source: "shm", Destination: "/dev/shm"}
	volume := func(at string) specs.Mount { return specs.Mount{Type: "bind", Source: "/volume", Destination: at} }
	for name, c := range map[string]struct {
		ipc      api.NamespaceMode
		readonly bool
		mounts   []specs.Mount
		want     []string
	}{
		"containerd's defaults": {0, false, []specs.Mount{shm}, []string{"pod/shm rw on /dev/shm", "pod/hostname rw on /etc/hostname", "pod/hosts rw on /etc/hosts"}},
		"read-only":             {0, true, []specs.Mount{shm}, []string{"pod/shm rw on /dev/shm", "pod/hostname ro on /etc/hostname", "pod/hosts ro on /etc/hosts"}},
		"no /dev/shm":           {0, false, nil, []string{"pod/hostname rw on /etc/hostname", "pod/hosts rw on /etc/hosts", "pod/shm rw on /dev/shm"}},
		"own files": {0, false, []specs.Mount{volume("/etc/hosts/"), volume("/dev/shm")},
			[]string{"/volume on /etc/hosts/", "/volume on /dev/shm", "pod/hostname rw on /etc/hostname"}},
		"below it": {0, false, []specs.Mount{volume("/dev/shm/x")},
			[]string{"pod/shm rw on /dev/shm", "/volume on /dev/shm/x", "pod/hostname rw on /etc/hostname", "pod/hosts rw on /etc/hosts"}},
		"host's ipc": {api.ModeNode, false, []specs.Mount{volume("/dev/shm")},
			[]string{"/volume on /dev/shm", "pod/hostname rw on /etc/hostname", "pod/hosts rw on /etc/hosts"}},
	} {
		t.Run(name, func(t *testing.T) {
			p.namespaces().IPC = c.ipc
			spec := &specs.Spec{Root: &specs.Root{Readonly: c.readonly}, Mounts: slices.Clone(c.mounts)}
			p.editMounts(spec)
			var got []string
			for _, m := range spec.Mounts {
				source, _ := filepath.Rel(dir, m.Source)
				if m.Source == "/volume" {
					source = m.Source
				}
				if len(m.Options) > 0 {
					source += " " + m.Options[len(m.Options)-1]
				}
				got = append(got, source+" on "+m.Destination)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestEditRefusesPodThatIsNotReady(t *testing.T) {
	p := &pod{id: "p"}
	e, ok := p.edit(&specs.Spec{}).(*engine.Error)
	if !ok || e.Kind != engine.FailedPrecondition {
		t.Errorf("got %v", e)
	}
}

func TestCgroupsPath(t *testing.T) {
	for parent, want := range map[string]string{
		"": "", "/kubepods/pod1": "/kubepods/pod1/id", "/kubepods.slice/kubepods-pod1.slice": "kubepods-pod1.slice:cri-containerd:id",
	} {
		if got := cgroupsPath(parent, "id"); got != want {
			t.Errorf("%q: got %q, want %q", parent, got, want)
		}
	}
}
