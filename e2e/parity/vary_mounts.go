package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mountOptions tries every option of the spec: on a tmpfs, and those that act recursively on a bind mount with another below.
func mountOptions() []variation {
	var all []variation
	for _, option := range strings.Fields("async atime defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime " +
		"noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow relatime ro rw silent strictatime suid symfollow sync") {
		all = append(all,
			vary("tmpfs-"+option, func(b *bundle) { b.mount("/mnt", "tmpfs", "tmpfs", option, "size=64k"); b.touch("/mnt") }),
			vary("bind-"+option, func(b *bundle) { b.bind("/mnt", option); b.touch("/mnt") }))
	}
	for _, option := range strings.Fields("rro rrw rnosuid rsuid rnodev rdev rnoexec rexec rnodiratime rdiratime rrelatime rnorelatime rnoatime ratime " +
		"rstrictatime rnostrictatime rnosymfollow rsymfollow") {
		all = append(all, vary("bind-"+option, func(b *bundle) {
			b.below("source/below")
			b.bind("/mnt", "rbind", option)
			b.touch("/mnt")
			b.touch("/mnt/below")
		}))
	}
	several := func(name string, options ...string) {
		all = append(all, vary("options-"+name, func(b *bundle) { b.mount("/mnt", "tmpfs", "tmpfs", options...); b.touch("/mnt") }))
	}
	several("last-wins", "ro", "noexec", "rw", "exec")
	several("unknown", "no-such-option")
	several("size", "size=1m", "mode=0700", "uid=1000", "gid=1000", "nr_inodes=50")
	several("bad-value", "size=large")
	several("none")
	return all
}

// touch asks the probe to write to and to execute from a directory.
func (b *bundle) touch(path string) {
	b.Ask.Read = append(b.Ask.Read, path)
	b.Ask.Write = append(b.Ask.Write, path, path+"/file")
	b.Ask.Execute = append(b.Ask.Execute, path+"/program")
}

