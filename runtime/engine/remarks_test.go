package engine_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/engine"
	"github.com/gosuda/gosudacon/runtime/internal/testkit"
)

// TestRemarks: builders show what a runtime logs to people whose profile, podman's own, names a system call twice; only explain does.
func TestRemarks(t *testing.T) {
	spec := testkit.Spec("/bin/true")
	spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"setns"}, Action: specs.ActErrno},
		{Names: []string{"setns"}, Action: specs.ActKill},
	}}
	spec.Process.Capabilities.Ambient = []string{"CAP_SYS_TIME"} // which the other sets do not have
	spec.Linux.CgroupsPath = "/" + newID()
	bundle := testkit.Bundle(t, spec)
	testkit.WriteConfig(t, bundle, spec)

	var log strings.Builder
	e, _ := newLoggedEngine(t, &log)
	request := engine.CreateRequest{ID: newID(), Bundle: bundle}
	c, err := e.Create(timeout(t), request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Delete(timeout(t)); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); strings.Contains(got, "seccomp") || !strings.Contains(got, "process.capabilities.ambient") {
		t.Errorf("logged: %s", got)
	}
	x, err := e.Explain(request)
	if err != nil {
		t.Fatal(err)
	}
	const note = "linux.seccomp.syscalls[1]: no effect on setns: linux.seccomp.syscalls[0] comes first"
	if !slices.Contains(x.Notes, note) || !strings.Contains(x.String(), "\nnote: "+note+"\n") {
		t.Errorf("explained: %s", x)
	}
}

// TestExplainCgroups: cgroups that are made while the child works come before its entry, all others first of all.
func TestExplainCgroups(t *testing.T) {
	for _, own := range []bool{false, true} {
		spec := testkit.Spec("/bin/true")
		spec.Linux.CgroupsPath = "/" + newID()
		if own {
			spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
		}
		e, _ := newEngine(t)
		x, err := e.Explain(engine.CreateRequest{ID: newID(), Bundle: testkit.Bundle(t, spec)})
		if err != nil {
			t.Fatal(err)
		}
		find := func(what string) int {
			return slices.IndexFunc(x.Steps, func(s engine.PlanStep) bool { return strings.HasPrefix(s.What, what) })
		}
		made, entered, cloned, root := find("make the cgroup "), find("enter the cgroup"), find("clone"), find("attach the root")
		if later := !own && !onV2(); made < 0 || later != (cloned < made) || later != (root < made) || entered < made || later != (x.Steps[entered].Place == "gate") {
			t.Errorf("cgroup namespace %t: made %d, entered %d:\n%s", own, made, entered, x)
		}
	}
}
