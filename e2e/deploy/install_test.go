package deploy

import (
	"os"
	"strings"
	"testing"
)

// TestInstall installs, runs a pod, installs again, and removes.
func TestInstall(t *testing.T) {
	m := newMachine(t)
	before := m.config()
	m.must("install")
	if m.Restarts() != 1 {
		t.Errorf("%d restarts, want one", m.Restarts())
	}
	if err := m.pod(func() error {
		out, err := m.install("remove")
		if err == nil || !strings.Contains(out, "still in use") {
			t.Errorf("remove under a pod: %v, %s", err, out)
		}
		// An upgrade under a pod: the shim keeps its program, containerd is not restarted.
		if err := os.WriteFile(m.program(), nil, 0o755); err == nil {
			t.Error("the program of a running shim can be written to")
		}
		m.must("install")
		return nil
	}); err != nil {
		t.Errorf("a pod: %v", err)
	}
	if m.Restarts() != 1 {
		t.Errorf("%d restarts, want one: nothing changed", m.Restarts())
	}
	m.must("remove")
	m.clean(before)
	m.must("remove")
}

// TestInstallBroken: what goes wrong leaves the configuration as it was, and says why.
func TestInstallBroken(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		breaks     func(m *machine) []string // and returns settings
	}{
		{"no shim", "set SHIM", func(m *machine) []string { return []string{"SHIM=" + m.file("none")} }},
		{"containerd 1", "needs containerd 2", func(m *machine) []string {
			m.write("containerd", "#!/bin/sh\necho containerd github.com/containerd/containerd v1.7.24\n")
			return []string{"CONTAINERD=" + m.file("containerd")}
		}},
		{"imports of others", "add that", func(m *machine) []string {
			m.writeConfig("imports = ['/elsewhere/*.toml']\n" + m.config())
			return nil
		}},
		{"no restart", "does not come back", func(m *machine) []string {
			m.write("refuse", "")
			return nil
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMachine(t)
			settings := tc.breaks(m)
			before := m.config()
			out, err := m.install("install", settings...)
			if err == nil || !strings.Contains(out, tc.want) {
				t.Errorf("%v, %s, want %q", err, out, tc.want)
			}
			os.RemoveAll(m.file("usr")) // the program may stay: nothing uses it
			m.clean(before)
		})
	}
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(m.file(name), []byte(text), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) writeConfig(text string) {
	m.t.Helper()
	if err := os.WriteFile(m.d.Dir+"/config.toml", []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}
