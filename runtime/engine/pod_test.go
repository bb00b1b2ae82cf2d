package engine_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/cgroup"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// TestFigures: somebody asks for the figures of a cgroup before it is made, and goes on asking.
func TestFigures(t *testing.T) {
	e, _ := newEngine(t)
	testkit.NoLeaks(t)
	f, err := e.Figures("/gosuda-figures")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Stats(); kindOf(err) != engine.NotFound {
		t.Errorf("without a cgroup: %v", err)
	}
	host, err := cgroup.Probe()
	if err != nil {
		t.Fatal(err)
	}
	mounts := []string{host.Unified}
	for _, h := range host.Hierarchies {
		mounts = append(mounts, h.Mount)
	}
	for _, mount := range mounts {
		if mount == "" {
			continue
		}
		dir := filepath.Join(mount, "gosuda-figures")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(dir)
	}
	if s, err := f.Stats(); err != nil || s.V1 == nil && s.V2 == nil {
		t.Errorf("with one: %+v, %v", s, err)
	}
}

func TestFiguresRefuses(t *testing.T) {
	e, _ := newEngine(t)
	for _, path := range []string{"", "relative", "a.slice:b:c", "/..", "/"} {
		if _, err := e.Figures(path); kindOf(err) != engine.InvalidArgument {
			t.Errorf("%q: %v", path, err)
		}
	}
}
