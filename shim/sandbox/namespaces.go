package sandbox

import (
	"maps"

	"github.com/gosuda/gosudacon/runtime/engine"
	api "github.com/gosuda/gosudacon/shim/internal/sandboxapi"
)

func (p *pod) namespaces() *api.NamespaceOption { return &p.config.Linux.Security.Namespaces }

// hostNetwork tells whether the pod is in the host's network. Its host name is the host's then, too.
func (p *pod) hostNetwork() bool { return p.namespaces().Network == api.ModeNode }

// userNamespace returns the ids of the pod's user namespace, nil when it has none.
func (p *pod) userNamespace() *api.UserNamespace {
	if u := p.namespaces().User; u != nil && u.Mode == api.ModePod {
		return u
	}
	return nil
}

// checkNamespaces refuses what cannot be made.
func (p *pod) checkNamespaces() error {
	const at = "linux.security_context.namespace_options"
	o := p.namespaces()
	for name, mode := range map[string]api.NamespaceMode{"network": o.Network, "pid": o.Pid, "ipc": o.IPC} {
		if mode > api.ModeNode {
			return refuse(engine.InvalidArgument, "%s.%s: %d is not a mode of a pod", at, name, mode)
		}
	}
	if p.hostNetwork() != (p.netns == "") {
		return refuse(engine.InvalidArgument, "%s.network is %d, and netns_path is %q", at, o.Network, p.netns)
	}
	if o.User == nil {
		return nil
	}
	for name, list := range map[string]api.IDMappings{"uids": o.User.UIDs, "gids": o.User.GIDs} {
		switch {
		case o.User.Mode == api.ModeNode && len(list) > 0:
			return refuse(engine.InvalidArgument, "%s.userns_options.%s: the host's user namespace has no mappings", at, name)
		case o.User.Mode == api.ModePod && (len(list) != 1 || list[0].Length == 0):
			return refuse(engine.InvalidArgument, "%s.userns_options.%s: want one mapping that is not empty", at, name)
		case o.User.Mode != api.ModeNode && o.User.Mode != api.ModePod:
			return refuse(engine.InvalidArgument, "%s.userns_options.mode: %d is not a mode of a pod", at, o.User.Mode)
		}
	}
	return nil
}

// holdRequest says which namespaces the pod has, and how they are.
func (p *pod) holdRequest() engine.HoldRequest {
	r := engine.HoldRequest{
		Network:  p.netns,
		IPC:      p.namespaces().IPC != api.ModeNode,
		UTS:      !p.hostNetwork(),
		Hostname: p.config.Hostname,
		Sysctls:  p.sysctls(),
	}
	if u := p.userNamespace(); u != nil {
		r.User = &engine.IDMaps{UID: idMaps(u.UIDs), GID: idMaps(u.GIDs)}
	}
	return r
}

func idMaps(list api.IDMappings) (maps []engine.IDMap) {
	for _, m := range list {
		maps = append(maps, engine.IDMap{Container: m.ContainerID, Host: m.HostID, Size: m.Length})
	}
	return maps
}

// What containerd sets in pods whose config says nothing else, unless its enable_unprivileged_ports and enable_unprivileged_icmp are
// switched off, of which a shim is not told.
const (
	portStart, anyPort = "net.ipv4.ip_unprivileged_port_start", "0"
	pingGroups, anyone = "net.ipv4.ping_group_range", "0 2147483647"
)

// sysctls are the pod's, with containerd's defaults. The groups of a user namespace do not reach so far.
func (p *pod) sysctls() map[string]string {
	if p.hostNetwork() {
		return p.config.Linux.Sysctls
	}
	all := map[string]string{portStart: anyPort}
	if p.userNamespace() == nil && !p.engine.InUserNS() {
		all[pingGroups] = anyone
	}
	maps.Copy(all, p.config.Linux.Sysctls)
	return all
}

// rootIDs are who on this host is root in the pod.
func (p *pod) rootIDs() (uid, gid int) {
	if u := p.userNamespace(); u != nil {
		return rootOf(u.UIDs), rootOf(u.GIDs)
	}
	return 0, 0
}

func rootOf(list api.IDMappings) int {
	for _, m := range list {
		if m.ContainerID == 0 {
			return int(m.HostID)
		}
	}
	return 0
}
