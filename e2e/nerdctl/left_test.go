package nerdctl

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// leftovers lists what containers left with nerdctl and in the network, when all are removed. The bridge, its rules and the empty chains
// of the nat table are not containers': nerdctl and the plugins make them and keep them under every runtime. Nor is the empty directory of a
// container that another nerdctl looked at while it was removed: that it is racy is written in nerdctl.
func leftovers() (left []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := command(ctx, "ps", "--all", "--quiet", "--no-trunc").CombinedOutput()
	if err != nil {
		left = append(left, fmt.Sprintf("nerdctl ps: %v: %s", err, out))
	}
	for id := range strings.FieldsSeq(string(out)) {
		left = append(left, "container "+id)
	}
	for _, pattern := range []string{
		file("data/*/containers/*/*/*"), file("data/*/etchosts/*/*"), file("data/*/names/*/*"),
		"/var/lib/cni/networks/*/[0-9]*", "/var/lib/cni/results/*", "/run/netns/*",
	} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		if strings.HasPrefix(i.Name, "veth") {
			left = append(left, "interface "+i.Name)
		}
	}
	return append(left, packetFilters(ctx)...)
}

// packetFilters lists the rules that name a container.
func packetFilters(ctx context.Context) (left []string) {
	for _, table := range []string{"nat", "filter"} {
		rules, err := exec.CommandContext(ctx, "iptables", "--table", table, "--list-rules").CombinedOutput()
		if err != nil {
			left = append(left, fmt.Sprintf("iptables: %v: %s", err, rules))
		}
		for rule := range strings.Lines(string(rules)) {
			if strings.HasPrefix(rule, "-A ") && strings.Contains(rule, fmt.Sprintf("gosuda-nerd-%d", os.Getpid())) {
				left = append(left, "rule "+strings.TrimSpace(rule))
			}
		}
	}
	return left
}
