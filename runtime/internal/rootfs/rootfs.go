// Package rootfs mounts a container's root file system on the host, as the task API describes it, and undoes that.
package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is one mount, in the form of containerd.types.Mount.
type Mount struct {
	Type, Source, Target string
	Options              []string
}

// MountAll mounts the list, in order, on target, which is made when missing. On an error nothing stays mounted. newNS is for
// mounts with the options uidmap and gidmap.
func MountAll(mounts []Mount, target string, newNS UserNS) error {
	if len(mounts) == 0 {
		return nil
	}
	if err := os.MkdirAll(target, 0o711); err != nil {
		return fmt.Errorf("make the root file system's mount point: %w", err)
	}
	// Through a link the mounts would end up elsewhere, where Unmount does not look.
	if fi, err := os.Lstat(target); err != nil || !fi.IsDir() {
		return errors.Join(fmt.Errorf("the root file system's mount point %s is not a directory", target), err)
	}
	for i, m := range mounts {
		if err := m.mount(target, newNS); err != nil {
			return errors.Join(fmt.Errorf("rootfs[%d] %s %s: %w", i, m.Type, m.Source, err), Unmount(target))
		}
	}
	return nil
}

// Unmount detaches everything that is mounted on target, with what is mounted below. A target that is no mount point, or
// does not exist, is no error.
func Unmount(target string) error {
	for {
		err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil:
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		default:
			return &os.PathError{Op: "umount", Path: target, Err: err}
		}
	}
}

var flagOptions = map[string]struct {
	clear bool
	flag  uintptr
}{
	"async": {true, unix.MS_SYNCHRONOUS}, "atime": {true, unix.MS_NOATIME}, "bind": {false, unix.MS_BIND},
	"defaults": {}, "dev": {true, unix.MS_NODEV}, "diratime": {true, unix.MS_NODIRATIME}, "dirsync": {false, unix.MS_DIRSYNC},
	"exec": {true, unix.MS_NOEXEC}, "lazytime": {false, unix.MS_LAZYTIME}, "mand": {false, unix.MS_MANDLOCK},
	"noatime": {false, unix.MS_NOATIME}, "nodev": {false, unix.MS_NODEV}, "nodiratime": {false, unix.MS_NODIRATIME},
	"noexec": {false, unix.MS_NOEXEC}, "nomand": {true, unix.MS_MANDLOCK}, "norelatime": {true, unix.MS_RELATIME},
	"nostrictatime": {true, unix.MS_STRICTATIME}, "nosuid": {false, unix.MS_NOSUID}, "rbind": {false, unix.MS_BIND | unix.MS_REC},
	"relatime": {false, unix.MS_RELATIME}, "remount": {false, unix.MS_REMOUNT}, "ro": {false, unix.MS_RDONLY},
	"rw": {true, unix.MS_RDONLY}, "strictatime": {false, unix.MS_STRICTATIME}, "suid": {true, unix.MS_NOSUID},
	"sync": {false, unix.MS_SYNCHRONOUS},
}

// parsed are a mount's options as the kernel takes them.
type parsed struct {
	flags uintptr
	loop  bool
	ids   idmap
	data  []string
}

func parse(m *Mount) (parsed, error) {
	var p parsed
	for _, o := range m.Options {
		if f, ok := flagOptions[o]; ok {
			if f.clear {
				p.flags &^= f.flag
			} else {
				p.flags |= f.flag
			}
			continue
		}
		var err error
		switch name, value, _ := strings.Cut(o, "="); {
		case o == "loop":
			p.loop = true
		case name == "uidmap":
			p.ids.uid, err = parseIDMap(o, value)
		case name == "gidmap":
			p.ids.gid, err = parseIDMap(o, value)
		case strings.HasPrefix(name, "X-containerd."):
			return p, fmt.Errorf("option %s: is for containerd, not for a shim", o)
		default:
			p.data = append(p.data, o)
		}
		if err != nil {
			return p, err
		}
	}
	if (p.ids.uid == nil) != (p.ids.gid == nil) {
		return p, errors.New("uidmap and gidmap come together or not at all")
	}
	return p, nil
}

func (m *Mount) mount(root string, newNS UserNS) error {
	if strings.HasPrefix(m.Type, "fuse.") || strings.HasPrefix(m.Type, "fuse3.") {
		return errors.New("a mount that a program like mount.fuse makes is refused: the shim runs no program of the host's; let the snapshotter mount it")
	}
	p, err := parse(m)
	if err != nil {
		return err
	}
	if m.Type == "erofs" { // can only be read, and its device is not opened for writing
		p.flags |= unix.MS_RDONLY
	}
	target, done, err := m.target(root)
	if err != nil {
		return err
	}
	defer done()
	mapped := p.ids.uid != nil
	if mapped && m.Type == "overlay" {
		return p.ids.overlay(target, m.Source, p, newNS)
	}
	if err := m.plain(target, p); err != nil || !mapped {
		return err
	}
	return p.ids.over(target, newNS)
}

// plain mounts without a look at ids.
func (m *Mount) plain(target string, p parsed) error {
	switch {
	case p.flags&unix.MS_BIND != 0 || m.Type == "bind":
		return m.bind(target, p.flags|unix.MS_BIND)
	case p.loop:
		return m.loop(target, p)
	}
	data := strings.Join(p.data, ",")
	// The kernel copies one page; more layers than fit go in one by one.
	if m.Type == "overlay" && len(data) >= os.Getpagesize()-1 {
		return overlay(target, m.Source, p)
	}
	return wrap("mount", unix.Mount(m.Source, target, m.Type, p.flags, data))
}

func wrap(step string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", step, err)
}

