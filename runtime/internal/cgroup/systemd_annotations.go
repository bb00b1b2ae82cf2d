package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// PropertyPrefix begins the annotations whose rest is the name of a property of the container's unit; the value is in the
// text format of GVariant, such as "uint64 123", "true" or "'text'".
const PropertyPrefix = "org.systemd.property."

// annotatedProperties returns the properties that annotations ask for, in the order of their names. It is an error that
// names the annotation when one cannot be read.
func annotatedProperties(annotations map[string]string) ([]systemd.Property, error) {
	var properties []systemd.Property
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		name, ok := strings.CutPrefix(key, PropertyPrefix)
		if !ok {
			continue
		}
		p, err := parseProperty(name, annotations[key])
		if err != nil {
			return nil, fmt.Errorf("annotations[%q]: %w", key, err)
		}
		properties = append(properties, p)
	}
	return properties, nil
}

func parseProperty(name, text string) (systemd.Property, error) {
	isLetter := func(r rune) bool { return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' }
	if len(name) < 3 || strings.ContainsFunc(name, func(r rune) bool { return !isLetter(r) }) {
		return systemd.Property{}, fmt.Errorf("%q is not the name of a property", name)
	}
	value, err := dbus.ParseVariant(text, dbus.Signature{})
	if err != nil {
		return systemd.Property{}, fmt.Errorf("%q is not a value in the text format of GVariant: %w", text, err)
	}
	// Unit files have TimeoutStopSec where the bus has TimeoutStopUSec.
	stem, ok := strings.CutSuffix(name, "Sec")
	if ok && stem != "" && stem[len(stem)-1] >= 'a' {
		name = stem + "USec"
		if value, err = microseconds(value); err != nil {
			return systemd.Property{}, fmt.Errorf("%q: %w", text, err)
		}
	}
	return systemd.Property{Name: name, Value: value}, nil
}

// microseconds converts a number of seconds.
func microseconds(v dbus.Variant) (dbus.Variant, error) {
	const perSecond = 1_000_000
	var n uint64
	switch s := v.Value().(type) {
	case byte:
		n = uint64(s)
	case uint16:
		n = uint64(s)
	case uint32:
		n = uint64(s)
	case uint64:
		n = s
	case int16:
		n = uint64(max(s, 0))
	case int32:
		n = uint64(max(s, 0))
	case int64:
		n = uint64(max(s, 0))
	case float64:
		return dbus.MakeVariant(uint64(max(s, 0) * perSecond)), nil
	default:
		return v, errors.New("not a number of seconds")
	}
	if n > math.MaxUint64/perSecond {
		return dbus.MakeVariant(uint64(math.MaxUint64)), nil // which is "infinity"
	}
	return dbus.MakeVariant(n * perSecond), nil
}
