package cgroup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// access is a set of what can be done with a device.
type access uint8

// The bits are those of BPF_DEVCG_ACC_*.
const (
	accessMknod access = 1 << iota
	accessRead
	accessWrite
	accessAll = accessMknod | accessRead | accessWrite
)

func parseAccess(s string) (access, error) {
	var a access
	for _, r := range s {
		switch r {
		case 'r':
			a |= accessRead
		case 'w':
			a |= accessWrite
		case 'm':
			a |= accessMknod
		default:
			return 0, fmt.Errorf("access %q is not made of r, w and m", s)
		}
	}
	if a == 0 {
		return 0, errors.New("access is missing")
	}
	return a, nil
}

func (a access) String() string {
	var b strings.Builder
	for _, x := range []struct {
		bit  access
		char byte
	}{{accessRead, 'r'}, {accessWrite, 'w'}, {accessMknod, 'm'}} {
		if a&x.bit != 0 {
			b.WriteByte(x.char)
		}
	}
	return b.String()
}

// anyNumber is the major or minor number that stands for all of them.
const anyNumber = -1

// deviceID says which devices a rule is about.
type deviceID struct {
	kind         byte // 'b' or 'c'
	major, minor int64
}

func (id deviceID) String() string {
	return string(id.kind) + " " + number(id.major) + ":" + number(id.minor)
}

func number(n int64) string {
	if n == anyNumber {
		return "*"
	}
	return itoa(n)
}

// deviceException is what differs from the default of a policy.
type deviceException struct {
	deviceID
	access access
}

// String returns the exception in the form of devices.allow and devices.deny.
func (e deviceException) String() string { return e.deviceID.String() + " " + e.access.String() }

// devicePolicy is the outcome of a list of device rules: a default, and exceptions from it in the rules' order. It behaves as the v1
// devices controller does, which is what config.json describes, for v2 as well.
type devicePolicy struct {
	allow      bool
	exceptions []deviceException
}

// allowsAll reports that nothing is denied.
func (p *devicePolicy) allowsAll() bool { return p.allow && len(p.exceptions) == 0 }

// defaultDevices are allowed in every container, after and in spite of its own rules: those of runc, which people rely
// on. Making any device node is harmless, since using it is not allowed.
var defaultDevices = [...]deviceException{
	{deviceID{'c', anyNumber, anyNumber}, accessMknod},
	{deviceID{'b', anyNumber, anyNumber}, accessMknod},
	{deviceID{'c', 1, 3}, accessAll},           // null
	{deviceID{'c', 1, 8}, accessAll},           // random
	{deviceID{'c', 1, 7}, accessAll},           // full
	{deviceID{'c', 5, 0}, accessAll},           // tty
	{deviceID{'c', 1, 5}, accessAll},           // zero
	{deviceID{'c', 1, 9}, accessAll},           // urandom
	{deviceID{'c', 136, anyNumber}, accessAll}, // pts/*
	{deviceID{'c', 5, 2}, accessAll},           // ptmx
	{deviceID{'c', 10, 200}, accessAll},        // net/tun
}

// compileDevices returns the policy of linux.resources.devices and the defaults. It starts from denying everything.
func compileDevices(r *specs.LinuxResources) (devicePolicy, error) {
	var p devicePolicy
	if r != nil {
		for i, rule := range r.Devices {
			if err := p.apply(rule); err != nil {
				return p, fmt.Errorf("linux.resources.devices[%d]: %w", i, err)
			}
		}
	}
	for _, e := range defaultDevices {
		if err := p.change(true, e); err != nil {
			return p, fmt.Errorf("linux.resources.devices: allow %s: %w", e, err)
		}
	}
	return p, nil
}

// apply changes the policy by one rule of config.json.
func (p *devicePolicy) apply(rule specs.LinuxDeviceCgroup) error {
	a, err := parseAccess(rule.Access)
	if err != nil {
		return err
	}
	e := deviceException{deviceID{major: anyNumber, minor: anyNumber}, a}
	switch rule.Type {
	case "", "a":
		*p = devicePolicy{allow: rule.Allow}
		return nil
	case "b", "c":
		e.kind = rule.Type[0]
	default:
		return fmt.Errorf("type %q is not a, b or c", rule.Type)
	}
	if rule.Major != nil {
		e.major = *rule.Major
	}
	if rule.Minor != nil {
		e.minor = *rule.Minor
	}
	if !validNumber(e.major) || !validNumber(e.minor) {
		return fmt.Errorf("device %d:%d is out of range", e.major, e.minor)
	}
	return p.change(rule.Allow, e)
}

func validNumber(n int64) bool { return n >= anyNumber && n < 1<<32 }

// change adds an exception, or takes one away when it says what the default says.
func (p *devicePolicy) change(allow bool, e deviceException) error {
	i := slices.IndexFunc(p.exceptions, func(old deviceException) bool { return old.deviceID == e.deviceID })
	if allow != p.allow {
		if i >= 0 {
			p.exceptions[i].access |= e.access
		} else {
			if p.exceptions == nil {
				p.exceptions = make([]deviceException, 0, len(defaultDevices)+5)
			}
			p.exceptions = append(p.exceptions, e)
		}
		return nil
	}
	for _, old := range p.exceptions {
		// The kernel would leave a wider exception as it is, without a word: the rule would have no effect.
		if old.deviceID != e.deviceID && old.covers(e.deviceID) && old.access&e.access != 0 {
			return fmt.Errorf("cannot make a hole in the wider rule %q", old)
		}
	}
	if i >= 0 {
		if p.exceptions[i].access &^= e.access; p.exceptions[i].access == 0 {
			p.exceptions = slices.Delete(p.exceptions, i, i+1)
		}
	}
	return nil
}

// covers reports whether id's devices are among e's by wildcards.
func (e deviceException) covers(id deviceID) bool {
	return e.kind == id.kind && (e.major == anyNumber || e.major == id.major) && (e.minor == anyNumber || e.minor == id.minor)
}
