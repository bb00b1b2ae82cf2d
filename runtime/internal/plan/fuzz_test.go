package plan_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/gosuda/gosudacon/runtime/internal/bundle"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// FuzzCompile: every config.json either makes a plan that can be printed, that leaves the host's mounts before it makes any and
// ends with the execution, or an error that says what is wrong.
func FuzzCompile(f *testing.F) {
	for _, tc := range cases {
		spec := testkit.Spec("sleep", "10")
		if tc.change != nil {
			tc.change(spec)
		}
		text, err := json.Marshal(spec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := bundle.Parse(data)
		if err != nil {
			return
		}
		for _, v2 := range []bool{false, true} {
			p, err := plan.Compile(spec, "/bundle", facts(v2), plan.Options{ID: "x", RootPath: "/bundle/rootfs"})
			if err != nil {
				if p != nil || strings.TrimSpace(err.Error()) == "" {
					t.Fatalf("%v with the error %q", p, err)
				}
				continue
			}
			_ = p.String()
			left := 0
			for i, s := range p.Steps {
				switch s.Do.(type) {
				case plan.LeaveHost:
					left++
				case plan.Bind, plan.MountFS, plan.BindDevice, plan.MaskPath, plan.ReadOnlyPath, plan.Pivot:
					if left == 0 {
						t.Fatalf("step %d on the host:\n%s", i+1, p)
					}
				}
			}
			_, executes := p.Steps[len(p.Steps)-1].Do.(plan.Exec)
			if executes != (spec.Process != nil) {
				t.Fatalf("the last step:\n%s", p)
			}
			if spec.Process == nil {
				continue
			}
			e, err := plan.CompileExec(spec, spec.Process, facts(v2))
			if err != nil {
				continue // some things are for a container's first process
			}
			_ = e.String()
		}
	})
}
