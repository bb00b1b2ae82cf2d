package cgroup

import "github.com/opencontainers/runtime-spec/specs-go"

// Set changes limits of the live cgroup. Fields that are nil or zero stay as they are, and so do device rules, whatever r
// says of them. Nothing is changed when r asks for something that cannot be had.
func (c *Cgroup) Set(r *specs.LinuxResources) error {
	settings, err := compile(r, c.host, func(controller, file string) (string, error) {
		return readFile(c.file(controller, file))
	})
	if err != nil {
		return err
	}
	if c.unit != "" {
		if err := c.setUnit(settings); err != nil {
			return err
		}
	}
	return c.apply(settings)
}
