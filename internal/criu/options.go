package criu

import (
	"github.com/gosuda/gosudacon/internal/wire"
)

// Options are the part of criu_opts that containers need. A zero value is criu's default, but for the descriptors.
type Options struct {
	ImagesDir      int    // descriptor of the directory of the images
	WorkDir        int    // descriptor of the directory of the log; 0 for ImagesDir
	LogFile        string // its name in there
	ConfigFile     string // of further options, which replace these; one that does not exist is none
	Pid            int    // the first process to dump
	Root           string // of the processes, as this process sees it
	ParentImages   string // of an earlier pre-dump, relative to ImagesDir
	FreezeCgroup   string // a directory, to stop the processes by
	ManageCgroups  CgroupMode
	CgroupRoots    []CgroupRoot
	ExternalMounts []Pair   // dump: mount point and name; restore: name and source
	External       []string // other things that are not in the images, as in "net[INODE]:NAME"
	InheritFDs     []InheritFD
	JoinNamespaces []Pair // kind and path of a namespace
	EmptyNs        uint32 // CLONE_NEW* flags of the namespaces to be made as they are when new
	PageServer     PageServer

	LeaveRunning    bool
	ExtUnixSk       bool
	TCPEstablished  bool
	TCPSkipInFlight bool
	TCPClose        bool
	EvasiveDevices  bool
	ShellJob        bool
	FileLocks       bool
	TrackMem        bool
	AutoDedup       bool
	LinkRemap       bool
	LazyPages       bool
	OrphanPtsMaster bool
	RestoreSibling  bool // the first process becomes a child of this process

	NetworkLock     NetworkLock
	LSMProfile      string
	LSMMountContext string
}

// Pair is two words that belong together.
type Pair struct{ Key, Value string }

// InheritFD gives a process that is restored one of criu's own descriptors in place of the file that the images name.
type InheritFD struct {
	Key string
	FD  int // number in criu
}

// CgroupRoot is the cgroup, of a controller, that those of the images are to be below.
type CgroupRoot struct{ Controller, Path string }

// PageServer is where the memory goes instead of the images.
type PageServer struct {
	Address string
	Port    uint16
}

// CgroupMode says how much of the processes' cgroups is restored.
type CgroupMode uint8

// The modes, with criu's numbers.
const (
	CgroupIgnore  CgroupMode = 0
	CgroupSoft    CgroupMode = 3 // properties of those only that it makes
	CgroupFull    CgroupMode = 4
	CgroupStrict  CgroupMode = 5 // none may be there
	CgroupDefault CgroupMode = 6 // soft
)

// NetworkLock is how connections are kept from changing meanwhile, with criu's numbers; 0 is its default.
type NetworkLock uint8

// The ways.
const (
	LockIptables NetworkLock = 1
	LockNftables NetworkLock = 2
	LockSkip     NetworkLock = 3
)

// logLevel is debug: when something fails, the log is all there is.
const logLevel = 4

// encode writes a criu_opts. The numbers are its fields.
func (o *Options) encode() []byte {
	var b []byte
	flag := func(num int, set bool) {
		if set {
			b = wire.AppendVarint(b, num, 1)
		}
	}
	b = wire.AppendInteger(b, 1, uint64(o.ImagesDir))
	b = wire.AppendVarint(b, 2, uint64(o.Pid))
	flag(3, o.LeaveRunning)
	flag(4, o.ExtUnixSk)
	flag(5, o.TCPEstablished)
	flag(6, o.EvasiveDevices)
	flag(7, o.ShellJob)
	flag(8, o.FileLocks)
	b = wire.AppendVarint(b, 9, logLevel)
	b = wire.AppendString(b, 10, o.LogFile)
	if s := o.PageServer; s != (PageServer{}) {
		b = wire.AppendMessage(b, 11, wire.AppendVarint(wire.AppendString(nil, 1, s.Address), 2, uint64(s.Port)))
	}
	flag(12, true) // notify_scripts: ask back
	b = wire.AppendString(b, 13, o.Root)
	b = wire.AppendString(b, 14, o.ParentImages)
	flag(15, o.TrackMem)
	flag(16, o.AutoDedup)
	b = wire.AppendVarint(b, 17, uint64(o.WorkDir))
	flag(18, o.LinkRemap)
	for _, m := range o.ExternalMounts {
		b = wire.AppendMessage(b, 23, m.encode())
	}
	flag(24, true) // manage_cgroups, for those that do not know manage_cgroups_mode
	for _, r := range o.CgroupRoots {
		b = wire.AppendMessage(b, 25, Pair{r.Controller, r.Path}.encode())
	}
	flag(26, o.RestoreSibling)
	for _, f := range o.InheritFDs {
		b = wire.AppendMessage(b, 27, wire.AppendInteger(wire.AppendString(nil, 1, f.Key), 2, uint64(f.FD)))
	}
	b = wire.AppendInteger(b, 34, uint64(o.ManageCgroups))
	for _, e := range o.External {
		b = wire.AppendString(b, 37, e)
	}
	b = wire.AppendVarint(b, 38, uint64(o.EmptyNs))
	for _, n := range o.JoinNamespaces {
		b = wire.AppendMessage(b, 39, n.encode())
	}
	b = wire.AppendString(b, 44, o.FreezeCgroup)
	flag(46, o.TCPSkipInFlight)
	flag(48, o.LazyPages)
	flag(50, o.OrphanPtsMaster)
	b = wire.AppendString(b, 51, o.ConfigFile)
	flag(52, o.TCPClose)
	b = wire.AppendString(b, 53, o.LSMProfile)
	b = wire.AppendString(b, 63, o.LSMMountContext)
	return wire.AppendVarint(b, 64, uint64(o.NetworkLock))
}

// encode writes the fields 1 and 2 of ext_mount_map, join_namespace or cgroup_root, also when they are empty: the cgroup2 tree
// has no name.
func (p Pair) encode() []byte {
	return wire.AppendMessage(wire.AppendMessage(nil, 1, []byte(p.Key)), 2, []byte(p.Value))
}
