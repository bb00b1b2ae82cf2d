package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// validate refuses what is missing, malformed, or not to be had on this machine.
func (c *compiler) validate() error {
	s := c.spec
	if v := s.Version; v == "" {
		return &Error{"ociVersion", "is missing"}
	} else if !strings.HasPrefix(v, "1.") {
		return &Error{"ociVersion", fmt.Sprintf("%q is not 1.x", v)}
	}
	if s.Root == nil || s.Root.Path == "" {
		return &Error{"root.path", "is missing"}
	}
	if s.Linux == nil {
		s.Linux = &specs.Linux{}
	}
	l := s.Linux
	if l.MountLabel != "" && !c.facts.hasSELinux() {
		return &Error{"linux.mountLabel", "SELinux is not enabled in this kernel"}
	}
	for _, check := range []func() error{c.intelRdt, c.validateSizes, c.validateMaps, c.validateHooks} {
		if err := check(); err != nil {
			return err
		}
	}
	if s.Process == nil {
		return nil
	}
	return c.validateProcess(s.Process)
}

func (c *compiler) validateProcess(p *specs.Process) error {
	switch {
	case len(p.Args) == 0:
		return &Error{"process.args", "is empty"}
	case p.Args[0] == "":
		return &Error{"process.args[0]", "is empty"}
	case !path.IsAbs(p.Cwd):
		return &Error{"process.cwd", fmt.Sprintf("%q is not an absolute path", p.Cwd)}
	case p.User.Username != "":
		return &Error{"process.user.username", "is of another platform; use uid and gid"}
	}
	if s := p.ConsoleSize; p.Terminal && s != nil && (s.Width > 0xffff || s.Height > 0xffff) {
		return &Error{"process.consoleSize", fmt.Sprintf("%dx%d is too large", s.Width, s.Height)}
	}
	// The kernel takes -1 for "leave as it is": that process would stay root (CVE-2024-40635).
	for name, id := range map[string]uint32{"uid": p.User.UID, "gid": p.User.GID} {
		if id > maxID {
			return &Error{"process.user." + name, fmt.Sprintf("%d is no id", id)}
		}
	}
	if i := slices.Index(p.User.AdditionalGids, maxID+1); i >= 0 {
		return &Error{fmt.Sprintf("process.user.additionalGids[%d]", i), fmt.Sprintf("%d is no id", uint32(maxID+1))}
	}
	for i, a := range p.Args {
		if strings.ContainsRune(a, 0) {
			return &Error{fmt.Sprintf("process.args[%d]", i), "contains a NUL byte"}
		}
	}
	if a := p.OOMScoreAdj; a != nil && (*a < -1000 || *a > 1000) {
		return &Error{"process.oomScoreAdj", fmt.Sprintf("%d is not between -1000 and 1000", *a)}
	}
	if u := p.User.Umask; u != nil && *u > 0o777 {
		return &Error{"process.user.umask", fmt.Sprintf("%#o is no umask", *u)}
	}
	return validateProcessSizes(p)
}

// intelRdt refuses linux.intelRdt.
func (c *compiler) intelRdt() error {
	if c.spec.Linux.IntelRdt == nil {
		return nil
	}
	if c.facts.Resctrl != nil {
		if lack := c.facts.Resctrl(); lack != "" {
			return &Error{"linux.intelRdt", lack}
		}
	}
	return &Error{"linux.intelRdt", "is not supported yet"}
}
