package cli

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/engine"
)

func exec(ctx context.Context, c *call) (int, error) {
	code, err := c.exec(ctx)
	if err != nil {
		return execFailed, err
	}
	return code, nil
}

func (c *call) exec(ctx context.Context) (int, error) {
	d, err := c.open()
	if err != nil {
		return 0, err
	}
	r := engine.DetachedExec{Stdio: engine.Stdio{In: c.In, Out: c.Out, Err: c.Streams.Err}, IgnorePaused: c.opts.on("ignore-paused")}
	if err := d.MayExec(r.IgnorePaused); err != nil {
		return 0, err
	}
	if r.Process, err = c.execProcess(d); err != nil {
		return 0, err
	}
	if r.Cgroups, err = subCgroups(c.opts.all("cgroup")); err != nil {
		return 0, err
	}
	fds, err := c.inheritedFDs()
	if err != nil {
		return 0, err
	}
	r.Preserve = fds.count()
	r.Process.Env = append(r.Process.Env, fds.environment()...)
	detach := c.opts.on("detach")
	h := handover{c: c, detach: detach, exec: true}
	defer h.close()
	if err := h.connect(r.Process.Terminal); err != nil {
		return 0, err
	}
	var a *attendant
	if !detach {
		a = newAttendant(ctx)
		a.catch()
		ctx = a
	}
	p, err := d.Exec(ctx, r)
	if err != nil {
		return 0, err
	}
	console, err := h.deliver(p.Console, p.Pid, p.Pidfd)
	if err != nil {
		p.Kill()
		return 0, err
	}
	if detach {
		return 0, nil
	}
	exit, err := a.attend(process{wait: p.Wait, signal: p.Signal, console: console}, c.Streams)
	return exit.Status, err
}

// execProcess is the process of --process, or that of the config with what the options and operands say.
func (c *call) execProcess(d *engine.Detached) (*specs.Process, error) {
	if file := c.opts.text("process"); file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("option --process: %w", err)
		}
		var p specs.Process
		if err := engine.Decode(data, &p); err != nil {
			return nil, fmt.Errorf("option --process: parse %s: %w", file, err)
		}
		if c.opts.on("tty") {
			p.Terminal = true
		}
		return &p, nil
	}
	if len(c.args) < 2 {
		return nil, usagef("exec: args cannot be empty: give a command, or --process FILE")
	}
	spec, err := d.Config()
	if err != nil {
		return nil, err
	}
	p := spec.Process
	if p == nil {
		p = &specs.Process{Cwd: "/"}
	}
	p.Args = c.args[1:]
	p.Terminal = c.opts.on("tty")
	p.Env = append(p.Env, c.opts.all("env")...)
	p.Cwd = c.opts.or("cwd", p.Cwd)
	p.ApparmorProfile = c.opts.or("apparmor", p.ApparmorProfile)
	p.SelinuxLabel = c.opts.or("process-label", p.SelinuxLabel)
	if c.opts.has("no-new-privs") {
		p.NoNewPrivileges = c.opts.on("no-new-privs")
	}
	addCapabilities(p, c.opts.all("cap"))
	return p, c.execUser(&p.User)
}

// addCapabilities adds to the sets that runc adds to: an ambient capability must be inheritable, so only if some are.
func addCapabilities(p *specs.Process, names []string) {
	if len(names) == 0 {
		return
	}
	if p.Capabilities == nil {
		p.Capabilities = &specs.LinuxCapabilities{}
	}
	k := p.Capabilities
	sets := []*[]string{&k.Bounding, &k.Effective, &k.Permitted}
	if k.Inheritable != nil {
		sets = append(sets, &k.Ambient)
	}
	for _, set := range sets {
		*set = append(*set, names...)
	}
}

// execUser follows --user UID[:GID] and --additional-gids.
func (c *call) execUser(u *specs.User) error {
	id := func(option, text string) (uint32, error) {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return 0, usagef("option --%s: %q is not a number from 0 to 4294967295", option, text)
		}
		return uint32(n), nil
	}
	var err error
	if user := c.opts.text("user"); user != "" {
		uid, gid, both := strings.Cut(user, ":")
		if u.UID, err = id("user", uid); err != nil {
			return err
		}
		if both {
			if u.GID, err = id("user", gid); err != nil {
				return err
			}
		}
	}
	for _, text := range c.opts.all("additional-gids") {
		gid, err := id("additional-gids", text)
		if err != nil {
			return err
		}
		u.AdditionalGids = append(u.AdditionalGids, gid)
	}
	return nil
}

// subCgroups reads --cgroup [CONTROLLER[,CONTROLLER]...:]PATH: paths by controller, "" for the cgroup2 tree.
func subCgroups(args []string) (map[string]string, error) {
	var paths map[string]string
	for _, arg := range args {
		names, path, ok := strings.Cut(arg, ":")
		if !ok {
			if len(args) != 1 {
				return nil, usagef("option --cgroup: %s names no controller (CONTROLLER:PATH)", arg)
			}
			return map[string]string{"": arg}, nil
		}
		if paths == nil {
			paths = map[string]string{}
		}
		for name := range strings.SplitSeq(names, ",") {
			if name == "" {
				return nil, usagef("option --cgroup: %s: the name of the controller is empty", arg)
			}
			if _, ok := paths[name]; ok {
				return nil, usagef("option --cgroup: controller %s is given twice", name)
			}
			paths[name] = path
		}
	}
	return paths, nil
}
