package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// apply writes settings. Some depend on others (a quota on its period, memory on memory+swap) in an order that the old
// values decide: what the kernel calls invalid is written again after the rest.
func (c *Cgroup) apply(settings []setting) error {
	var again []setting
	for _, s := range settings {
		err := c.put(s)
		if errors.Is(err, unix.EINVAL) {
			again = append(again, s)
			continue
		}
		if err != nil {
			return err
		}
	}
	for _, s := range again {
		if err := c.put(s); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cgroup) put(s setting) error {
	err := writeFile(c.file(s.controller, s.file), s.value)
	if errors.Is(err, unix.ENOENT) && s.other.file != "" {
		err = writeFile(c.file(s.controller, s.other.file), s.other.value)
	}
	switch {
	case errors.Is(err, unix.ENOENT) && s.optional:
		return nil
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("linux.resources.%s: %s", s.property, c.missing(s))
	case err != nil:
		return fmt.Errorf("set linux.resources.%s to %q: %w%s", s.property, s.value, err, c.hint(s, err))
	case s.mayIgnore:
		return c.checkTaken(s)
	}
	return nil
}

// missing says why the file of a setting is not there.
func (c *Cgroup) missing(s setting) string {
	if c.host.home(s.controller) == V2 && s.controller != "cgroup" {
		have, err := readFile(c.unified + "/cgroup.controllers")
		if err == nil && !slices.Contains(strings.Fields(have), s.controller) {
			return fmt.Sprintf("the %s controller is not handed down to %s, by cgroup.subtree_control of a directory above it",
				s.controller, c.unified)
		}
	}
	file := s.file
	if s.other.file != "" {
		file += " or " + s.other.file
	}
	return fmt.Sprintf("this kernel has no %s in cgroup v%d", file, c.host.home(s.controller))
}

// hint returns what the caller can do about a value that the kernel refused, "" when there is nothing to add.
func (c *Cgroup) hint(s setting, err error) string {
	switch {
	case s.file == "memory.limit_in_bytes" && errors.Is(err, unix.EBUSY):
		usage, err := readFile(c.file(s.controller, "memory.usage_in_bytes"))
		if err != nil {
			return ""
		}
		return fmt.Sprintf(" (%s bytes are in use and cannot be reclaimed)", usage)
	case s.file == "memory.limit_in_bytes" && errors.Is(err, unix.EINVAL):
		swap, err := readFile(c.file(s.controller, "memory.memsw.limit_in_bytes"))
		if err != nil {
			return ""
		}
		return fmt.Sprintf(" (it is more than the limit of memory and swap together, %s: set memory.swap too)", swap)
	case strings.HasPrefix(s.file, "cpu.rt_") && errors.Is(err, unix.EINVAL):
		return fmt.Sprintf(" (%s must have that much to give away)", filepath.Dir(c.dir(s.controller)))
	case s.file == "cpuset.cpus" || s.file == "cpuset.mems":
		file := s.file
		if c.host.home(s.controller) == V2 {
			file += ".effective"
		}
		all, err := readFile(filepath.Join(filepath.Dir(c.file(s.controller, s.file)), "..", file))
		if err != nil {
			return ""
		}
		return fmt.Sprintf(" (the cgroup above has %q)", all)
	}
	return ""
}

// checkTaken fails when the kernel took a limit without an error and ignores it.
func (c *Cgroup) checkTaken(s setting) error {
	now, err := readFile(c.file(s.controller, s.file))
	if err != nil {
		return fmt.Errorf("linux.resources.%s: %w", s.property, err)
	}
	want, errWant := strconv.ParseUint(s.value, 10, 64)
	have, errHave := strconv.ParseUint(now, 10, 64)
	if errWant == nil && errHave == nil && have > want { // less is the limit in whole pages
		return fmt.Errorf("linux.resources.%s: this kernel ignores %s (Linux 5.16 and later do)", s.property, s.file)
	}
	return nil
}

// file returns the path of a controller's file.
func (c *Cgroup) file(controller, name string) string {
	path := c.dir(controller)
	if path == "" {
		path = c.unified
	}
	return path + "/" + name
}
