package launch

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/seccomp"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// TestUsualSize keeps what newAsm sets aside in step with what a usual container needs.
func TestUsualSize(t *testing.T) {
	facts := &plan.Facts{CgroupV2: true, Capabilities: 1<<41 - 1, LastCap: 40,
		CompileSeccomp: func(p *specs.LinuxSeccomp) (*seccomp.Filter, error) {
			return seccomp.Compile(p, seccomp.Options{Arch: seccomp.AMD64})
		}}
	p, err := plan.Compile(testkit.Spec("true"), "/bundle", facts, plan.Options{ID: "x", RootPath: "/bundle/rootfs"})
	if err != nil {
		t.Fatal(err)
	}
	prep := &prepared{step: map[int]int{}, isDir: map[int]bool{}, empty: 100}
	prog := lower(p, prep, &Resources{}, &pipes{report: 10, control: 11, late: -1}).finish()
	if len(prog.Ops) > usualOps || len(prog.Data) > usualData {
		t.Errorf("%d instructions, %d bytes of data; set aside are %d and %d", len(prog.Ops), len(prog.Data), usualOps, usualData)
	}
	t.Logf("%d instructions, %d bytes", len(prog.Ops), len(prog.Data))
}
