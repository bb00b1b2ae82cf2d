package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// unitTimeout bounds how long systemd may take to make a unit.
const unitTimeout = 30 * time.Second

// isSystemdPath reports whether a linux.cgroupsPath has the form slice:prefix:name.
func isSystemdPath(path string) bool {
	return strings.Count(path, ":") == 2 && !strings.HasPrefix(path, "/")
}

// placeUnit fills in the unit and its directories.
func (c *Cgroup) placeUnit(cfg Config) error {
	path := cfg.Path
	if path == "" {
		path = ":gosuda:" + cfg.ID
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("linux.cgroupsPath %q: %s", path, fmt.Sprintf(format, args...))
	}
	parts := strings.Split(path, ":")
	if len(parts) != 3 {
		return fail(`expected "slice:prefix:name", the format for systemd cgroups`)
	}
	if !c.host.Systemd {
		return fail("only systemd makes such a cgroup, and systemd is not running (there is no /run/systemd/system)")
	}
	slice, prefix, name := parts[0], parts[1], parts[2]
	if slice == "" {
		slice = "system.slice"
	}
	dirs, err := expandSlice(slice)
	if err != nil {
		return fail("%v", err)
	}
	c.slice, c.unit = slice, prefix+"-"+name+".scope"
	if name == "" || strings.ContainsAny(c.unit, "/\x00\n") {
		return fail("makes no unit name: %q", c.unit)
	}
	for _, hier := range c.host.Hierarchies {
		c.dirs = append(c.dirs, dir{hier.Controllers, hier.Mount, filepath.Join(hier.Mount, dirs, c.unit)})
	}
	if c.host.Unified != "" {
		c.unified = filepath.Join(c.host.Unified, dirs, c.unit)
	}
	c.properties, err = annotatedProperties(cfg.Annotations)
	return err
}

// expandSlice returns where systemd puts a slice: a-b.slice is a.slice/a-b.slice.
func expandSlice(slice string) (string, error) {
	name, ok := strings.CutSuffix(slice, ".slice")
	if !ok || name == "" || strings.ContainsAny(name, "/\x00\n") {
		return "", fmt.Errorf("%q is not the name of a slice", slice)
	}
	if name == "-" {
		return "/", nil
	}
	var path, prefix string
	for part := range strings.SplitSeq(name, "-") {
		if part == "" {
			return "", fmt.Errorf("%q is not the name of a slice", slice)
		}
		prefix += part
		path += "/" + prefix + ".slice"
		prefix += "-"
	}
	return path, nil
}

// startUnit has systemd make the scope around a process, and completes it with what systemd does not do: its other
// hierarchies and limits.
func (c *Cgroup) startUnit(pid int) error {
	ctx, cancel := context.WithTimeout(context.Background(), unitTimeout)
	defer cancel()
	conn, err := systemd.NewWithContext(ctx)
	if err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	defer conn.Close()
	limits, err := c.limitProperties(conn, c.settings)
	if err != nil {
		return err
	}
	properties := append([]systemd.Property{
		systemd.PropDescription("gosuda container " + c.unit),
		systemd.PropSlice(c.slice),
		systemd.PropPids(uint32(pid)),
		property("Delegate", true),
		property("DefaultDependencies", false),
		property("CPUAccounting", true),
		property("MemoryAccounting", true),
		property("TasksAccounting", true),
	}, c.properties...)
	properties = append(properties, limits...)
	if c.host.Mode == V1 {
		properties = append(append(properties, property("BlockIOAccounting", true)), c.devices.properties()...)
	} else {
		properties = append(properties, property("IOAccounting", true))
	}
	if err := startScope(ctx, conn, c.unit, properties); err != nil {
		return fmt.Errorf("start systemd unit %s: %w", c.unit, err)
	}
	c.started = true
	if err := c.create(); err != nil {
		return err
	}
	if len(c.dirs) == 0 {
		return nil // systemd put the process into the only directory
	}
	return c.addPid(pid)
}

