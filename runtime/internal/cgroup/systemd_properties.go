package cgroup

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/dbus"
)

// limitName returns the property of units whose value is that of a cgroup file, with infinity for no limit
// (systemd.resource-control(5)); "" if systemd has none, and leaves the file alone.
func limitName(file string) string {
	switch file {
	case "memory.max":
		return "MemoryMax"
	case "memory.high":
		return "MemoryHigh"
	case "memory.low":
		return "MemoryLow"
	case "memory.min":
		return "MemoryMin"
	case "memory.swap.max":
		return "MemorySwapMax"
	case "memory.limit_in_bytes":
		return "MemoryLimit"
	case "pids.max":
		return "TasksMax"
	case "cpu.weight":
		return "CPUWeight"
	case "cpu.shares":
		return "CPUShares"
	case "blkio.bfq.weight":
		return "BlockIOWeight"
	}
	return ""
}

// limitProperties returns what settings are called as properties of a unit. starting includes those that can only be set
// then.
func limitProperties(settings []setting, version int, starting bool) ([]systemd.Property, error) {
	var properties []systemd.Property
	var quota, period string
	idle := false
	for _, s := range settings {
		switch s.file {
		case "cpu.max":
			quota, period, _ = strings.Cut(s.value, " ")
		case "cpu.cfs_quota_us":
			quota = s.value
		case "cpu.cfs_period_us":
			period = s.value
		case "cpu.idle":
			idle = s.value == "1" && version >= 252
		case "cpuset.cpus", "cpuset.mems":
			name := "AllowedCPUs"
			if s.file == "cpuset.mems" {
				name = "AllowedMemoryNodes"
			}
			bits, err := listBits(s.value)
			if err != nil {
				return nil, fmt.Errorf("linux.resources.%s: %w", s.property, err)
			}
			properties = append(properties, property(name, bits))
		case "memory.oom.group":
			policy, ok := map[string]string{"0": "continue", "1": "kill"}[s.value]
			if ok && starting && version >= 253 {
				properties = append(properties, property("OOMPolicy", policy))
			}
		default:
			name := limitName(s.file)
			if name == "" {
				continue
			}
			n, err := parseLimit(s.value)
			if err != nil {
				return nil, fmt.Errorf("linux.resources.%s: %w", s.property, err)
			}
			if n == 0 && name == "TasksMax" {
				n = 1
			}
			properties = append(properties, property(name, n))
		}
	}
	if idle { // a weight of 0 is what systemd calls idle
		properties = append(withoutProperty(properties, "CPUWeight"), property("CPUWeight", uint64(0)))
	}
	cpu, err := quotaProperties(quota, period)
	return append(properties, cpu...), err
}

// quotaProperties converts a quota and a period in microseconds, of which "" is not to change.
func quotaProperties(quota, period string) ([]systemd.Property, error) {
	var properties []systemd.Property
	p := uint64(100_000) // the kernel's default
	if period != "" {
		var err error
		if p, err = strconv.ParseUint(period, 10, 64); err != nil || p == 0 {
			return nil, fmt.Errorf("linux.resources.cpu.period: %q is not a number of microseconds", period)
		}
		properties = append(properties, property("CPUQuotaPeriodUSec", p))
	}
	if quota == "" {
		return properties, nil
	}
	perSecond, err := parseLimit(quota)
	if err != nil {
		return nil, fmt.Errorf("linux.resources.cpu.quota: %w", err)
	}
	if perSecond != math.MaxUint64 {
		// systemd counts in percent of a CPU: round up, so that what was asked for can be had.
		const percent = 10_000
		perSecond = (perSecond*1_000_000/p + percent - 1) / percent * percent
	}
	return append(properties, property("CPUQuotaPerSecUSec", perSecond)), nil
}

func withoutProperty(properties []systemd.Property, name string) []systemd.Property {
	var kept []systemd.Property
	for _, p := range properties {
		if p.Name != name {
			kept = append(kept, p)
		}
	}
	return kept
}

// parseLimit parses a limit as cgroup files have it; none is math.MaxUint64.
func parseLimit(s string) (uint64, error) {
	s = strings.TrimSpace(s)
	if s == "max" || s == "-1" {
		return math.MaxUint64, nil
	}
	return strconv.ParseUint(s, 10, 64)
}

// listBits converts a list such as "0-3,7" to a bit mask, lowest byte first.
func listBits(list string) ([]byte, error) {
	const limit = 1 << 16 // more than any machine has
	var bits []byte
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 32)
		if err != nil {
			return nil, err
		}
		last, err := strconv.ParseUint(to, 10, 32)
		if err != nil {
			return nil, err
		}
		if first > last || last >= limit {
			return nil, fmt.Errorf("bad range %q", part)
		}
		for n := first; n <= last; n++ {
			for uint64(len(bits)) <= n/8 {
				bits = append(bits, 0)
			}
			bits[n/8] |= 1 << (n % 8)
		}
	}
	if len(bits) == 0 {
		return nil, fmt.Errorf("empty list %q", list)
	}
	return bits, nil
}

// deviceAllow is one entry of DeviceAllow.
type deviceAllow struct {
	Path, Access string
}

// properties returns the policy for a unit on v1, where systemd would overwrite it when it reloads. It cannot deny single
// devices: then only the kernel is told. On v2 the program that is attached stays, and systemd needs to know nothing.
func (p *devicePolicy) properties() []systemd.Property {
	if p.allow {
		return []systemd.Property{property("DevicePolicy", "auto"), property("DeviceAllow", []deviceAllow{})}
	}
	allow := make([]deviceAllow, 0, len(p.exceptions))
	for _, e := range p.exceptions {
		group, node := "char-", "/dev/char/"
		if e.kind == 'b' {
			group, node = "block-", "/dev/block/"
		}
		switch {
		case e.minor != anyNumber && e.major != anyNumber:
			group = node + itoa(e.major) + ":" + itoa(e.minor)
		case e.minor == anyNumber:
			group += number(e.major)
		default:
			continue // any major with one minor: systemd has no form for it
		}
		allow = append(allow, deviceAllow{group, e.access.String()})
	}
	return []systemd.Property{property("DevicePolicy", "strict"), property("DeviceAllow", allow)}
}
