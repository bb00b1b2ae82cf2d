package plan

import (
	"fmt"
	"strings"
)

// Attr is a set of MOUNT_ATTR_* flags (mount_setattr(2)).
type Attr uint64

// The mount attributes, with the kernel's values (linux/mount.h).
const (
	AttrReadOnly    Attr = 0x01
	AttrNoSuid      Attr = 0x02
	AttrNoDev       Attr = 0x04
	AttrNoExec      Attr = 0x08
	AttrAtime       Attr = 0x70 // mask of the three below
	AttrRelatime    Attr = 0x00
	AttrNoAtime     Attr = 0x10
	AttrStrictAtime Attr = 0x20
	AttrNoDirAtime  Attr = 0x80
	AttrIDMap       Attr = 0x00100000
	AttrNoSymFollow Attr = 0x00200000
)

var attrNames = []struct {
	Bit  Attr
	Name string
}{
	{AttrReadOnly, "ro"}, {AttrNoSuid, "nosuid"}, {AttrNoDev, "nodev"}, {AttrNoExec, "noexec"},
	{AttrNoAtime, "noatime"}, {AttrStrictAtime, "strictatime"}, {AttrNoDirAtime, "nodiratime"},
	{AttrIDMap, "idmap"}, {AttrNoSymFollow, "nosymfollow"},
}

func (a Attr) String() string {
	var s []string
	for _, n := range attrNames {
		if a&n.Bit != 0 {
			s = append(s, n.Name)
		}
	}
	return strings.Join(s, ",")
}

// AttrChange sets and clears mount attributes.
type AttrChange struct{ Set, Clear Attr }

func (c AttrChange) text(prefix string) string {
	s := ""
	if c.Set != 0 {
		s += " " + prefix + "+" + c.Set.String()
	}
	if clear := c.Clear &^ c.Set; clear&^AttrAtime != 0 {
		s += " " + prefix + "-" + (clear &^ AttrAtime).String()
	}
	return s
}

// Propagation is MS_SHARED, MS_PRIVATE, MS_SLAVE or MS_UNBINDABLE, with or without MS_REC.
type Propagation uint64

// Propagation flags, with the kernel's values (linux/mount.h).
const (
	Recursive  Propagation = 0x04000
	Unbindable Propagation = 0x20000
	Private    Propagation = 0x40000
	Slave      Propagation = 0x80000
	Shared     Propagation = 0x100000
)

func (p Propagation) String() string {
	r := ""
	if p&Recursive != 0 {
		r = "r"
	}
	switch p &^ Recursive {
	case Unbindable:
		return r + "unbindable"
	case Private:
		return r + "private"
	case Slave:
		return r + "slave"
	case Shared:
		return r + "shared"
	}
	return ""
}

// LeaveHost cuts the mount namespace's ties to the host's.
type LeaveHost struct{ inChild }

func (LeaveHost) String() string { return "make every mount of the new mount namespace a slave" }

// Root attaches the root file system.
type Root struct {
	inChild
	Path        string      // absolute, on the host
	Propagation Propagation // while the container is being made: never shared with the host
}

func (r Root) String() string {
	s := "attach the root file system " + r.Path
	if r.Propagation&Slave != 0 {
		s += ", a slave of the host's"
	}
	return s
}

// Bind attaches a copy of a tree of the host.
type Bind struct {
	inChild
	Source, Dest string
	Recursive    bool
	Attr         AttrChange // of the top mount
	RecAttr      AttrChange // of every mount in the tree
	// Base is the propagation of the copy before Propagation applies: that of the container's root.
	Base        Propagation
	Propagation []Propagation
	IDMap       *MountIDMap
	// Proc: the source must be the root of a proc file system, and may cover /proc.
	Proc bool
	// Later: the source is a directory that the caller makes, and copies, after the clone (see EnterCgroup).
	Later bool
}

