package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/parity/ask"
)

// bundle is one variation's bundle, while it is made.
type bundle struct {
	id     string
	dir    string // "$BUNDLE" in what is compared
	rootfs string
	host   *host

	*specs.Spec
	Ask ask.Question
}

// variation is a named change of the base bundle.
type variation struct {
	name   string
	change func(*bundle)
}

// vary is a variation of the spec alone.
func vary(name string, change func(*bundle)) variation { return variation{name, change} }

// busybox is Debian's busybox-static.
const busybox = "/bin/busybox"

// newBundle makes the bundle of a variation in dir.
func (s *suite) newBundle(v variation, dir string) (*bundle, error) {
	b := &bundle{id: "parity-" + v.name, dir: dir, rootfs: filepath.Join(dir, "rootfs"), host: s.host, Spec: baseSpec()}
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "run", "root", "home", "data", "data/deep"} {
		if err := os.MkdirAll(filepath.Join(b.rootfs, d), 0o755); err != nil {
			return nil, err
		}
	}
	b.write("rootfs/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
	b.write("rootfs/etc/group", "root:x:0:\nuser:x:1000:\nwheel:x:10:user\n")
	b.write("rootfs/data/file", "of the root file system")
	b.write("source/file", "of the source")
	b.write("source/program", "#!/bin/sh\nexit 0\n")
	for _, err := range []error{
		os.Link(s.probe, filepath.Join(b.rootfs, ask.Probe)),
		os.Symlink("../probe", filepath.Join(b.rootfs, "bin/probe")),
		copyFile(busybox, filepath.Join(b.rootfs, "bin/busybox")),
		os.Symlink("busybox", filepath.Join(b.rootfs, "bin/sh")),
		os.Symlink("busybox", filepath.Join(b.rootfs, "bin/true")),
		os.Chmod(filepath.Join(dir, "source/program"), 0o755),
		os.Chmod(filepath.Join(b.rootfs, "tmp"), 0o1777|os.ModeSticky),
	} {
		if err != nil {
			return nil, err
		}
	}
	b.Ask = ask.Question{Namespaces: s.host.namespaces, Joined: s.host.joined, Cgroups: s.host.cgroups,
		Read:  []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"},
		Write: []string{"/", "/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/sys/kernel/mm/ksm/run", "/dev", "/dev/shm", "/run", "/tmp"}}
	v.change(b)
	for name, value := range map[string]any{"config.json": b.Spec, filepath.Join("rootfs", ask.File): b.Ask} {
		text, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return nil, err
		}
		b.write(name, string(text))
	}
	return b, nil
}

// write makes a file below the bundle. What goes wrong here is a mistake in this suite.
func (b *bundle) write(name, text string) {
	path := filepath.Join(b.dir, name)
	b.must(errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)))
}

func (b *bundle) must(err error) {
	if err != nil {
		panic(fmt.Sprintf("%s: %v", b.id, err))
	}
}

// mkdir makes a directory below the bundle and returns its path.
func (b *bundle) mkdir(name string) string {
	path := filepath.Join(b.dir, name)
	b.must(os.MkdirAll(path, 0o755))
	return path
}

// mount appends a mount.
func (b *bundle) mount(destination, kind, source string, options ...string) {
	b.Mounts = append(b.Mounts, specs.Mount{Destination: destination, Type: kind, Source: source, Options: options})
}

// bind appends a bind mount of the bundle's directory source.
func (b *bundle) bind(destination string, options ...string) {
	b.mount(destination, "bind", filepath.Join(b.dir, "source"), append([]string{"bind"}, options...)...)
}

// unmount takes a mount out of the base.
func (b *bundle) unmount(destination string) {
	var rest []specs.Mount
	for _, m := range b.Mounts {
		if m.Destination != destination {
			rest = append(rest, m)
		}
	}
	b.Mounts = rest
}

// namespace adds a namespace, or gives the one of that type the path.
func (b *bundle) namespace(kind specs.LinuxNamespaceType, path string) {
	b.share(kind)
	b.Linux.Namespaces = append(b.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
}

// share takes a namespace out: the container has the host's.
func (b *bundle) share(kind specs.LinuxNamespaceType) {
	var rest []specs.LinuxNamespace
	for _, n := range b.Linux.Namespaces {
		if n.Type != kind {
			rest = append(rest, n)
		}
	}
	b.Linux.Namespaces = rest
}

// users gives the container a user namespace, whose ids it owns its files by.
func (b *bundle) users() {
	b.namespace(specs.UserNamespace, "")
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100_000, Size: 65536}}
	b.Linux.UIDMappings, b.Linux.GIDMappings = ids, ids
	b.must(filepath.WalkDir(b.rootfs, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Nlink > 1 && st.Mode&unix.S_IFMT == unix.S_IFREG {
			return err // the probe, which others share
		}
		return unix.Lchown(path, 100_000, 100_000)
	}))
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("%w (Debian's busybox-static)", err)
	}
	return os.WriteFile(to, text, 0o755)
}

// ptr is the address of a value.
func ptr[T any](v T) *T { return &v }

// baseSpec is like the config that containerd makes.
func baseSpec() *specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"}
	std := []string{"nosuid", "noexec", "nodev"}
	with := func(options ...string) []string { return append(append([]string{}, std...), options...) }
	return &specs.Spec{
		Version:  "1.2.0",
		Root:     &specs.Root{Path: "rootfs"},
		Hostname: "parity",
		Process: &specs.Process{
			Args: []string{ask.Probe}, Cwd: "/", NoNewPrivileges: true,
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1024, Soft: 1024}},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: std},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: with("mode=1777", "size=65536k")},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: std},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: with("ro")},
			{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		},
		Linux: &specs.Linux{
			Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
			Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}},
			MaskedPaths: []string{"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware",
				"/sys/devices/virtual/powercap", "/proc/scsi"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}
