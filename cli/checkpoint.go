package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
)

// criuOptions are those that checkpoint and restore have in common.
func criuOptions() []option {
	return []option{
		{long: "image-path", kind: text, value: "DIR", help: "where criu's images are (checkpoint in the working directory)"},
		{long: "work-path", kind: text, value: "DIR", help: "where criu's log goes (with the images)"},
		{long: "tcp-established", help: "allow open TCP connections"},
		{long: "ext-unix-sk", help: "allow unix sockets that are connected to processes outside"},
		{long: "shell-job", help: "allow a terminal of somebody outside"},
		{long: "lazy-pages", help: "bring memory when it is first used (userfaultfd)"},
		{long: "file-locks", help: "allow locks on files"},
		{long: "manage-cgroups-mode", kind: text, value: "soft|full|strict|ignore", help: "what to do about cgroups that the container made (soft)"},
		{long: "empty-ns", kind: repeated, value: "network", help: "leave the properties of this namespace alone; always so"},
		{long: "network-lock", kind: text, value: "iptables|nftables|skip", help: "how connections are kept from changing meanwhile (as criu was built)"},
		{long: "auto-dedup", help: "drop memory from the images that is not needed there any more"},
	}
}

func checkpointOptions() []option {
	return append(criuOptions(),
		option{long: "parent-path", kind: text, value: "DIR", help: "the images of a pre-dump that was made before, relative to those to be made"},
		option{long: "leave-running", help: "let the processes go on"},
		option{long: "tcp-skip-in-flight", help: "leave out TCP connections that are just being made"},
		option{long: "link-remap", help: "give open files that were deleted a name, for as long as the images live"},
		option{long: "status-fd", kind: number, value: "FD", help: "write a NUL byte to this file descriptor when pages can be asked for"},
		option{long: "page-server", kind: text, value: "ADDRESS:PORT", help: "send the memory to this page server"},
		option{long: "pre-dump", help: "write only the memory, and let the processes go on"})
}

func restoreOptions() []option {
	return slices.Concat([]option{
		{long: "bundle", short: "b", kind: text, value: "DIR", help: "the bundle (the working directory)"},
		{long: "config", short: "f", kind: text, value: "FILE", help: "the config (config.json in the bundle)"},
		{long: "detach", short: "d", help: "do not stay with it"},
		{long: "keep", help: "do not remove it when it has ended"},
	}, criuOptions(), []option{
		{long: "tcp-close", help: "restore TCP connections as closed ones"},
		{long: "lsm-profile", kind: text, value: "TYPE:NAME", help: "profile of the security module in place of that of the images"},
		{long: "lsm-mount-context", kind: text, value: "CONTEXT", help: "SELinux context of mounts in place of that of the images"},
	}, slices.DeleteFunc(slices.Clone(handoverOptions), func(o option) bool { return o.long == "preserve-fds" }), []option{
		{long: "no-subreaper", help: "do not become the reaper of the container's orphans"},
		{long: "no-pivot"},
	})
}

// criu reads the common options.
func (c *call) criu() (engine.Criu, error) {
	for _, ns := range c.opts.all("empty-ns") {
		if ns != string(specs.NetworkNamespace) {
			return engine.Criu{}, usagef("option --empty-ns: namespace %q is not supported; network is", ns)
		}
	}
	r := engine.Criu{
		Program:       c.global.text("criu"),
		Images:        c.opts.or("image-path", "checkpoint"),
		Work:          c.opts.text("work-path"),
		NetworkLock:   c.opts.text("network-lock"),
		ManageCgroups: c.opts.text("manage-cgroups-mode"), TCPEstablished: c.opts.on("tcp-established"), ExtUnixSk: c.opts.on("ext-unix-sk"),
		ShellJob: c.opts.on("shell-job"), FileLocks: c.opts.on("file-locks"), AutoDedup: c.opts.on("auto-dedup"), LazyPages: c.opts.on("lazy-pages"),
	}
	for _, p := range []*string{&r.Images, &r.Work} {
		if *p != "" {
			var err error
			if *p, err = filepath.Abs(*p); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

func checkpoint(ctx context.Context, c *call) (int, error) {
	d, err := c.open()
	if err != nil {
		return 0, err
	}
	common, err := c.criu()
	if err != nil {
		return 0, err
	}
	r := engine.CheckpointRequest{Criu: common, LeaveRunning: c.opts.on("leave-running"), PreDump: c.opts.on("pre-dump"),
		Parent: c.opts.text("parent-path"), TCPSkipInFlight: c.opts.on("tcp-skip-in-flight"), LinkRemap: c.opts.on("link-remap"),
		PageServer: c.opts.text("page-server")}
	if r.Ready, err = c.statusFD(); err != nil {
		return 0, err
	}
	if err := d.Checkpoint(ctx, r); err != nil || r.LeaveRunning || r.PreDump {
		return 0, err
	}
	return 0, d.Delete(ctx, true)
}

// statusFD is the file of --status-fd, which means something with --lazy-pages only.
func (c *call) statusFD() (*os.File, error) {
	fd := int(c.opts.number("status-fd"))
	if !c.opts.has("status-fd") || fd < 0 || !c.opts.on("lazy-pages") {
		return nil, nil
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	switch {
	case err != nil:
		return nil, usagef("option --status-fd: %d is not open", fd)
	case flags&unix.O_ACCMODE == unix.O_RDONLY:
		return nil, usagef("option --status-fd: %d is not open for writing", fd)
	}
	return os.NewFile(uintptr(fd), "status-fd"), nil
}

func restore(ctx context.Context, c *call) (int, error) {
	e, err := c.engine()
	if err != nil {
		return 0, err
	}
	common, err := c.criu()
	if err != nil {
		return 0, err
	}
	r := engine.CreateRequest{Restore: &engine.RestoreRequest{Criu: common, TCPClose: c.opts.on("tcp-close"), LSMProfile: c.opts.text("lsm-profile"),
		LSMMountContext: c.opts.text("lsm-mount-context")}}
	if err := c.begin(&r); err != nil {
		return 0, err
	}
	if c.opts.on("detach") {
		i := newInterruption(ctx)
		defer i.stop()
		_, _, err := c.create(i, e, r, true)
		return 0, err
	}
	r.Edit = c.reapFor(e)
	attendant := newAttendant(ctx)
	d, console, err := c.create(attendant.interruption, e, r, false)
	if err != nil {
		return 0, err
	}
	exit, err := attendant.attend(process{wait: d.Wait, console: console,
		signal: func(s unix.Signal) error { return d.Kill(ctx, s, false) }}, c.Streams)
	if err != nil || !c.opts.on("keep") {
		err = errors.Join(err, d.Delete(ctx, true))
	}
	return exit.Status, err
}
