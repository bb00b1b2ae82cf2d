package plan_test

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func netDevices(devices map[string]specs.LinuxNetDevice) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.NetDevices = devices }
}

func TestNetDevices(t *testing.T) {
	goldenCase(t, "net-devices", true, func(s *specs.Spec) {
		netDevices(map[string]specs.LinuxNetDevice{"eth1": {}, "eth0": {Name: "container_eth0"}, "wlan0": {Name: "net%d"}, "wlan1": {Name: "net%d"}})(s)
		addNamespace(s, specs.NetworkNamespace, "/run/netns/a")
	})
}

func TestRefusedNetDevices(t *testing.T) {
	for _, tc := range []struct {
		path   string
		change func(*specs.Spec)
	}{
		{"linux.netDevices", func(s *specs.Spec) {
			netDevices(map[string]specs.LinuxNetDevice{"eth0": {}})(s)
			dropNamespace(s, specs.NetworkNamespace)
		}},
		{"linux.netDevices.a/b", netDevices(map[string]specs.LinuxNetDevice{"a/b": {}})},
		{"linux.netDevices.eth%d", netDevices(map[string]specs.LinuxNetDevice{"eth%d": {}})},
		{"linux.netDevices.", netDevices(map[string]specs.LinuxNetDevice{"": {}})},
		{"linux.netDevices...", netDevices(map[string]specs.LinuxNetDevice{"..": {}})},
		{"linux.netDevices.0123456789abcdef", netDevices(map[string]specs.LinuxNetDevice{"0123456789abcdef": {}})},
		{"linux.netDevices.eth0.name", netDevices(map[string]specs.LinuxNetDevice{"eth0": {Name: "a b"}})},
		{"linux.netDevices.eth0.name", netDevices(map[string]specs.LinuxNetDevice{"eth0": {Name: "eth0:1"}})},
		{"linux.netDevices.eth0.name", netDevices(map[string]specs.LinuxNetDevice{"eth0": {Name: "a%d%d"}})},
		{"linux.netDevices.eth0.name", netDevices(map[string]specs.LinuxNetDevice{"eth0": {Name: "a%s"}})},
		{"linux.netDevices.eth1.name", netDevices(map[string]specs.LinuxNetDevice{"eth0": {Name: "eth1"}, "eth1": {}})},
	} {
		refused(t, tc.path, tc.change)
	}
}