func (b Bind) String() string {
	s := "bind "
	if b.Recursive {
		s = "rbind "
	}
	s += b.Source + " on " + b.Dest + b.Attr.text("") + b.RecAttr.text("rec")
	for _, p := range b.Propagation {
		s += " " + p.String()
	}
	if b.IDMap != nil {
		s += " " + b.IDMap.String()
	}
	return s
}

// Device makes a device node; in a user namespace, where none can be made, the host's node is bound.
type Device struct {
	inChild
	Path         string
	Type         byte // 'c', 'b' or 'p'
	Major, Minor uint32
	Mode         uint32 // permission bits
	UID, GID     uint32
}

func (d Device) String() string {
	if d.Type == 'p' {
		return fmt.Sprintf("make the fifo %s mode %04o owner %d:%d", d.Path, d.Mode, d.UID, d.GID)
	}
	return fmt.Sprintf("make the device %s %c %d:%d mode %04o owner %d:%d", d.Path, d.Type, d.Major, d.Minor, d.Mode, d.UID, d.GID)
}

// BindDevice binds a device node of the host, which must be that device.
type BindDevice struct {
	inChild
	Path         string
	Type         byte // 'c' or 'b'
	Major, Minor uint32
}

func (d BindDevice) String() string { return "bind the host's device " + d.Path }

// Symlink makes a symbolic link; one that is there already stays.
type Symlink struct {
	inChild
	Target, Path string
	// Replace removes what is there first (dev/ptmx may be a node of the image).
	Replace bool
}

func (s Symlink) String() string { return "link " + s.Path + " to " + s.Target }

// Console makes the terminal and puts it on the standard streams.
type Console struct {
	atGate
	Width, Height uint16 // characters; 0 leaves the kernel's default
	// Node: it also becomes /dev/console (a container's init, not an exec).
	Node bool
	UID  uint32 // owner of the terminal
}

func (c Console) String() string {
	s := "open a terminal in the container's devpts and hand its master to the caller"
	if c.Node {
		s = "open a terminal in the container's devpts, bind it on /dev/console and hand its master to the caller"
	}
	if c.Width != 0 || c.Height != 0 {
		s += fmt.Sprintf(", %dx%d", c.Width, c.Height)
	}
	return s
}

// ReadOnlyPath makes what is at a path read-only; a missing one is skipped.
type ReadOnlyPath struct {
	inChild
	Path string
}

func (r ReadOnlyPath) String() string { return "make " + r.Path + " read-only" }

// MaskPath hides what is at a path behind /dev/null or an empty directory; a missing one is skipped.
type MaskPath struct {
	inChild
	Path  string
	Label string // SELinux context of the directory that hides another
}

func (m MaskPath) String() string { return "mask " + m.Path }

// SealMount makes a mount made before read-only, after the last thing was made in it.
type SealMount struct {
	inChild
	Dest string
}

func (s SealMount) String() string { return "make the mount " + s.Dest + " read-only" }

// Pivot makes the root file system the root and detaches the host's.
type Pivot struct {
	inChild
	Propagation Propagation // of the container's root; 0 leaves it
	// Move: the root file system is moved over the host's instead, which stays below it.
	Move bool
}

func (p Pivot) String() string {
	s := "pivot into the root file system, detach the host's"
	if p.Move {
		s = "detach the host's proc and sysfs, move the root file system over the host's"
	}
	if p.Propagation != 0 {
		s += ", root propagation " + p.Propagation.String()
	}
	return s
}

// WorkDir makes process.cwd when it is missing.
type WorkDir struct {
	inChild
	Path string
}

func (w WorkDir) String() string {
	return "make the working directory " + w.Path + " when it is missing"
}

// Label writes an attribute of a security module for the next execve.
type Label struct {
	inChild
	File  string // below /proc/thread-self/attr
	Value string
}

func (l Label) String() string { return fmt.Sprintf("write %q to attr/%s", l.Value, l.File) }
