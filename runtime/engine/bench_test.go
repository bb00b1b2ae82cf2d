package engine_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// BenchmarkLife runs `true` from create to delete in one process, and tells the phases apart.
func BenchmarkLife(b *testing.B) {
	e, err := engine.New(engine.Options{Root: filepath.Join(b.TempDir(), "state")})
	if err != nil {
		b.Fatal(err)
	}
	spec := testkit.Spec("/bin/true")
	dir := testkit.Bundle(b, spec)
	ctx := b.Context()
	var phase [4]time.Duration
	for b.Loop() {
		id := newID()
		spec.Linux.CgroupsPath = "/" + id
		testkit.WriteConfig(b, dir, spec)
		at := time.Now()
		lap := func(i int) {
			now := time.Now()
			phase[i] += now.Sub(at)
			at = now
		}
		c, err := e.Create(ctx, engine.CreateRequest{ID: id, Bundle: dir})
		if err != nil {
			b.Fatal(err)
		}
		lap(0)
		if err := c.Start(ctx); err != nil {
			b.Fatal(err)
		}
		lap(1)
		if _, err := c.Wait(ctx, ""); err != nil {
			b.Fatal(err)
		}
		lap(2)
		if _, err := c.Delete(ctx); err != nil {
			b.Fatal(err)
		}
		lap(3)
	}
	for i, name := range []string{"create", "start", "wait", "delete"} {
		b.ReportMetric(float64(phase[i].Microseconds())/float64(b.N), "µs-"+name)
	}
}