// below mounts a tmpfs in the bundle on the host's side, for what is mounted recursively.
func (b *bundle) below(name string) {
	dir := b.mkdir(name)
	b.must(unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"))
	b.write(name+"/file", "below")
}

func mounts() []variation {
	bind := func(name string, change func(*bundle), destination string, options ...string) variation {
		return vary("bind-"+name, func(b *bundle) {
			if change != nil {
				change(b)
			}
			b.bind(destination, options...)
			b.touch(destination)
		})
	}
	file := func(name, destination string, options ...string) variation {
		return vary("bind-"+name, func(b *bundle) {
			b.mount(destination, "bind", filepath.Join(b.dir, "source/file"), append([]string{"bind"}, options...)...)
			b.Ask.Read, b.Ask.Write = append(b.Ask.Read, destination), append(b.Ask.Write, destination)
		})
	}
	link := func(target string) func(*bundle) {
		return func(b *bundle) { b.must(os.Symlink(target, filepath.Join(b.rootfs, "link"))) }
	}
	return []variation{
		bind("dir", nil, "/mnt"),
		bind("dir-ro", nil, "/mnt", "ro"),
		bind("dir-ro-nosuid", nil, "/mnt", "ro", "nosuid", "nodev", "noexec"),
		bind("existing", nil, "/data"),
		bind("deep-missing", nil, "/a/b/c"),
		bind("relative-destination", nil, "mnt"),
		bind("dots", nil, "/data/../mnt"),
		bind("symlink", link("/data"), "/link"),
		bind("symlink-relative", link("data/deep"), "/link"),
		bind("symlink-dangling", link("/later"), "/link"),
		bind("symlink-out", link("../../../../../tmp/out"), "/link/below"),
		bind("symlink-loop", link("/link"), "/link"),
		bind("on-dev", nil, "/dev/mnt"),
		bind("on-root", nil, "/"),
		bind("on-proc", nil, "/proc/mnt"),
		bind("over-proc", nil, "/proc"),
		bind("non-recursive", func(b *bundle) { b.below("source/below"); b.Ask.Read = append(b.Ask.Read, "/mnt/below") }, "/mnt"),
		bind("recursive", func(b *bundle) { b.below("source/below"); b.Ask.Read = append(b.Ask.Read, "/mnt/below") }, "/mnt", "rbind"),
		bind("recursive-ro", func(b *bundle) { b.below("source/below"); b.touch("/mnt/below") }, "/mnt", "rbind", "ro"),
		bind("remount", nil, "/mnt", "remount", "ro"),
		bind("with-data", nil, "/mnt", "size=1m"),
		file("file", "/new-file"),
		file("file-ro", "/new-file", "ro"),
		file("file-existing", "/etc/passwd"),
		file("file-deep", "/a/b/file"),
		file("file-on-directory", "/data"),
		file("file-proc", "/proc/cpuinfo"),
		vary("bind-dir-on-file", func(b *bundle) { b.bind("/etc/passwd") }),
		vary("bind-missing-source", func(b *bundle) { b.mount("/mnt", "bind", "/no/such/source", "bind") }),
		vary("bind-relative-source", func(b *bundle) { b.mount("/mnt", "bind", "source", "bind"); b.touch("/mnt") }),
		vary("bind-no-type", func(b *bundle) { b.mount("/mnt", "", filepath.Join(b.dir, "source"), "rbind", "ro"); b.touch("/mnt") }),
		vary("bind-type-none", func(b *bundle) { b.mount("/mnt", "none", filepath.Join(b.dir, "source"), "rbind"); b.touch("/mnt") }),
		vary("bind-no-option", func(b *bundle) { b.mount("/mnt", "bind", filepath.Join(b.dir, "source")); b.touch("/mnt") }),
		vary("bind-twice", func(b *bundle) { b.bind("/mnt"); b.mount("/mnt/deep", "tmpfs", "tmpfs"); b.touch("/mnt") }),
		vary("bind-order", func(b *bundle) { b.mount("/mnt/deep", "tmpfs", "tmpfs"); b.bind("/mnt"); b.touch("/mnt") }),
		vary("tmpfs-existing", func(b *bundle) {
			b.must(os.Chmod(b.mkdir("rootfs/mode"), 0o1711|os.ModeSticky))
			b.mount("/mode", "tmpfs", "tmpfs")
		}),
		vary("tmpfs-copy-up", func(b *bundle) { b.mount("/data", "tmpfs", "tmpfs", "tmpcopyup"); b.touch("/data") }),
		vary("overlay", func(b *bundle) {
			b.mkdir("lower")
			b.write("lower/file", "lower")
			dir := b.mkdir("layers")
			b.must(unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
			b.mkdir("layers/upper")
			b.mkdir("layers/work")
			b.mount("/mnt", "overlay", "overlay", "lowerdir="+filepath.Join(b.dir, "lower"), "upperdir="+filepath.Join(dir, "upper"), "workdir="+filepath.Join(dir, "work"))
			b.touch("/mnt")
		}),
		vary("proc-subset", func(b *bundle) { b.unmount("/proc"); b.mount("/proc", "proc", "proc", "nosuid", "subset=pid") }),
		vary("proc-hidepid", func(b *bundle) { b.unmount("/proc"); b.mount("/proc", "proc", "proc", "nosuid", "hidepid=2") }),
		vary("proc-ro", func(b *bundle) { b.unmount("/proc"); b.mount("/proc", "proc", "proc", "ro") }),
		vary("proc-twice", func(b *bundle) { b.mount("/other-proc", "proc", "proc") }),
		vary("proc-none", func(b *bundle) { b.unmount("/proc") }),
		vary("sys-rw", func(b *bundle) {
			b.unmount("/sys")
			b.mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "rw")
		}),
		vary("sys-none", func(b *bundle) { b.unmount("/sys") }),
		vary("dev-none", func(b *bundle) {
			for _, d := range []string{"/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"} {
				b.unmount(d)
			}
		}),
		vary("dev-ro", func(b *bundle) { b.option("/dev", "ro") }),
		vary("dev-of-host", func(b *bundle) {
			for _, d := range []string{"/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"} {
				b.unmount(d)
			}
			b.must(os.Mkdir(filepath.Join(b.dir, "dev"), 0o755))
			b.must(unix.Mount("tmpfs", filepath.Join(b.dir, "dev"), "tmpfs", 0, ""))
			b.must(unix.Mknod(filepath.Join(b.dir, "dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
			b.mount("/dev", "bind", filepath.Join(b.dir, "dev"), "rbind", "rprivate")
		}),
		vary("devpts-options", func(b *bundle) {
			b.unmount("/dev/pts")
			b.mount("/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0600", "mode=0600", "max=10")
		}),
		vary("shm-size", func(b *bundle) { b.unmount("/dev/shm"); b.mount("/dev/shm", "tmpfs", "shm", "size=1m", "mode=700") }),
		vary("cgroup-ro", func(b *bundle) {
			b.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev", "relatime")
		}),
		vary("cgroup-rw", func(b *bundle) { b.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev") }),
		vary("cgroup-ns", func(b *bundle) {
			b.namespace(specs.CgroupNamespace, "")
			b.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev")
		}),
		vary("cgroup-ns-rw", func(b *bundle) {
			b.namespace(specs.CgroupNamespace, "")
			b.mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw")
		}),
		vary("idmap", func(b *bundle) { b.idmap("idmap") }),
		vary("idmap-recursive", func(b *bundle) { b.below("source/below"); b.idmap("rbind", "ridmap") }),
		vary("idmap-own", func(b *bundle) {
			b.idmap()
			b.Mounts[len(b.Mounts)-1].Options = []string{"bind"}
		}),
		vary("idmap-userns", func(b *bundle) { b.users(); b.bind("/mnt", "idmap"); b.touch("/mnt") }),
		vary("idmap-without", func(b *bundle) { b.bind("/mnt", "idmap") }),
		vary("unknown-type", func(b *bundle) { b.mount("/mnt", "nosuchfs", "none") }),
		vary("mqueue", func(b *bundle) { b.mount("/mnt", "mqueue", "mqueue", "nosuid", "noexec", "nodev") }),
	}
}

// option adds an option to a mount of the base.
func (b *bundle) option(destination, option string) {
	for i := range b.Mounts {
		if b.Mounts[i].Destination == destination {
			b.Mounts[i].Options = append(b.Mounts[i].Options, option)
		}
	}
}

// idmap mounts the source with mappings of its own.
func (b *bundle) idmap(options ...string) {
	b.bind("/mnt", options...)
	m := &b.Mounts[len(b.Mounts)-1]
	m.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 5000, Size: 1000}}
	m.GIDMappings = m.UIDMappings
	b.touch("/mnt")
}

// propagations tries those of single mounts and of the root.
func propagations() []variation {
	var all []variation
	for _, p := range strings.Fields("private shared slave unbindable rprivate rshared rslave runbindable") {
		all = append(all,
			vary("propagation-"+p, func(b *bundle) { b.bind("/mnt", "rbind", p) }),
			vary("propagation-shared-source-"+p, func(b *bundle) {
				dir := filepath.Join(b.dir, "source")
				b.must(unix.Mount(dir, dir, "", unix.MS_BIND, ""))
				b.must(unix.Mount("", dir, "", unix.MS_SHARED, ""))
				b.bind("/mnt", "rbind", p)
			}),
			vary("root-propagation-"+p, func(b *bundle) { b.Linux.RootfsPropagation = p }),
		)
	}
	return append(all,
		vary("propagation-tmpfs", func(b *bundle) { b.mount("/mnt", "tmpfs", "tmpfs", "shared") }),
		vary("root-propagation-unknown", func(b *bundle) { b.Linux.RootfsPropagation = "nosuch" }),
		vary("root-propagation-shared-host", func(b *bundle) {
			b.must(unix.Mount(b.dir, b.dir, "", unix.MS_BIND, ""))
			b.must(unix.Mount("", b.dir, "", unix.MS_SHARED, ""))
			b.Linux.RootfsPropagation = "rslave"
		}),
	)
}

// filesystems are variations of the root file system, of masked and of read-only paths.
func filesystems() []variation {
	mask := func(name string, change func(*bundle), paths ...string) variation {
		return vary("masked-"+name, func(b *bundle) {
			if change != nil {
				change(b)
			}
			b.Linux.MaskedPaths = append(b.Linux.MaskedPaths, paths...)
			b.Ask.Read, b.Ask.Write = append(b.Ask.Read, paths...), append(b.Ask.Write, paths...)
		})
	}
	readonly := func(name string, change func(*bundle), paths ...string) variation {
		return vary("readonly-"+name, func(b *bundle) {
			if change != nil {
				change(b)
			}
			b.Linux.ReadonlyPaths = append(b.Linux.ReadonlyPaths, paths...)
			b.Ask.Read, b.Ask.Write = append(b.Ask.Read, paths...), append(b.Ask.Write, paths...)
		})
	}
	link := func(b *bundle) { b.must(os.Symlink("/data", filepath.Join(b.rootfs, "link"))) }
	return []variation{
		vary("root-readonly", func(b *bundle) { b.Root.Readonly = true }),
		vary("root-readonly-mounts", func(b *bundle) { b.Root.Readonly = true; b.bind("/data"); b.touch("/data") }),
		vary("root-readonly-new-mountpoint", func(b *bundle) { b.Root.Readonly = true; b.bind("/new"); b.touch("/new") }),
		vary("root-absolute", func(b *bundle) { b.Root.Path = b.rootfs }),
		vary("root-missing", func(b *bundle) { b.Root.Path = "nosuch" }),
		vary("root-none", func(b *bundle) { b.Root = nil }),
		vary("root-symlink", func(b *bundle) {
			b.must(os.Symlink("rootfs", filepath.Join(b.dir, "link")))
			b.Root.Path = "link"
		}),
		mask("file", nil, "/data/file"),
		mask("directory", nil, "/data"),
		mask("missing", nil, "/no/such/path"),
		mask("symlink", link, "/link"),
		mask("in-mount", func(b *bundle) { b.bind("/mnt") }, "/mnt/file"),
		mask("twice", nil, "/data/file", "/data/file"),
		mask("relative", nil, "data"),
		vary("masked-none", func(b *bundle) {
			b.Linux.MaskedPaths, b.Linux.ReadonlyPaths = nil, nil
			b.Ask.Read = []string{"/proc/acpi", "/proc/asound", "/sys/firmware"} // the others tell the time
		}),
		readonly("file", nil, "/data/file"),
		readonly("directory", nil, "/data"),
		readonly("missing", nil, "/no/such/path"),
		readonly("symlink", link, "/link"),
		readonly("mount", func(b *bundle) { b.mount("/mnt", "tmpfs", "tmpfs", "nosuid", "noexec") }, "/mnt"),
		readonly("relative", nil, "data"),
	}
}
