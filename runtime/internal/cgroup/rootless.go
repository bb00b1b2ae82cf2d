package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// ErrNone is what cannot be done to a container without a cgroup of its own.
var ErrNone = errors.New("the container has no cgroup of its own")

// None reports that there is no cgroup: it was not wanted, or this process may not make any.
func (c *Cgroup) None() bool { return len(c.dirs) == 0 && c.unified == "" }

// has tells whether the cgroup is in the hierarchy of a controller.
func (c *Cgroup) has(controller string) bool {
	if c.host.home(controller) == V1 {
		return c.dir(controller) != ""
	}
	return c.unified != ""
}

// without does without any cgroup, and so without limits, as crun does; Ignored names them.
func (c *Cgroup) without(cfg Config) {
	for _, s := range c.settings {
		c.ignored = append(c.ignored, "linux.resources."+s.property)
	}
	c.settings = nil
	if cfg.Resources == nil {
		return
	}
	for i, d := range cfg.Resources.Devices {
		if a, err := parseAccess(d.Access); err != nil || a != accessAll { // those about all that can be done are in every config
			c.ignored = append(c.ignored, fmt.Sprintf("linux.resources.devices[%d]", i))
		}
	}
}

// Ignored returns the properties of config.json that mean nothing because cgroups are disabled.
func (c *Cgroup) Ignored() []string { return c.ignored }

// needsNone refuses limits for which there is no cgroup; why gives the reason for a controller.
func (c *Cgroup) needsNone(why func(controller string) error) error {
	for _, s := range c.settings {
		if !c.has(s.controller) && !s.optional {
			return fmt.Errorf("linux.resources.%s: %w: %w", s.property, why(s.controller), ErrNone)
		}
	}
	return nil
}

// withoutRights does without the hierarchies in which this process may not make a cgroup, as long as nobody has said which it
// is to be or limits anything there: what an ordinary user has was delegated, or is not there (as with runc).
func (c *Cgroup) withoutRights(cfg Config) error {
	if cfg.Path != "" {
		return nil // Create says why not
	}
	why := map[string]error{} // by controller, "" for the cgroup2 tree
	c.dirs = slices.DeleteFunc(c.dirs, func(d dir) bool {
		err := mayMake(d.mount, d.path)
		for _, name := range d.controllers {
			why[name] = err
		}
		return err != nil
	})
	if c.unified != "" {
		if why[""] = mayMake(c.host.Unified, c.unified); why[""] != nil {
			c.unified = ""
		}
	}
	return c.needsNone(func(controller string) error {
		if c.host.home(controller) != V1 {
			controller = ""
		}
		return fmt.Errorf("%w (an ordinary user, and root of a user namespace, limit what the cgroup allows that was delegated to"+
			" them)", cmp.Or(why[controller], errUnseen))
	})
}

var errUnseen = errors.New("the cgroup of this process is not visible")

// mayMake tells why this process may not make a directory below a mount point, or use the one that is there.
func mayMake(mount, path string) error {
	for {
		err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.ENOENT) || path == mount:
			return &os.PathError{Op: "make a cgroup in", Path: path, Err: err}
		}
		path = filepath.Dir(path)
	}
}

// mayNotLimit tells whether a failure is one that a caller without privileges expects, and goes on without: to filter devices takes
// CAP_SYS_ADMIN and to give a cgroup away CAP_CHOWN, on the host.
func (c *Cgroup) mayNotLimit(err error) bool { return c.rootless && readOnly(err) }

// ask refuses what takes a cgroup.
func (c *Cgroup) ask() error {
	if c.None() {
		return ErrNone
	}
	return nil
}

// refuseUnit refuses a scope to a caller that systemd would not make one for.
func (c *Cgroup) refuseUnit(cfg Config) error {
	if cfg.Rootless && c.unit != "" {
		return fmt.Errorf("linux.cgroupsPath %q: systemd makes scopes for root only; its user instances are not supported", cfg.Path)
	}
	return nil
}
