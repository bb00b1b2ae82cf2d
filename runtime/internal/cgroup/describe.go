package cgroup

import (
	"fmt"
	"strings"
)

// Deed is something that is done to a cgroup before a process is in it.
type Deed struct {
	Property string // of config.json
	What     string
}

// Describe lists what Create is going to do.
func (c *Cgroup) Describe() []Deed {
	deeds := c.describePlaces()
	for _, s := range c.settings {
		deeds = append(deeds, Deed{"linux.resources." + s.property, fmt.Sprintf("write %q to %s", s.value, s.file)})
	}
	if c.devices != nil && (c.dir("devices") != "" || c.unified != "") {
		deeds = append(deeds, Deed{"linux.resources.devices", c.devices.describe()})
	}
	return deeds
}

// describePlaces has a line for every path that is the same in several hierarchies.
func (c *Cgroup) describePlaces() (deeds []Deed) {
	const property = "linux.cgroupsPath"
	if c.unit != "" {
		return []Deed{{property, fmt.Sprintf("have systemd make the unit %s in %s", c.unit, c.slice)}}
	}
	names := map[string][]string{}
	var paths []string
	add := func(path, mount, name string) {
		rel := strings.TrimPrefix(path, mount)
		if names[rel] == nil {
			paths = append(paths, rel)
		}
		names[rel] = append(names[rel], name)
	}
	for _, d := range c.dirs {
		add(d.path, d.mount, strings.Join(d.controllers, ","))
	}
	if c.unified != "" {
		add(c.unified, c.host.Unified, "cgroup2")
	}
	for _, p := range paths {
		deeds = append(deeds, Deed{property, fmt.Sprintf("make the cgroup %s of %s", p, strings.Join(names[p], " "))})
	}
	return deeds
}

func (p *devicePolicy) describe() string {
	var list []string
	for _, e := range p.exceptions {
		list = append(list, e.String())
	}
	text := "deny every device"
	if p.allow {
		text = "allow every device"
	}
	if len(list) > 0 {
		text += " but " + strings.Join(list, ", ")
	}
	return text
}