// startScope starts a transient unit and waits until it is there.
func startScope(ctx context.Context, conn *systemd.Conn, unit string, properties []systemd.Property) error {
	result := make(chan string, 1)
	_, err := conn.StartTransientUnitContext(ctx, unit, "fail", properties, result)
	if isUnitError(err, "UnitExists") {
		// One that failed stays until somebody looks at it.
		if err := conn.ResetFailedUnitContext(ctx, unit); err != nil {
			return err
		}
		_, err = conn.StartTransientUnitContext(ctx, unit, "fail", properties, result)
	}
	if err != nil {
		return err
	}
	return awaitJob(ctx, result)
}

func awaitJob(ctx context.Context, result <-chan string) error {
	select {
	case s := <-result:
		if s != "done" {
			return fmt.Errorf("the job ended as %s", s)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// isUnitError reports whether systemd answered with one of its errors.
func isUnitError(err error, name string) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name == "org.freedesktop.systemd1."+name
}

// setUnit tells systemd of new limits, and on v1 of new device rules (nil for none), which it would overwrite otherwise
// when it reloads.
func (c *Cgroup) setUnit(settings []setting, devices *devicePolicy) error {
	settings, err := c.withQuota(settings)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), unitTimeout)
	defer cancel()
	conn, err := systemd.NewWithContext(ctx)
	if err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	defer conn.Close()
	properties, err := c.limitProperties(conn, settings)
	if err != nil {
		return err
	}
	if devices != nil && c.host.Mode == V1 {
		properties = append(properties, devices.properties()...)
	}
	if len(properties) == 0 {
		return nil
	}
	if err := conn.SetUnitPropertiesContext(ctx, c.unit, true, properties...); err != nil {
		return fmt.Errorf("set properties of systemd unit %s: %w", c.unit, err)
	}
	return nil
}

// withQuota completes a quota of CPU time by the period that it is of, or the other way round: systemd has the quotient.
func (c *Cgroup) withQuota(settings []setting) ([]setting, error) {
	has := func(file string) bool {
		return slices.ContainsFunc(settings, func(s setting) bool { return s.file == file })
	}
	settings = slices.Clone(settings)
	if c.host.home("cpu") == V2 {
		for i, s := range settings {
			if s.file != "cpu.max" || strings.Contains(s.value, " ") {
				continue
			}
			now, err := readFile(c.file("cpu", "cpu.max"))
			if err != nil {
				return nil, err
			}
			_, period, _ := strings.Cut(now, " ")
			settings[i].value += " " + period
		}
		return settings, nil
	}
	const quota, period = "cpu.cfs_quota_us", "cpu.cfs_period_us"
	if has(quota) == has(period) {
		return settings, nil
	}
	missing := quota
	if has(quota) {
		missing = period
	}
	now, err := readFile(c.file("cpu", missing))
	return append(settings, setting{knob: knob{missing, now}}), err
}

// stopUnit has systemd forget the scope. It is gone already when systemd has noticed that it is empty.
func (c *Cgroup) stopUnit(ctx context.Context) error {
	if !c.started {
		return nil
	}
	conn, err := systemd.NewWithContext(ctx)
	if err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	defer conn.Close()
	result := make(chan string, 1)
	_, err = conn.StopUnitContext(ctx, c.unit, "replace", result)
	if err == nil {
		err = awaitJob(ctx, result)
	}
	if err != nil && !isUnitError(err, "NoSuchUnit") {
		return fmt.Errorf("stop systemd unit %s: %w", c.unit, err)
	}
	_ = conn.ResetFailedUnitContext(ctx, c.unit) // fails when there is nothing to reset
	return nil
}

// limitProperties asks for systemd's version only if it matters.
func (c *Cgroup) limitProperties(conn *systemd.Conn, settings []setting) ([]systemd.Property, error) {
	version := 0
	for _, s := range settings {
		if s.file != "cpu.idle" && s.file != "memory.oom.group" {
			continue
		}
		text, err := conn.GetManagerProperty("Version")
		if err != nil {
			return nil, fmt.Errorf("ask for systemd's version: %w", err)
		}
		version = parseVersion(text)
		break
	}
	return limitProperties(settings, version, !c.started)
}

// parseVersion returns the first number of a text such as "252.38-1~deb12u1".
func parseVersion(text string) int {
	text = strings.TrimLeft(text, `"v`)
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		text = text[:end]
	}
	n, _ := strconv.Atoi(text)
	return n
}

func property(name string, value any) systemd.Property {
	return systemd.Property{Name: name, Value: dbus.MakeVariant(value)}
}
