package plan

import (
	"fmt"
	"strings"
)

// Super is a set of MS_* flags of mount(2) that belong to the file system, not to the mount.
type Super uint64

// The flags, with the kernel's values (linux/mount.h).
const (
	Sync     Super = 0x10
	Mand     Super = 0x40
	DirSync  Super = 0x80
	Silent   Super = 0x8000
	IVersion Super = 0x800000
	LazyTime Super = 0x2000000
)

var superNames = []struct {
	Flag Super
	Name string
}{{Sync, "sync"}, {DirSync, "dirsync"}, {Mand, "mand"}, {LazyTime, "lazytime"}, {IVersion, "iversion"}, {Silent, "silent"}}

// Names returns the flags as mount options.
func (s Super) Names() []string {
	var names []string
	for _, n := range superNames {
		if s&n.Flag != 0 {
			names = append(names, n.Name)
		}
	}
	return names
}

// MountIDMap is the id mapping of an idmapped mount: its own, or that of an existing user namespace.
type MountIDMap struct {
	UID, GID  []IDMap
	UserNS    string // path
	Recursive bool   // every mount of the tree (ridmap)
}

func (m *MountIDMap) String() string {
	s := "idmapped"
	if m.Recursive {
		s = "recursively idmapped"
	}
	if m.UserNS != "" {
		return s + " as " + m.UserNS
	}
	return s + " uid " + FormatMaps(m.UID) + " gid " + FormatMaps(m.GID)
}

// FSParam is one parameter of a file system; without a value it is a flag.
type FSParam struct{ Key, Value string }

func (p FSParam) String() string {
	if p.Value == "" {
		return p.Key
	}
	return p.Key + "=" + p.Value
}

// FSOptions are what a file system is told: parameters, generic flags and the SELinux context of everything in it.
type FSOptions struct {
	Params []FSParam
	Super  Super
	Label  string // "" for none
}

// Data is the text that mount(2) hands to the file system.
func (o FSOptions) Data() string {
	var s []string
	for _, p := range o.Params {
		s = append(s, p.String())
	}
	if o.Label != "" {
		s = append(s, `context="`+o.Label+`"`) // in quotes: a label may have commas
	}
	return strings.Join(s, ",")
}

func (o FSOptions) text() string {
	words := o.Super.Names()
	if data := o.Data(); data != "" {
		words = append(words, data)
	}
	if len(words) == 0 {
		return ""
	}
	return " " + strings.Join(words, ",")
}

// MountFS makes and attaches a new file system.
type MountFS struct {
	inChild
	Type, Source, Dest string
	FSOptions
	Attr        Attr
	Propagation []Propagation
	// RealDir: Dest must be a directory that is no symbolic link (proc and sysfs).
	RealDir bool
	// DirMode: without a mode among the parameters the root directory gets the permission bits of the directory that it covers.
	DirMode bool
	// OrBind is a directory of the host that is bound, read-only, when the kernel does not let this container mount the file
	// system.
	OrBind string
	// CopyUp: the files of the directory that is covered are copied first. Such a mount, and one with an IDMap, is made by the
	// caller: its files belong to ids of the host.
	CopyUp bool
	IDMap  *MountIDMap
	// RootLabel is the SELinux label of the root directory, for file systems that take no context (mqueue).
	RootLabel string
}

// Where tells that the child waits while the caller copies.
func (m MountFS) Where() Where {
	if m.CopyUp {
		return AtGate
	}
	return InChild
}

// ByCaller tells whether the caller makes the mount.
func (m MountFS) ByCaller() bool { return m.CopyUp || m.IDMap != nil }

func (m MountFS) String() string {
	s := "mount " + m.Type + " on " + m.Dest
	if m.Attr != 0 {
		s += " +" + m.Attr.String()
	}
	s += m.FSOptions.text()
	if m.DirMode {
		s += " with the mode of what it covers"
	}
	for _, p := range m.Propagation {
		s += " " + p.String()
	}
	if m.IDMap != nil {
		s += " " + m.IDMap.String()
	}
	if m.CopyUp {
		s += ", with a copy of what it covers"
	}
	if m.RootLabel != "" {
		s += ", label it " + m.RootLabel
	}
	if m.OrBind != "" {
		s += ", or bind " + m.OrBind + " read-only"
	}
	return s
}

// Remount changes a mount that is there.
type Remount struct {
	inChild
	Dest string
	// Bind: the mount alone, not its file system.
	Bind          bool
	Attr, RecAttr AttrChange
	FSOptions
	Propagation []Propagation
}

func (r Remount) String() string {
	s := "remount " + r.Dest + r.Attr.text("") + r.RecAttr.text("rec") + r.FSOptions.text()
	if r.Bind {
		s = "change the mount " + r.Dest + r.Attr.text("") + r.RecAttr.text("rec")
	}
	for _, p := range r.Propagation {
		s += " " + p.String()
	}
	return s
}

// FormatMaps prints maps in one line.
func FormatMaps(maps []IDMap) string {
	var s []string
	for _, e := range maps {
		s = append(s, fmt.Sprintf("%d:%d:%d", e.Container, e.Host, e.Size))
	}
	return strings.Join(s, ",")
}
