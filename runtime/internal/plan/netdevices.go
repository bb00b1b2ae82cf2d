package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// maxDeviceName is the longest name of a network device, IFNAMSIZ of linux/if.h without the NUL.
const maxDeviceName = 15

// MoveNetDevice moves a network device of the runtime's network namespace into the container's.
type MoveNetDevice struct {
	atGate
	Name    string // in the runtime's namespace
	NewName string // in the container's; a %d in it becomes a free number
}

func (m MoveNetDevice) String() string {
	return fmt.Sprintf("move the network device %s into the network namespace, as %s", m.Name, m.NewName)
}

// netDevices plans linux.netDevices.
func (c *compiler) netDevices() error {
	devices := c.spec.Linux.NetDevices
	if len(devices) > 0 && !c.has(NewNet) {
		return &Error{"linux.netDevices", "needs a network namespace in linux.namespaces"}
	}
	taken := map[string]string{} // new name -> name
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		at := "linux.netDevices." + name
		if !deviceName(name) || strings.Contains(name, "%") {
			return &Error{at, "is no name of a network device"}
		}
		step := MoveNetDevice{Name: name, NewName: name}
		if rename := devices[name].Name; rename != "" {
			if !deviceName(rename) || strings.Contains(strings.Replace(rename, "%d", "", 1), "%") {
				return &Error{at + ".name", fmt.Sprintf("%q is no name of a network device", rename)}
			}
			step.NewName = rename
		}
		if other := taken[step.NewName]; other != "" {
			return &Error{at + ".name", fmt.Sprintf("%s is what %s is called, too", step.NewName, other)}
		}
		if !strings.Contains(step.NewName, "%") {
			taken[step.NewName] = name
		}
		c.add(at, step)
	}
	return nil
}

// deviceName tells whether the kernel takes the name (dev_valid_name in net/core/dev.c).
func deviceName(name string) bool {
	return name != "" && len(name) <= maxDeviceName && name != "." && name != ".." &&
		!strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r == ':' || r == 0 || unicode.IsSpace(r) })
}
