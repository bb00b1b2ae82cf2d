package engine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// TestHomeOfMountedPasswd: HOME comes from the passwd file that the process sees, not from the one below it.
func TestHomeOfMountedPasswd(t *testing.T) {
	testkit.NoLeaks(t)
	for dir, want := range map[string]string{"/srv/home": "/srv/home", "/" + strings.Repeat("x", 4000): "/" + strings.Repeat("x", 4000), "/" + strings.Repeat("x", 4200): "/"} {
		passwd := filepath.Join(t.TempDir(), "passwd")
		if err := os.WriteFile(passwd, []byte("root:x:0:0:root:/elsewhere:/bin/sh\nuser:x:1000:1000::"+dir+":/bin/sh\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		spec := testkit.Spec("sh", "-c", "echo $HOME; echo $A")
		spec.Process.User.UID = 1000
		spec.Process.Env = append(spec.Process.Env, "A=b")
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/etc/passwd", Source: passwd, Type: "bind", Options: []string{"bind", "ro"}})
		if out, _ := run(t, spec); out != want+"\nb\n" {
			t.Errorf("home and A: %.100q, want %.100q", out, want+"\nb\n")
		}
	}
}
