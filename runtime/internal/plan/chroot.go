package plan

import (
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A container that shares a mount namespace, the caller's or one that it joins, has its root file system as its root directory
// and nothing more: whatever was mounted for it would be mounted for all others there, and stay when it is gone.

// sharesMounts tells whether a container has no mount namespace of its own.
func sharesMounts(spec *specs.Spec) bool {
	for _, n := range spec.Linux.Namespaces {
		if n.Type == specs.MountNamespace {
			return n.Path != ""
		}
	}
	return true
}

// sharedMounts refuses what takes a mount namespace of the container's own.
func (c *compiler) sharedMounts() error {
	if c.newNS&NewMount != 0 {
		return nil
	}
	l := c.spec.Linux
	for _, p := range []struct {
		set  bool
		name string
	}{
		{c.spec.Root.Readonly, "root.readonly"}, {len(c.spec.Mounts) > 0, "mounts"}, {len(l.MaskedPaths) > 0, "linux.maskedPaths"},
		{len(l.ReadonlyPaths) > 0, "linux.readonlyPaths"}, {l.RootfsPropagation != "", "linux.rootfsPropagation"},
		{c.inUserNS(), "linux.namespaces: a user namespace"}, {c.opts.NoPivot, "the option not to pivot"},
		{c.spec.Process != nil && c.spec.Process.Terminal, "process.terminal"},
	} {
		if p.set {
			return &Error{p.name, "needs a new mount namespace in linux.namespaces"}
		}
	}
	return nil
}

// chroot plans the root directory.
func (c *compiler) chroot() error {
	c.add("root.path", OpenRoot{Path: c.opts.RootPath})
	if err := c.devices(); err != nil {
		return err
	}
	c.runHooks(beforePivot...)
	c.workDir()
	c.add("root.path", Chroot{})
	return nil
}

// OpenRoot opens the root file system of a container that shares a mount namespace.
type OpenRoot struct {
	inChild
	Path string // absolute, in that namespace
}

func (r OpenRoot) String() string { return "open the root file system " + r.Path }

// Chroot makes the root file system the root directory.
type Chroot struct{ inChild }

func (Chroot) String() string { return "make the root file system the root directory" }
