package cgroup

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/internal/sys"
)

// createV1 puts the policy in force in a cgroup of the devices controller that has no processes. A fresh one is what its
// parent is.
func (p *devicePolicy) createV1(dir string, fresh bool) error {
	if fresh && !p.allow {
		return p.setV1(dir)
	}
	old, err := policyV1(dir)
	switch {
	case err != nil:
		return err
	case fresh && old == nil: // it allows what its parent does, and cannot be made to allow more
		return writeExceptions(dir, false, p.exceptions)
	case old != nil && old.allow == p.allow:
		return p.changeV1(dir, old)
	}
	return p.setV1(dir)
}

// setV1 puts the policy in force whatever was before, step by step: processes of the cgroup must not look meanwhile.
func (p *devicePolicy) setV1(dir string) error {
	file := dir + "/devices.deny"
	if p.allow {
		file = dir + "/devices.allow"
	}
	err := writeFile(file, "a")
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w (there are device cgroups below it, which keeps it from changing between allowing and denying by "+
			"default)", err)
	}
	if err != nil {
		return err
	}
	return writeExceptions(dir, !p.allow, p.exceptions)
}

// writeExceptions allows or denies devices.
func writeExceptions(dir string, allow bool, list []deviceException) error {
	if len(list) == 0 {
		return nil
	}
	file := dir + "/devices.deny"
	if allow {
		file = dir + "/devices.allow"
	}
	fd, err := sys.Open(file, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, e := range list {
		if err := write(fd, file, e.String()); err != nil {
			return fmt.Errorf("device %s: %w", e, err)
		}
	}
	return nil
}

// changeV1 goes from an earlier policy with the same default to p. What both permit is permitted all the time, and what
// neither does never.
func (p *devicePolicy) changeV1(dir string, old *devicePolicy) error {
	more, less := without(p.exceptions, old.exceptions), without(old.exceptions, p.exceptions)
	// The kernel adds and removes entries, also those that cover one another: add before removing.
	if err := writeExceptions(dir, !p.allow, more); err != nil {
		return err
	}
	return writeExceptions(dir, p.allow, less)
}

// without returns what a has beyond b.
func without(a, b []deviceException) []deviceException {
	var rest []deviceException
	for _, e := range a {
		if i := slices.IndexFunc(b, func(x deviceException) bool { return x.deviceID == e.deviceID }); i >= 0 {
			e.access &^= b[i].access
		}
		if e.access != 0 {
			rest = append(rest, e)
		}
	}
	return rest
}

// policyV1 reads what is in force. It is nil when that cannot be known: what a cgroup denies that allows by default.
func policyV1(dir string) (*devicePolicy, error) {
	list, err := readFile(dir + "/devices.list")
	if err != nil {
		return nil, err
	}
	var p devicePolicy
	for line := range strings.Lines(list) {
		e, err := parseException(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("parse %s/devices.list: %q: %w", dir, line, err)
		}
		if e.kind == 'a' {
			return nil, nil
		}
		p.exceptions = append(p.exceptions, e)
	}
	return &p, nil
}

// parseException undoes deviceException.String.
func parseException(line string) (e deviceException, err error) {
	kind, rest, _ := strings.Cut(line, " ")
	numbers, rights, _ := strings.Cut(rest, " ")
	major, minor, ok := strings.Cut(numbers, ":")
	if !ok || !slices.Contains([]string{"a", "b", "c"}, kind) {
		return e, errors.New("malformed")
	}
	e.kind = kind[0]
	for _, n := range []struct {
		text string
		to   *int64
	}{{major, &e.major}, {minor, &e.minor}} {
		if *n.to = anyNumber; n.text != "*" {
			if *n.to, err = strconv.ParseInt(n.text, 10, 64); err != nil {
				return e, err
			}
		}
	}
	e.access, err = parseAccess(rights)
	return e, err
}
