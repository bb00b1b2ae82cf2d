package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// clocks are those of a time namespace: linux.timeOffsets has them as keys, /proc/PID/timens_offsets as names.
var clocks = []string{"boottime", "monotonic"}

// ClockOffset is what a clock in a new time namespace is ahead of the host's.
type ClockOffset struct {
	Clock string
	Secs  int64
	Nanos uint32
}

// EnterTime enters the time namespace that was unshared. A process that unshares one stays
// outside; only its children are born in it.
type EnterTime struct{ inChild }

func (EnterTime) String() string { return "enter the new time namespace" }

// SetOffsets sets the offsets of the unshared time namespace before anyone is in it.
type SetOffsets struct {
	Offsets []ClockOffset
	// Gate: the caller does it; the child's proc files belong to nobody in its user namespace.
	Gate bool
	// Dumpable: the child does it, while they are its own: an ordinary user's caller may not either.
	Dumpable bool
}

// Where is the child, unless it may not.
func (s SetOffsets) Where() Where { return gateOrChild(s.Gate) }

func (s SetOffsets) String() string {
	return "set the clocks " + strings.TrimSuffix(strings.ReplaceAll(s.Text(), "\n", ", "), ", ")
}

// Text is what goes into timens_offsets, in one write.
func (s SetOffsets) Text() string {
	var b strings.Builder
	for _, o := range s.Offsets {
		fmt.Fprintf(&b, "%s %d %d\n", o.Clock, o.Secs, o.Nanos)
	}
	return b.String()
}

// timeOffsets checks linux.timeOffsets.
func (c *compiler) timeOffsets() error {
	const at = "linux.timeOffsets"
	offsets := c.spec.Linux.TimeOffsets
	switch {
	case len(offsets) > 0 && c.joined[NewTime]:
		return &Error{at, "are those of a new time namespace, linux.namespaces has the path of one to join"}
	case len(offsets) > 0 && !c.has(NewTime):
		return &Error{at, "need a time namespace in linux.namespaces"}
	case len(offsets) > 0 && c.facts.User != nil && c.joined[NewUser]:
		return &Error{at, "an ordinary user's runtime cannot set them in a user namespace that others are in already"}
	}
	for _, clock := range slices.Sorted(maps.Keys(offsets)) {
		switch {
		case !slices.Contains(clocks, clock):
			return &Error{at + "." + clock, "is no clock of a time namespace: those are " + strings.Join(clocks, " and ")}
		case offsets[clock].Nanosecs >= 1e9:
			return &Error{at + "." + clock + ".nanosecs", fmt.Sprintf("%d is a second or more", offsets[clock].Nanosecs)}
		}
	}
	return nil
}

// enterTime plans the way into an unshared time namespace.
func (c *compiler) enterTime() {
	offsets := c.spec.Linux.TimeOffsets
	if len(offsets) > 0 {
		user := c.facts.User != nil
		step := SetOffsets{Gate: c.inUserNS() && !user, Dumpable: user}
		for _, clock := range slices.Sorted(maps.Keys(offsets)) {
			step.Offsets = append(step.Offsets, ClockOffset{clock, offsets[clock].Secs, offsets[clock].Nanosecs})
		}
		c.add("linux.timeOffsets", step)
	}
	c.add("linux.namespaces", EnterTime{})
}
