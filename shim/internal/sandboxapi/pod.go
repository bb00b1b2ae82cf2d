package sandboxapi

import "github.com/gosuda/gosudacon/internal/wire"

// PodSandboxConfigName is the type of what CRI sends as the options of a sandbox.
const PodSandboxConfigName = "runtime.v1.PodSandboxConfig"

// PodSandboxConfig is runtime.v1.PodSandboxConfig of k8s.io/cri-api, as far as a shim has to do with it: port mappings are the
// network's, and the resources of a pod are the kubelet's. The names in JSON are those of cri-api.
type PodSandboxConfig struct {
	Metadata     Metadata    `json:"metadata"`
	Hostname     string      `json:"hostname,omitempty"`
	LogDirectory string      `json:"log_directory,omitempty"`
	DNS          *DNSConfig  `json:"dns_config,omitempty"`
	Labels       Map         `json:"labels,omitempty"`
	Annotations  Map         `json:"annotations,omitempty"`
	Linux        LinuxConfig `json:"linux"`
}

func (m *PodSandboxConfig) Decode(b []byte) error {
	var ports skip
	return wire.Decode(b, &m.Metadata, &m.Hostname, &m.LogDirectory, optional[DNSConfig, *DNSConfig]{&m.DNS}, &ports, &m.Labels, &m.Annotations, &m.Linux)
}

// Metadata is the name of a pod.
type Metadata struct {
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Attempt   uint32 `json:"attempt,omitempty"`
}

func (m *Metadata) Decode(b []byte) error {
	return wire.Decode(b, &m.Name, &m.UID, &m.Namespace, &m.Attempt)
}

// DNSConfig is what becomes /etc/resolv.conf.
type DNSConfig struct {
	Servers  []string `json:"servers,omitempty"`
	Searches []string `json:"searches,omitempty"`
	Options  []string `json:"options,omitempty"`
}

func (m *DNSConfig) Decode(b []byte) error {
	return wire.Decode(b, &m.Servers, &m.Searches, &m.Options)
}

// LinuxConfig is runtime.v1.LinuxPodSandboxConfig.
type LinuxConfig struct {
	CgroupParent string          `json:"cgroup_parent,omitempty"`
	Security     SecurityContext `json:"security_context"`
	Sysctls      Map             `json:"sysctls,omitempty"`
}

func (m *LinuxConfig) Decode(b []byte) error {
	return wire.Decode(b, &m.CgroupParent, &m.Security, &m.Sysctls)
}

// SecurityContext is runtime.v1.LinuxSandboxSecurityContext. The rest of it is about a pause container.
type SecurityContext struct {
	Namespaces NamespaceOption `json:"namespace_options"`
}

func (m *SecurityContext) Decode(b []byte) error { return wire.Decode(b, &m.Namespaces) }

// NamespaceMode says whose namespace the containers of a pod are in.
type NamespaceMode uint32

// The modes.
const (
	ModePod NamespaceMode = iota
	ModeContainer
	ModeNode
)

// NamespaceOption is runtime.v1.NamespaceOption. A container's target is the container's.
type NamespaceOption struct {
	Network NamespaceMode  `json:"network,omitempty"`
	Pid     NamespaceMode  `json:"pid,omitempty"`
	IPC     NamespaceMode  `json:"ipc,omitempty"`
	User    *UserNamespace `json:"userns_options,omitempty"`
}

func (m *NamespaceOption) Decode(b []byte) error {
	var target skip
	return wire.Decode(b, (*uint32)(&m.Network), (*uint32)(&m.Pid), (*uint32)(&m.IPC), &target, optional[UserNamespace, *UserNamespace]{&m.User})
}

// UserNamespace is runtime.v1.UserNamespace.
type UserNamespace struct {
	Mode NamespaceMode `json:"mode,omitempty"`
	UIDs IDMappings    `json:"uids,omitempty"`
	GIDs IDMappings    `json:"gids,omitempty"`
}

func (m *UserNamespace) Decode(b []byte) error {
	return wire.Decode(b, (*uint32)(&m.Mode), &m.UIDs, &m.GIDs)
}

// IDMapping is runtime.v1.IDMapping.
type IDMapping struct {
	HostID      uint32 `json:"host_id,omitempty"`
	ContainerID uint32 `json:"container_id,omitempty"`
	Length      uint32 `json:"length,omitempty"`
}

// IDMappings is a repeated IDMapping.
type IDMappings []IDMapping

// Decode appends one.
func (m *IDMappings) Decode(b []byte) error {
	var one IDMapping
	err := wire.Decode(b, &one.HostID, &one.ContainerID, &one.Length)
	*m = append(*m, one)
	return err
}

// Map is a map<string, string>.
type Map map[string]string

// Decode adds one entry.
func (m *Map) Decode(b []byte) error {
	var key, value string
	if err := wire.Decode(b, &key, &value); err != nil {
		return err
	}
	if *m == nil {
		*m = Map{}
	}
	(*m)[key] = value
	return nil
}

// skip is a field that nobody reads.
type skip struct{}

func (skip) Decode([]byte) error { return nil }

// optional is a message of which it matters whether it is there.
type optional[T any, P interface {
	*T
	wire.Decoder
}] struct{ at *P }

func (o optional[T, P]) Decode(b []byte) error {
	if *o.at == nil {
		*o.at = P(new(T))
	}
	return (*o.at).Decode(b)
}
