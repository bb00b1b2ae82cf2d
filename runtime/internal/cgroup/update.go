package cgroup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Set changes limits of the live cgroup. Fields that are nil or zero stay as they are; a list of device rules, if there is
// one, takes the place of the earlier list. Nothing is changed when r asks for something that cannot be had.
func (c *Cgroup) Set(r *specs.LinuxResources) error {
	if err := c.ask(); err != nil {
		return err
	}
	settings, err := compile(r, c.host, func(controller, file string) (string, error) {
		return readFile(c.file(controller, file))
	})
	if err != nil {
		return err
	}
	devices, err := c.newDevices(r)
	if err != nil {
		return err
	}
	hold, err := c.mustHold(devices)
	if err != nil {
		return err
	}
	if !hold {
		return c.set(settings, devices)
	}
	ctx, cancel := context.WithTimeout(context.Background(), freezeTime)
	defer cancel()
	if err := c.Freeze(ctx); err != nil {
		return fmt.Errorf("set linux.resources.devices: %w", err)
	}
	return errors.Join(c.set(settings, devices), c.Thaw())
}

// freezeTime bounds how long it may take until the container's processes stop.
const freezeTime = 5 * time.Second

// newDevices returns the policy of the device rules in r, nil if there are none or they are in force.
func (c *Cgroup) newDevices(r *specs.LinuxResources) (*devicePolicy, error) {
	if r == nil || len(r.Devices) == 0 {
		return nil, nil
	}
	p, err := compileDevices(r)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	old := c.devices
	c.mu.Unlock()
	if old != nil && old.allow == p.allow && slices.Equal(old.exceptions, p.exceptions) {
		return nil, nil // a caller that sends all it knows, to change something else
	}
	return &p, nil
}

// mustHold tells whether device rules can only be changed while nobody uses devices: v1 forgets all rules when the default
// changes, and systemd writes its rules for v1 one by one.
func (c *Cgroup) mustHold(devices *devicePolicy) (bool, error) {
	dir := c.dir("devices")
	if devices == nil || dir == "" {
		return false, nil
	}
	old, err := c.oldDevices(dir)
	if err != nil || old != nil && old.allow == devices.allow && c.unit == "" {
		return false, err
	}
	frozen, err := c.Frozen()
	return !frozen, err
}

// oldDevices returns the policy of the v1 directory, nil when that cannot be known.
func (c *Cgroup) oldDevices(dir string) (*devicePolicy, error) {
	c.mu.Lock()
	old := c.devices
	c.mu.Unlock()
	if old == nil { // another process set it
		return policyV1(dir)
	}
	return old, nil
}

// set writes what has been found to be right.
func (c *Cgroup) set(settings []setting, devices *devicePolicy) error {
	if c.unit != "" {
		if err := c.setUnit(settings, devices); err != nil {
			return err
		}
	}
	if c.host.Mode == V1 { // those of the cgroup2 tree are there when somebody asked for them
		if err := c.enableControllers(settings); err != nil {
			return err
		}
	}
	if err := c.apply(settings); err != nil {
		return err
	}
	if devices == nil {
		return nil
	}
	if err := c.setDevices(devices); err != nil {
		return fmt.Errorf("set linux.resources.devices: %w", err)
	}
	c.mu.Lock()
	c.devices = devices
	c.mu.Unlock()
	return nil
}

// setDevices changes the device rules of the live cgroup. At no moment is anything permitted, or found to be denied, that
// neither the earlier rules nor the new ones say.
func (c *Cgroup) setDevices(p *devicePolicy) error {
	dir := c.dir("devices")
	if dir == "" {
		return p.replaceV2(c.unified)
	}
	old, err := c.oldDevices(dir)
	if c.unit != "" {
		old, err = policyV1(dir) // what systemd has made of it
	}
	if err != nil {
		return err
	}
	if old != nil && old.allow == p.allow {
		return p.changeV1(dir, old)
	}
	return p.setV1(dir) // while all processes are frozen: see mustHold
}
