package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/internal/criu"
	"github.com/gosuda/gosudacon/runtime/internal/child"
	"github.com/gosuda/gosudacon/runtime/internal/host"
	"github.com/gosuda/gosudacon/runtime/internal/netdev"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
	"github.com/gosuda/gosudacon/runtime/internal/rootfs"
	"github.com/gosuda/gosudacon/runtime/internal/sys"
)

// restoration is what a container without processes is to be restored from.
type restoration struct {
	*RestoreRequest
	options criu.Options
	nulls   int // files on /dev/null that criu inherits
	plan    *plan.Plan
	stdio   [3]*os.File // copies

	init       *child.Process      // once criu has told of it
	attributes []rootfs.Attributes // to be set on mounts
}

// newRestoration makes sure that the request can be understood and that there is somebody to carry it out.
func newRestoration(r *RestoreRequest, spec *specs.Spec, p *plan.Plan) (*restoration, error) {
	n := &restoration{RestoreRequest: r, plan: p}
	if err := r.Criu.prepare(&n.options); err != nil {
		return nil, err
	}
	links, err := readLinks(r.Images)
	if err != nil {
		return nil, errorf(InvalidArgument, err, "restore: %v", err)
	}
	o := &n.options
	o.LogFile, o.ConfigFile = restoreLog, criuConfig(spec)
	o.InheritFDs, n.nulls = inheritStdio(links, criu.FirstFile)
	o.RestoreSibling, o.EvasiveDevices = true, true
	// A terminal of somebody else (ShellJob) is the caller's standard input now, not a new one.
	o.OrphanPtsMaster = spec.Process != nil && spec.Process.Terminal
	o.TCPClose, o.LSMProfile, o.LSMMountContext = r.TCPClose, r.LSMProfile, r.LSMMountContext
	return n, nil
}

// keep takes copies of the standard streams, for a restore that comes later.
func (n *restoration) keep(io Stdio) error {
	for i, f := range []*os.File{io.In, io.Out, io.Err} {
		if f == nil {
			continue
		}
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			n.close()
			return fmt.Errorf("duplicate a standard stream: %w", err)
		}
		n.stdio[i] = os.NewFile(uintptr(fd), f.Name())
	}
	return nil
}

// close closes the copies.
func (n *restoration) close() {
	for i, f := range n.stdio {
		if f != nil {
			f.Close()
			n.stdio[i] = nil
		}
	}
}

// stageName is a directory of the container's state on which criu finds the root file system, in a mount namespace of its own.
const stageName = "criu-root"

// restore makes the container's processes. On an error nothing is left of them.
func (c *Container) restore(ctx context.Context, n *restoration) (err error) {
	fail := func(err error) error { return errorf(Internal, err, "restore: %v", err) }
	o := n.options
	files, err := joinNamespaces(c.spec, &o, criu.FirstFile+n.nulls)
	if err != nil {
		return fail(err)
	}
	defer files.close()
	s, dirs, err := c.startCriu(n, &o, files)
	defer dirs.close()
	if err != nil {
		return fail(err)
	}
	defer func() {
		s.Close()
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
		defer cancel()
		c.cgroup.Kill(ctx) // the first error is the one to tell
		if n.init != nil {
			n.init.Kill()
			n.init = nil
		}
		if f := c.TakeConsole(); f != nil {
			f.Close()
		}
	}()
	if err := c.cgroup.AddPid(s.Pid); err != nil {
		return fail(err)
	}
	if o.CgroupRoots, err = cgroupRoots(s.Pid); err != nil {
		return fail(err)
	}
	tell := func(m criu.Notification) error { return c.restoreNotified(ctx, n, m) }
	if err := s.Do(ctx, criu.Restore, &o, tell); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return n.Criu.failed("restore", err, restoreLog)
	}
	if n.init == nil {
		return fail(errors.New("criu has not told of the first process"))
	}
	return nil
}

