package plan

import (
	"strconv"
	"strings"
)

// capNames are the capabilities in the order of their numbers (linux/capability.h, Linux 5.9 and later).
var capNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

// capSysAdmin is CAP_SYS_ADMIN.
const capSysAdmin = 1 << 21

// CapabilityNames returns the names of the capabilities that this engine knows, with their CAP_ prefix.
func CapabilityNames() []string {
	names := make([]string, len(capNames))
	for i, n := range capNames {
		names[i] = "CAP_" + n
	}
	return names
}

// capBit returns the bit of a capability's name; ok is false when it is unknown.
func capBit(name string) (bit uint64, ok bool) {
	name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
	for i, n := range capNames {
		if n == name {
			return 1 << i, true
		}
	}
	return 0, false
}

// capSet turns names into bits. Unknown names and those beyond granted are reported and left out: the spec says that a
// runtime should warn, not fail (config.md, "capabilities").
func (c *compiler) capSet(set string, names []string, granted uint64) uint64 {
	return capBits(names, granted, func(i int, why string) {
		c.warn("process.capabilities." + set + "[" + strconv.Itoa(i) + "] " + names[i] + ": " + why + ", left out")
	})
}

// capBits is capSet that tells leftOut what it leaves out.
func capBits(names []string, granted uint64, leftOut func(i int, why string)) (bits uint64) {
	for i, name := range names {
		bit, ok := capBit(name)
		switch {
		case !ok:
			leftOut(i, "unknown capability")
		case bit&granted == 0:
			leftOut(i, "the runtime does not have it")
		default:
			bits |= bit
		}
	}
	return bits
}
