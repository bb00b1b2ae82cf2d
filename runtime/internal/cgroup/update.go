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
	settings, err := compile(r, c.host, func(controller, file string) (string, error) {
		return readFile(c.file(controller, file))
	})
	if err != nil {
		return err
	}
	var devices *devicePolicy
	if r != nil && len(r.Devices) > 0 {
		p, err := compileDevices(r)
		if err != nil {
			return err
		}
		devices = &p
	}
	if c.unit != "" {
		if err := c.setUnit(settings); err != nil {
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
	if devices != nil {
		if err := c.setDevices(devices); err != nil {
			return fmt.Errorf("set linux.resources.devices: %w", err)
		}
	}
	return nil
}

// setDevices changes the device rules of the live cgroup. At no moment is anything permitted, or found to be denied, that
// neither the earlier rules nor the new ones say.
func (c *Cgroup) setDevices(p *devicePolicy) error {
	c.mu.Lock()
	old := c.devices // nil if another process set them
	c.mu.Unlock()
	if old != nil && old.allow == p.allow && slices.Equal(old.exceptions, p.exceptions) {
		return nil // a caller that sends all it knows, to change something else
	}
	var err error
	if dir := c.dir("devices"); dir != "" {
		err = c.setDevicesV1(dir, old, p)
	} else {
		err = p.replaceV2(c.unified)
	}
	if err == nil {
		c.mu.Lock()
		c.devices = p
		c.mu.Unlock()
	}
	return err
}

// freezeTime bounds how long it may take until the container's processes stop.
const freezeTime = 5 * time.Second

func (c *Cgroup) setDevicesV1(dir string, old, p *devicePolicy) (err error) {
	if old == nil {
		if old, err = policyV1(dir); err != nil {
			return err
		}
	}
	if old != nil && old.allow == p.allow {
		return p.changeV1(dir, old)
	}
	// The kernel forgets all rules when the default changes: nobody may look until there are new ones.
	frozen, err := c.Frozen()
	if err != nil {
		return err
	}
	if !frozen {
		ctx, cancel := context.WithTimeout(context.Background(), freezeTime)
		defer cancel()
		if err := c.Freeze(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.Thaw()) }()
	}
	return p.setV1(dir, false)
}