// startCriu starts criu where it sees the root file system as it wants it: on a mount point that nothing covers. It fills in
// what is found out on the way.
func (c *Container) startCriu(n *restoration, o *criu.Options, files workDirs) (s *criu.Session, dirs workDirs, err error) {
	stage := filepath.Join(string(c.dir), stageName)
	if err := os.Mkdir(stage, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, nil, err
	}
	if stage, err = filepath.EvalSymlinks(stage); err != nil {
		return nil, nil, err
	}
	o.Root = stage
	points := mountPoints(n.plan)
	err = rootfs.Privately(func() error {
		where, err := rootfs.Stage(c.root, stage, points)
		if err != nil {
			return err
		}
		o.ExternalMounts, n.attributes = restoredMounts(points, where), boundAttributes(n.plan, points, where)
		// Opened in here: criu mounts on directories that it makes there, which must be on mounts of its own namespace.
		if dirs, err = n.Criu.open(o, false); err != nil {
			return err
		}
		s, err = criu.Start(criu.Setup{Program: n.Program, Stdin: n.stdio[0], Stdout: n.stdio[1], Stderr: n.stdio[2], Files: append(slices.Repeat([]*os.File{c.engine.host.DevNull}, n.nulls), files...),
			Start: c.engine.StartChild})
		return err
	})
	if err != nil && s != nil {
		s.Close()
	}
	return s, dirs, err
}

