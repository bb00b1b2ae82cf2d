package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/internal/criu"
	"github.com/gosuda/gosudacon/runtime/internal/lifecycle"
	"github.com/gosuda/gosudacon/runtime/internal/plan"
)

// Criu is what a checkpoint and the restore from it both say to criu(8), which carries them out.
type Criu struct {
	Program string // path; "" for criu in $PATH
	Images  string // absolute path of the directory of the images; a checkpoint makes it
	Work    string // absolute path of the directory of criu's log, made when missing; "" for Images
	// ManageCgroups is soft, full, strict or ignore; "" is soft: cgroups that the container has made below its own are made
	// again, and limits are set on those only.
	ManageCgroups string
	// NetworkLock is how criu keeps connections from changing meanwhile: iptables, nftables, skip, or "" for its default.
	NetworkLock    string
	TCPEstablished bool // connections, which then need the same addresses again
	ExtUnixSk      bool // connected unix sockets whose other end is outside
	ShellJob       bool // a terminal or session of somebody outside
	FileLocks      bool // locks on files, whose holders may be outside
	AutoDedup      bool // drop memory from the parent images that is in these
	LazyPages      bool // memory comes when it is first used, from a page server
}

// CheckpointRequest asks for the state of all processes of a container, written to files from which they can be made again.
type CheckpointRequest struct {
	Criu
	LeaveRunning bool // else they are killed when everything is written
	// PreDump writes their memory alone, while they go on; a checkpoint whose Parent this is then needs to write less.
	PreDump         bool
	Parent          string // images of an earlier PreDump, a path relative to Images
	TCPSkipInFlight bool   // leave out connections that are being made
	LinkRemap       bool   // give files that are open and have no name one, for as long as the images live
	PageServer      string // HOST:PORT that memory is sent to instead
	// Ready gets a NUL byte when, with LazyPages, pages can be asked for, and is closed then; nil if nobody wants to know.
	Ready *os.File
}

// RestoreRequest asks for processes from a checkpoint.
type RestoreRequest struct {
	Criu
	TCPClose        bool   // connections are closed
	LSMProfile      string // TYPE:NAME of a profile in place of that of the images
	LSMMountContext string // SELinux context of mounts in place of that of the images
}

// Names of criu's logs.
const (
	dumpLog    = "dump.log"
	restoreLog = "restore.log"
)

// Checkpoint writes the state of the container's processes. While an exec runs, it fails. ctx does not interrupt it: half a checkpoint harms the processes.
func (c *Container) Checkpoint(ctx context.Context, r CheckpointRequest) error {
	if err := c.engine.mayCheckpoint(); err != nil {
		return err
	}
	d, err := newDump(&r)
	if err != nil {
		return err
	}
	return c.mail.ask(ctx, func(answer func(error)) {
		if err := refuse(c.currentState(), lifecycle.Checkpoint); err != nil {
			answer(err)
			return
		}
		if exec := c.runningExec(); exec != "" {
			answer(errorf(FailedPrecondition, nil, "checkpoint: exec %s is running, and is no child of the container's first process: it could not be "+
				"restored with it", exec))
			return
		}
		t := &target{engine: c.engine, id: c.id, record: c.record, spec: c.spec, facts: c.facts, cgroup: c.cgroup,
			initFD: c.init.child.FD, initPid: c.init.pid}
		answer(explain(d.run(t, c.root)))
	})
}

// runningExec returns the id of an exec that runs, or is being started; "" for none.
func (c *Container) runningExec() string {
	for id, p := range c.execs {
		if p.starting || p.status == StatusRunning {
			return id
		}
	}
	return ""
}

// Checkpoint writes the state of the container's processes. Unless they go on, the container is stopped afterwards.
func (d *Detached) Checkpoint(_ context.Context, r CheckpointRequest) error {
	if err := d.engine.mayCheckpoint(); err != nil {
		return err
	}
	dump, err := newDump(&r)
	if err != nil {
		return err
	}
	return d.locked(func() error {
		if err := d.may(lifecycle.Checkpoint); err != nil {
			return err
		}
		spec, err := d.Config()
		if err != nil {
			return err
		}
		cg := d.group()
		t := &target{engine: d.engine, id: d.id, record: d.record, spec: spec, facts: d.engine.facts(cg), cgroup: cg, initPid: d.record.Pid}
		return explain(dump.run(t, d.record.Detached.Root))
	})
}

// mayCheckpoint refuses checkpoints and restores to an ordinary user.
func (e *Engine) mayCheckpoint() error {
	if e.host.User {
		return errorf(FailedPrecondition, nil, "checkpoints take CAP_CHECKPOINT_RESTORE and more, which an ordinary user does not have")
	}
	return nil
}

// dump is a checkpoint on its way.
type dump struct {
	*CheckpointRequest
	kind    criu.Kind
	options criu.Options
}