// target resolves where to mount, below the root without leaving it; done releases what the path depends on.
func (m *Mount) target(root string) (path string, done func(), err error) {
	rel := strings.TrimPrefix(filepath.Clean("/"+m.Target), "/")
	if rel == "" {
		return root, func() {}, nil
	}
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, rel, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return "", nil, &os.PathError{Op: "open target", Path: rel, Err: err}
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), func() { unix.Close(fd) }, nil
}

// bind mounts in two steps: the first call takes no other flag.
func (m *Mount) bind(target string, flags uintptr) error {
	if err := unix.Mount(m.Source, target, "", flags&(unix.MS_BIND|unix.MS_REC), ""); err != nil {
		return wrap("bind", err)
	}
	if rest := flags &^ (unix.MS_BIND | unix.MS_REC); rest != 0 {
		return wrap("remount", unix.Mount("", target, "", rest|unix.MS_BIND|unix.MS_REMOUNT, ""))
	}
	return nil
}

// loop mounts an image file through a loop device that goes when it is unmounted (LOOP_CONFIGURE, Linux 5.8).
func (m *Mount) loop(target string, p parsed) error {
	mode := os.O_RDWR
	flags := uint32(unix.LO_FLAGS_AUTOCLEAR)
	if p.flags&unix.MS_RDONLY != 0 {
		mode = os.O_RDONLY
		flags |= unix.LO_FLAGS_READ_ONLY
	}
	image, err := os.OpenFile(m.Source, mode, 0)
	if err != nil {
		return err
	}
	defer image.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return wrap("find a free loop device", err)
		}
		name := fmt.Sprintf("/dev/loop%d", n)
		dev, err := os.OpenFile(name, mode, 0)
		if err != nil {
			return err
		}
		config := unix.LoopConfig{Fd: uint32(image.Fd()), Info: unix.LoopInfo64{Flags: flags}}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
		if errors.Is(err, unix.EBUSY) { // somebody was faster
			dev.Close()
			continue
		}
		if err == nil {
			err = unix.Mount(name, target, m.Type, p.flags, strings.Join(p.data, ","))
		}
		dev.Close() // the mount keeps the device
		return wrap("mount "+name, err)
	}
}

// overlay mounts with more layers than a page of options holds: one by one (fsconfig(2), lowerdir+ of Linux 6.7) or, on an
// older kernel, by names relative to the directory that they have in common.
func overlay(target, source string, p parsed) error {
	err := overlayByOne(target, source, p)
	if errors.Is(err, errNoAppend) {
		return overlayRelative(target, source, p)
	}
	return err
}

// errNoAppend is a kernel that does not know lowerdir+.
var errNoAppend = errors.New("the options of this overlay exceed a page, which needs Linux 6.7")

func overlayRelative(target, source string, p parsed) error {
	dir, data := relativeLayers(p.data)
	if dir == "" || len(data) >= os.Getpagesize()-1 {
		return errNoAppend
	}
	done := make(chan error)
	go func() {
		// The thread gets a working directory of its own and ends with this goroutine, which never unlocks it.
		runtime.LockOSThread()
		err := wrap("unshare the working directory", unix.Unshare(unix.CLONE_FS))
		if err == nil {
			err = wrap("chdir "+dir, unix.Chdir(dir))
		}
		if err == nil {
			err = wrap("mount", unix.Mount(source, target, "overlay", p.flags, data))
		}
		done <- err
	}()
	return <-done
}

// relativeLayers returns the directory that all lower layers have in common, and the options with their names relative to it.
func relativeLayers(options []string) (dir, data string) {
	out := slices.Clone(options)
	for i, o := range out {
		list, ok := strings.CutPrefix(o, "lowerdir=")
		if !ok {
			continue
		}
		layers := strings.Split(list, ":")
		dir = filepath.Dir(layers[0])
		for _, l := range layers {
			for l != dir && !strings.HasPrefix(l, strings.TrimSuffix(dir, "/")+"/") {
				dir = filepath.Dir(dir)
			}
		}
		for j, l := range layers {
			layers[j] = strings.TrimPrefix(strings.TrimPrefix(l, dir), "/")
		}
		out[i] = "lowerdir=" + strings.Join(layers, ":")
	}
	return dir, strings.Join(out, ",")
}

func overlayByOne(target, source string, p parsed) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return wrap("fsopen", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "source", source); err != nil {
		return wrap("fsconfig source", err)
	}
	for _, o := range p.data {
		key, value, has := strings.Cut(o, "=")
		switch {
		case key == "lowerdir":
			for _, dir := range strings.Split(value, ":") {
				if err := unix.FsconfigSetString(fs, "lowerdir+", dir); errors.Is(err, unix.EINVAL) {
					return errNoAppend
				} else if err != nil {
					return fmt.Errorf("fsconfig lowerdir+ %s: %w", dir, err)
				}
			}
		case has:
			err = unix.FsconfigSetString(fs, key, value)
		default:
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return fmt.Errorf("fsconfig %s: %w", o, err)
		}
	}
	if err := unix.FsconfigCreate(fs); errors.Is(err, unix.EINVAL) {
		return errNoAppend // a kernel before 6.5 keeps unknown parameters for now and refuses them all
	} else if err != nil {
		return wrap("fsconfig create", err)
	}
	attr := 0
	for _, f := range []struct {
		flag uintptr
		attr int
	}{{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY}, {unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID}, {unix.MS_NODEV, unix.MOUNT_ATTR_NODEV},
		{unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC}, {unix.MS_NOATIME, unix.MOUNT_ATTR_NOATIME}} {
		if p.flags&f.flag != 0 {
			attr |= f.attr
		}
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return wrap("fsmount", err)
	}
	defer unix.Close(mnt)
	return wrap("move_mount", unix.MoveMount(mnt, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH))
}
