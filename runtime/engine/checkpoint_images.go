package engine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/internal/criu"
)

var cgroupModes = map[string]criu.CgroupMode{
	"": criu.CgroupDefault, "soft": criu.CgroupSoft, "full": criu.CgroupFull, "strict": criu.CgroupStrict, "ignore": criu.CgroupIgnore,
}

var networkLocks = map[string]criu.NetworkLock{"": 0, "iptables": criu.LockIptables, "nftables": criu.LockNftables, "skip": criu.LockSkip}

// prepare finds the program and translates what needs nothing but itself.
func (c *Criu) prepare(o *criu.Options) error {
	if !filepath.IsAbs(c.Images) || c.Work != "" && !filepath.IsAbs(c.Work) {
		return errorf(InvalidArgument, nil, "the paths of a checkpoint's images %q and work files %q must be absolute", c.Images, c.Work)
	}
	mode, ok := cgroupModes[c.ManageCgroups]
	if !ok {
		return errorf(InvalidArgument, nil, "cgroups mode %q of a checkpoint is none of soft, full, strict, ignore", c.ManageCgroups)
	}
	lock, ok := networkLocks[c.NetworkLock]
	if !ok {
		return errorf(InvalidArgument, nil, "network lock %q of a checkpoint is none of iptables, nftables, skip", c.NetworkLock)
	}
	var err error
	if c.Program, err = criu.Find(c.Program); err != nil {
		return errorf(FailedPrecondition, err, "checkpoint and restore need criu: %v", err)
	}
	*o = criu.Options{
		ManageCgroups: mode, NetworkLock: lock, TCPEstablished: c.TCPEstablished, ExtUnixSk: c.ExtUnixSk, ShellJob: c.ShellJob, FileLocks: c.FileLocks,
		AutoDedup: c.AutoDedup, LazyPages: c.LazyPages,
		// The network is others' to set up (hooks, containerd), once it is there again.
		EmptyNs: unix.CLONE_NEWNET,
		// The other side of a terminal was outside: whoever restores gets a new one.
		OrphanPtsMaster: true,
	}
	return nil
}

// workDirs are directories that criu inherits the descriptors of.
type workDirs []*os.File

func (w workDirs) close() {
	for _, f := range w {
		f.Close()
	}
}

// open opens the directories, and makes them if that is allowed. Their descriptors are this process's: criu takes them from
// there (/proc/PID/fd of who sent the request).
func (c *Criu) open(o *criu.Options, mayMake bool) (w workDirs, err error) {
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	dir := func(path string, mayMake bool) (int, error) {
		if mayMake {
			if err := os.MkdirAll(path, 0o700); err != nil {
				return 0, err
			}
		}
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return 0, err
		}
		w = append(w, f)
		return int(f.Fd()), nil
	}
	if o.ImagesDir, err = dir(c.Images, mayMake); err != nil || c.Work == "" {
		return w, err
	}
	o.WorkDir, err = dir(c.Work, true)
	return w, err
}

// failed explains an error of criu's by its log.
func (c *Criu) failed(what string, err error, log string) error {
	quoted := c.logged(log)
	if strings.Contains(quoted, `execvp("iptables`) || strings.Contains(quoted, `execvp("ip6tables`) {
		quoted += " (criu keeps connections from changing with the programs of iptables, which have to be installed too)"
	}
	var own *criu.Error
	if errors.As(err, &own) && own.Errno == 0 && quoted != "" {
		return errorf(Internal, err, "%s: criu failed%s", what, quoted) // its message is one of these
	}
	return errorf(Internal, err, "%s: %v%s", what, err, quoted)
}

// logged returns what criu's log tells of errors, as the end of a sentence.
func (c *Criu) logged(name string) string {
	dir := c.Images
	if c.Work != "" {
		dir = c.Work
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	text := strings.Join(criu.Errors(f), "; ")
	if text != "" {
		text = ": " + text
	}
	return fmt.Sprintf("%s (all of it in %s)", text, f.Name())
}

// criuConfigAnnotation names a file of options for criu, which replace those of requests; "" for none.
const criuConfigAnnotation = "org.criu.config"

// defaultCriuConfig is where people who use runc have put such options.
const defaultCriuConfig = "/etc/criu/runc.conf"

func criuConfig(spec *specs.Spec) string {
	if file, ok := spec.Annotations[criuConfigAnnotation]; ok {
		return file
	}
	return defaultCriuConfig
}

// pageServer splits HOST:PORT.
func pageServer(at string) (criu.PageServer, error) {
	if at == "" {
		return criu.PageServer{}, nil
	}
	host, port, err := net.SplitHostPort(at)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || host == "" || n == 0 {
		return criu.PageServer{}, errorf(InvalidArgument, errors.Join(err, perr), "page server %q is not ADDRESS:PORT", at)
	}
	return criu.PageServer{Address: host, Port: uint16(n)}, nil
}