// newDump makes sure that the request can be understood and that there is somebody to carry it out.
func newDump(r *CheckpointRequest) (*dump, error) {
	d := &dump{CheckpointRequest: r, kind: criu.Dump}
	if r.PreDump {
		d.kind = criu.PreDump
	}
	if err := r.Criu.prepare(&d.options); err != nil {
		return nil, err
	}
	o := &d.options
	o.LogFile = dumpLog
	o.LeaveRunning, o.TCPSkipInFlight, o.LinkRemap = r.LeaveRunning, r.TCPSkipInFlight, r.LinkRemap
	if r.Parent != "" {
		if filepath.IsAbs(r.Parent) {
			return nil, errorf(InvalidArgument, nil, "checkpoint: the path of the parent images %s is not relative to the images", r.Parent)
		}
		if fi, err := os.Stat(filepath.Join(r.Images, r.Parent)); err != nil || !fi.IsDir() {
			return nil, errorf(InvalidArgument, err, "checkpoint: the parent images %s are no directory below %s", r.Parent, r.Images)
		}
		o.ParentImages, o.TrackMem = r.Parent, true
	}
	var err error
	o.PageServer, err = pageServer(r.PageServer)
	return d, err
}

// run has criu do it. root is the path of the root file system.
func (d *dump) run(t *target, root string) error {
	dirs, err := d.Criu.open(&d.options, true)
	if err != nil {
		return errorf(Internal, err, "checkpoint: %v", err)
	}
	defer dirs.close()
	if err := d.checkFeatures(t.engine); err != nil {
		return err
	}
	o := &d.options
	o.Pid, o.Root, o.FreezeCgroup = t.initPid, root, t.cgroup.FreezerDir()
	o.ConfigFile = criuConfig(t.spec)
	if o.External, err = externalNamespaces(t.spec, t.initPid); err != nil {
		return errorf(Internal, err, "checkpoint: %v", err)
	}
	if !d.PreDump {
		pl, err := plan.Compile(t.spec, t.record.Bundle, t.facts, plan.Options{ID: t.id, RootPath: root})
		if err != nil {
			return err
		}
		if err := refuseIDMaps(pl); err != nil {
			return err
		}
		if o.ExternalMounts, err = dumpedMounts(pl, t.initPid); err != nil {
			return errorf(Internal, err, "checkpoint: %v", err)
		}
		links, err := stdioLinks(t.initPid, t.cgroup)
		if err == nil {
			err = writeLinks(d.Images, links)
		}
		if err != nil {
			return errorf(Internal, err, "checkpoint: %v", err)
		}
		o.External = append(o.External, externalFiles(links)...)
	}
	s, err := criu.Start(criu.Setup{Program: d.Program, Start: t.engine.StartChild})
	if err != nil {
		return errorf(Internal, err, "checkpoint: %v", err)
	}
	defer s.Close()
	if err := s.Do(context.Background(), d.kind, o, d.notified); err != nil {
		return d.Criu.failed("checkpoint", err, dumpLog)
	}
	return nil
}

// checkFeatures refuses what needs a kernel that this is not.
func (d *dump) checkFeatures(e *Engine) error {
	want := criu.Features{TrackMem: d.PreDump || d.Parent != "", LazyPages: d.LazyPages}
	if want == (criu.Features{}) {
		return nil
	}
	s, err := criu.Start(criu.Setup{Program: d.Program, Start: e.StartChild})
	if err != nil {
		return errorf(Internal, err, "checkpoint: %v", err)
	}
	defer s.Close()
	has, err := s.Check(want)
	switch {
	case err != nil:
		return errorf(Internal, err, "checkpoint: %v", err)
	case want.TrackMem && !has.TrackMem:
		return errorf(FailedPrecondition, nil, "checkpoint: a pre-dump, and a dump with a parent, need a kernel that tracks changes of memory (CONFIG_MEM_SOFT_DIRTY)")
	case want.LazyPages && !has.LazyPages:
		return errorf(FailedPrecondition, nil, "checkpoint: lazy pages need a kernel with userfaultfd (CONFIG_USERFAULTFD)")
	}
	return nil
}

// notified is told by criu how far it is.
func (d *dump) notified(n criu.Notification) error {
	if n.File != nil {
		n.File.Close()
	}
	if n.Script == "status-ready" && d.Ready != nil {
		_, err := d.Ready.Write([]byte{0})
		return errors.Join(err, d.Ready.Close())
	}
	return nil
}

// The names of what is not in the images, in criu's options: runc's, whose checkpoints can be restored here and the other way
// round.
var externalNames = map[specs.LinuxNamespaceType]struct{ kind, name string }{
	specs.NetworkNamespace: {"net", "extRootNetNS"},
	specs.PIDNamespace:     {"pid", "extRootPidNS"},
}

// externalNamespaces names the namespaces that were there before the container: they are not dumped.
func externalNamespaces(spec *specs.Spec, pid int) ([]string, error) {
	var list []string
	for _, n := range spec.Linux.Namespaces {
		x, ok := externalNames[n.Type]
		if !ok || n.Path == "" {
			continue
		}
		// What the path leads to may have changed.
		name := fmt.Sprintf("/proc/%d/ns/%s", pid, x.kind)
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil {
			return nil, &os.PathError{Op: "stat", Path: name, Err: err}
		}
		list = append(list, fmt.Sprintf("%s[%d]:%s", x.kind, st.Ino, x.name))
	}
	slices.Sort(list)
	return list, nil
}