// restoreNotified is told by criu how far it is.
func (c *Container) restoreNotified(ctx context.Context, n *restoration, m criu.Notification) error {
	switch m.Script {
	case "setup-namespaces": // the first process is there, and waits
		if err := c.adopt(n, m.Pid); err != nil {
			return err
		}
		return c.setUpNetwork(ctx, n)
	case "post-restore": // all are there, and stopped
		if err := c.adopt(n, m.Pid); err != nil {
			return err
		}
		if err := rootfs.Tighten(n.init.Pid, n.attributes); err != nil {
			return err
		}
		c.addTimeNamespace(n.init.Pid)
		known, err := c.born(n.init.Pid)
		if err != nil {
			return err
		}
		return known()
	case "orphan-pts-master":
		if m.File == nil {
			return errors.New("criu has sent no terminal")
		}
		if err := unix.SetNonblock(int(m.File.Fd()), true); err != nil {
			m.File.Close()
			return err
		}
		// Made anew: a file is for the Go poller, or not, from its beginning.
		fd, err := unix.FcntlInt(m.File.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		m.File.Close()
		if err != nil {
			return err
		}
		unix.SetNonblock(fd, true)
		c.publish(func() { c.console = os.NewFile(uintptr(fd), "terminal") })
		return nil
	}
	if m.File != nil {
		m.File.Close()
	}
	return nil
}

// setUpNetwork does for a network namespace that is made anew what create does, and what hooks do.
func (c *Container) setUpNetwork(ctx context.Context, n *restoration) error {
	if n.plan.MakesNetwork() {
		if err := netdev.LoopbackUp(fmt.Sprintf("/proc/%d/ns/net", n.init.Pid)); err != nil {
			return err
		}
	}
	for _, h := range plan.HookPoints(c.spec.Hooks) {
		if h.Name == "prestart" || h.Name == "createRuntime" {
			if err := c.createHooks(ctx, n.init, h.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// adopt makes the process that criu has made, as a child of this one, the container's first.
func (c *Container) adopt(n *restoration, pid int) error {
	if n.init != nil {
		if n.init.Pid != pid {
			return fmt.Errorf("criu has told of a first process %d, and now of %d", n.init.Pid, pid)
		}
		return nil
	}
	children := c.engine.children
	children.Add(pid)
	// Only a child of ours can be waited for.
	_, _, err := sys.PeekChild(pid, unix.WEXITED|unix.WNOHANG)
	if err != nil {
		children.Forget(pid)
		return fmt.Errorf("process %d, which criu has made, is not our child: %w", pid, err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	n.init, err = children.Adopt(pid, fd)
	return err
}

// joinNamespaces has criu use namespaces that are there already. The files are what criu is to inherit, from
// the number first on.
func joinNamespaces(spec *specs.Spec, o *criu.Options, first int) (files workDirs, err error) {
	for _, ns := range spec.Linux.Namespaces {
		x, external := externalNames[ns.Type]
		switch {
		case ns.Path == "":
		case external:
			f, err := os.Open(ns.Path)
			if err != nil {
				files.close()
				return nil, err
			}
			o.InheritFDs = append(o.InheritFDs, criu.InheritFD{Key: x.name, FD: first + len(files)})
			files = append(files, f)
		case ns.Type == specs.CgroupNamespace:
			files.close()
			return nil, errors.New("linux.namespaces: criu cannot restore into an existing cgroup namespace")
		default:
			o.JoinNamespaces = append(o.JoinNamespaces, criu.Pair{Key: plan.NamespaceFile(ns.Type), Value: ns.Path})
		}
	}
	return files, nil
}

// cgroupRoots names, by controller, the cgroups that a process is in.
func cgroupRoots(pid int) ([]criu.CgroupRoot, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return nil, err
	}
	var roots []criu.CgroupRoot
	for line := range strings.Lines(string(data)) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		names, path, _ := strings.Cut(rest, ":")
		for name := range strings.SplitSeq(names, ",") {
			roots = append(roots, criu.CgroupRoot{Controller: name, Path: path})
		}
	}
	return roots, nil
}

// addTimeNamespace notes that the container has a time namespace: criu always makes one, so that its clocks go on where they
// were. Execs are to be in it.
func (c *Container) addTimeNamespace(pid int) {
	if !hasOwnTime(pid) {
		return
	}
	c.spec.Linux.Namespaces = withTime(c.spec.Linux.Namespaces)
	if c.record.Detached != nil {
		c.record.Detached.TimeNS = true
	}
}

func hasOwnTime(pid int) bool {
	if !host.HasNamespace("time") {
		return false
	}
	own, err := os.Readlink("/proc/self/ns/time")
	theirs, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/time", pid))
	return err == nil && err2 == nil && own != theirs
}

// withTime adds a time namespace to a list that has none.
func withTime(list []specs.LinuxNamespace) []specs.LinuxNamespace {
	for _, n := range list {
		if n.Type == specs.TimeNamespace {
			return list
		}
	}
	return append(list, specs.LinuxNamespace{Type: specs.TimeNamespace})
}

// restoreDetached makes the processes of a detached container, which this process goes on to own for as long as it lives.
func (c *Container) restoreDetached(ctx context.Context, r CreateRequest) error {
	n := c.restoration
	n.stdio = [3]*os.File{r.Stdio.In, r.Stdio.Out, r.Stdio.Err} // for the call only
	if err := c.restore(ctx, n); err != nil {
		return err
	}
	c.init = &process{child: n.init, pid: n.init.Pid, status: StatusRunning, done: make(chan struct{}), terminal: r.Terminal}
	return nil
}

// startRestored carries out the Start of a container that is to be restored, and answers it.
func (c *Container) startRestored(ctx context.Context, answer func(error)) {
	n := c.restoration
	err := c.restore(ctx, n)
	c.mail.exit(func() {
		c.starting = false
		if err != nil { // it can be tried again
			answer(explain(err))
			return
		}
		n.close()
		c.restoration = nil
		c.publish(func() { c.init.child, c.init.pid = n.init, n.init.Pid })
		c.watchOOM()
		c.started(nil)
		go c.await(c.init)
		answer(nil)
	})
}

// restoreLater makes a container that Start restores.
func (c *Container) restoreLater(r CreateRequest) error {
	if err := c.restoration.keep(r.Stdio); err != nil {
		return err
	}
	c.init = &process{status: StatusCreated, done: make(chan struct{}), terminal: r.Terminal}
	return nil
}
