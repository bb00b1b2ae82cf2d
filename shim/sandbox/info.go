package sandbox

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/shim/bootstrap"
	api "github.com/gosuda/gosudacon/shim/internal/sandboxapi"
)

// verbose is what CRI takes and gives to those who ask for more (crictl inspectp): SandboxInfo of containerd's
// internal/cri/server/podsandbox/types, without what only a pause container has.
type verbose struct {
	Pid         int                   `json:"pid"`
	Status      string                `json:"processStatus"`
	NetNSClosed bool                  `json:"netNamespaceClosed"`
	RuntimeType string                `json:"runtimeType"`
	Config      *api.PodSandboxConfig `json:"config"`
	RuntimeSpec *specs.Spec           `json:"runtimeSpec"`
}

// info is the text that SandboxStatus answers to those who ask for more. The spec in it is nobody's config: people look there for
// the pod's namespaces.
func (p *pod) info(st state) (string, error) {
	v := verbose{Pid: st.pid, Status: "deleted", RuntimeType: bootstrap.RuntimeName, Config: &p.config, RuntimeSpec: p.describe(st)}
	if st.ready {
		v.Status = "running"
	}
	text, err := json.Marshal(v)
	return string(text), err
}

// describe is a spec with what containers of the pod share.
func (p *pod) describe(st state) *specs.Spec {
	s := &specs.Spec{
		Version: specs.Version, Hostname: p.config.Hostname, Annotations: p.config.Annotations,
		Linux: &specs.Linux{Sysctl: p.sysctls(), CgroupsPath: p.config.Linux.CgroupParent},
	}
	r := p.holdRequest()
	add := func(has bool, t specs.LinuxNamespaceType, path string) {
		if has {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
		}
	}
	of := func(t specs.LinuxNamespaceType) string {
		if !st.ready {
			return ""
		}
		return fmt.Sprintf("/proc/%d/ns/%s", st.pid, procName(t))
	}
	add(r.IPC, specs.IPCNamespace, of(specs.IPCNamespace))
	add(r.UTS, specs.UTSNamespace, of(specs.UTSNamespace))
	add(st.ready && st.pid != p.tid, specs.PIDNamespace, of(specs.PIDNamespace))
	add(r.Network != "", specs.NetworkNamespace, r.Network)
	if u := p.userNamespace(); u != nil {
		add(true, specs.UserNamespace, "")
		s.Linux.UIDMappings, s.Linux.GIDMappings = specMaps(u.UIDs), specMaps(u.GIDs)
	}
	return s
}
