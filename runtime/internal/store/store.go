// Package store keeps one record per container on disk, so that whoever comes after a crash can clean up.
package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/internal/trusted"
	"github.com/gosuda/gosudacon/runtime/internal/lazyjson"
	"github.com/gosuda/gosudacon/runtime/internal/sys"
)

// Names in a container's directory.
const (
	recordName  = "state.json"
	GateName    = "start"   // FIFO of a detached container: a byte lets init execute
	VerdictName = "verdict" // FIFO of a detached container: the failure of that, or its end
)

// Record is what must survive a crash. It is written before the effect that it announces.
type Record struct {
	OCIVersion  string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Bundle      string            `json:"bundle"`
	Created     time.Time         `json:"created"`
	Status      string            `json:"status,omitempty"` // "" when only the kernel knows
	Pid         int               `json:"pid,omitempty"`
	StartTime   uint64            `json:"pid_start_time,omitempty"` // clock ticks since boot, /proc/PID/stat field 22
	CgroupPaths map[string]string `json:"cgroup_paths,omitempty"`
	SystemdUnit string            `json:"systemd_unit,omitempty"`
	// Keyring is the name of the session keyring.
	Keyring string `json:"keyring,omitempty"`
	// Rootfs is the mount point that we mounted on.
	Rootfs      string            `json:"rootfs,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Exit        *Exit             `json:"exit,omitempty"`
	// Poststop are the hooks that are still to be run when the rest is gone.
	Poststop []specs.Hook `json:"poststop,omitempty"`
	// Detached is set for a container that no process owns, with what others need to know of its config.
	Detached *Detached `json:"detached,omitempty"`
}

// Detached is what start, exec and delete need to know of a config that may be gone by then.
type Detached struct {
	Config string `json:"config"` // absolute path of its config.json
	Root   string `json:"root"`   // absolute path of the root file system
	// NoProcess: there is nothing to start.
	NoProcess bool `json:"no_process,omitempty"`
	// SharedPID: init's end does not end the others of its pid namespace.
	SharedPID bool         `json:"shared_pid,omitempty"`
	Poststart []specs.Hook `json:"poststart,omitempty"`
	// TimeNS: the container has a time namespace that its config does not ask for.
	TimeNS bool `json:"time_ns,omitempty"`
	// Spec is the config itself when there are startContainer hooks: they run as its process is to.
	Spec *specs.Spec `json:"spec,omitempty"`
}

// Exit is a recorded exit status.
type Exit struct {
	Status int       `json:"status"`
	At     time.Time `json:"at"`
}

// Dir is a container's directory.
type Dir string

// ErrInvalidID is an id that is no file name for us.
var ErrInvalidID = errors.New("invalid container id")

// CheckID refuses what cannot be a directory's name, with runc's rules: letters, digits and _ + - . but not "." or "..".
func CheckID(id string) error {
	if id == "" || id == "." || id == ".." || len(id) > 255 {
		return fmt.Errorf("%w %q", ErrInvalidID, id)
	}
	for _, c := range id {
		if !strings.ContainsRune("_+-.", c) && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return fmt.Errorf("%w %q: only letters, digits and _ + - . are allowed", ErrInvalidID, id)
		}
	}
	return nil
}

// Make makes the directory of a new container; os.ErrExist says that there is one.
func Make(root, id string) (Dir, error) {
	if err := CheckID(id); err != nil {
		return "", err
	}
	d := filepath.Join(root, id)
	for {
		if err := os.MkdirAll(root, 0o711); err != nil {
			return "", fmt.Errorf("make state root: %w", err)
		}
		err := os.Mkdir(d, 0o700)
		if errors.Is(err, os.ErrNotExist) {
			continue // another container's Remove has just taken the empty root away
		}
		if err != nil {
			return "", fmt.Errorf("make state directory: %w", err)
		}
		return Dir(d), nil
	}
}

// Find returns the directory of a container, whether it exists or not.
func Find(root, id string) (Dir, error) {
	if err := CheckID(id); err != nil {
		return "", err
	}
	return Dir(filepath.Join(root, id)), nil
}

// Write replaces the record in one step.
func (d Dir) Write(r *Record) error {
	publish, err := d.Prepare(r)
	if err != nil {
		return err
	}
	return publish()
}

// Prepare does what takes time of Write, and returns the rest.
func (d Dir) Prepare(r *Record) (publish func() error, err error) {
	replace, err := trusted.Prepare(filepath.Join(string(d), recordName), lazyjson.Marshal(r))
	if err != nil {
		return nil, fmt.Errorf("write record: %w", err)
	}
	return func() error {
		if err := replace(); err != nil {
			return fmt.Errorf("write record: %w", err)
		}
		return nil
	}, nil
}

// recordLimit bounds what is read of a record, in bytes. The annotations of its config.json are the most of it.
const recordLimit = 20 << 20

// Read returns the record; os.ErrNotExist when there is none, ErrUntrusted when it cannot be the one that was written: what
// it names would be killed, unmounted, removed.
func (d Dir) Read() (*Record, error) {
	name := filepath.Join(string(d), recordName)
	data, err := trusted.ReadOwn(name, recordLimit)
	switch {
	case errors.Is(err, trusted.ErrNotRegular), errors.Is(err, trusted.ErrNotOurs), errors.Is(err, trusted.ErrTooLarge):
		return nil, fmt.Errorf("%w: %w", ErrUntrusted, err)
	case err != nil:
		return nil, err
	}
	r, err := parse(data, filepath.Base(string(d)))
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	return r, nil
}

// parse decodes the record of a container.
func parse(data []byte, id string) (*Record, error) {
	var r Record
	if err := lazyjson.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	if err := r.check(id); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	return &r, nil
}

// ErrUntrusted is a record that is not acted upon.
var ErrUntrusted = errors.New("the container's record cannot be trusted")

// check refuses what Write was never given.
func (r *Record) check(id string) error {
	switch {
	case r.ID != id:
		return fmt.Errorf("it is that of container %q", r.ID)
	case r.Pid < 0:
		return fmt.Errorf("%d is no process", r.Pid)
	case r.Rootfs != "" && (!filepath.IsAbs(r.Rootfs) || filepath.Clean(r.Rootfs) == "/"):
		return fmt.Errorf("%q is no mount point of a root file system", r.Rootfs)
	}
	return nil
}

// Remove removes the directory and what we put into it, and the root that Make made, if nothing else is in it.
func (d Dir) Remove() error {
	if err := d.RemoveDir(); err != nil {
		return err
	}
	os.Remove(filepath.Dir(string(d))) // fails while there are other containers
	return nil
}

// RemoveDir is Remove but for the root.
func (d Dir) RemoveDir() error {
	// Mostly there is nothing else, or the gates.
	for _, names := range [][]string{{recordName}, {GateName, VerdictName}, {DoorName}} {
		for _, name := range names {
			unix.Unlink(filepath.Join(string(d), name))
		}
		if err := unix.Rmdir(string(d)); err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
	}
	return os.RemoveAll(string(d))
}

// Gate is how init is started: the child's ends of two pipes or FIFOs, and ours.
type Gate struct {
	StartRead, VerdictWrite int      // the child's ends, which block; closed by CloseChildEnds
	Start                   *os.File // write a byte to let init execute
	Verdict                 *os.File // its failure as a report, or the end of file
	permitted               bool
}

// NewGate makes the gate of an init that this process starts itself: when this process is gone, so is the only writer, which
// ends the child.
func NewGate() (*Gate, error) {
	var start, verdict [2]int
	if err := unix.Pipe2(start[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make the start gate: %w", err)
	}
	if err := unix.Pipe2(verdict[:], unix.O_CLOEXEC); err != nil {
		unix.Close(start[0])
		unix.Close(start[1])
		return nil, fmt.Errorf("make the pipe for the verdict: %w", err)
	}
	unix.SetNonblock(verdict[0], true) // for the Go poller
	return &Gate{StartRead: start[0], VerdictWrite: verdict[1],
		Start: os.NewFile(uintptr(start[1]), GateName), Verdict: os.NewFile(uintptr(verdict[0]), VerdictName)}, nil
}

// CloseChildEnds closes the ends that belong to the child.
func (g *Gate) CloseChildEnds() {
	for _, fd := range []*int{&g.StartRead, &g.VerdictWrite} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// Close closes every end.
func (g *Gate) Close() {
	g.CloseChildEnds()
	for _, f := range []*os.File{g.Start, g.Verdict} {
		if f != nil {
			f.Close()
		}
	}
}

// StartTime reads when a process started, in clock ticks since boot; with the pid it names a process for good.
func StartTime(pid int) (uint64, error) {
	s, err := readStat(pid)
	return s.start, err
}

// Parent reads the pid of a process's parent.
func Parent(pid int) (int, error) {
	s, err := readStat(pid)
	return s.parent, err
}

// Alive reports whether a process that was recorded lives: the pid is taken by the same process, and it is no zombie.
func Alive(pid int, startTime uint64) bool {
	s, err := readStat(pid)
	return err == nil && s.start == startTime && s.state != 'Z' && s.state != 'X'
}

// stat is what of /proc/PID/stat matters.
type stat struct {
	state  byte // as in "R"
	parent int
	start  uint64
}

func readStat(pid int) (s stat, err error) {
	data, err := sys.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return s, err
	}
	if s, err = parseStat(data); err != nil {
		err = fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return s, err
}

func parseStat(data []byte) (s stat, err error) {
	// The second field, the name in parentheses, may contain anything.
	i := strings.LastIndexByte(string(data), ')')
	field := strings.Fields(string(data[i+1:]))
	const parent, startTime = 4 - 3, 22 - 3 // fields 4 and 22; the first after the name is 3
	if i < 0 || len(field) <= startTime {
		return s, fmt.Errorf("%q is no state of a process", data)
	}
	s.state = field[0][0]
	if s.parent, err = strconv.Atoi(field[parent]); err == nil {
		s.start, err = strconv.ParseUint(field[startTime], 10, 64)
	}
	return s, err
}

// StartError is a failed execution of process.args.
type StartError struct {
	Step  int // of the launch plan
	Errno unix.Errno
}

func (e *StartError) Error() string { return e.Errno.Error() }
func (e *StartError) Unwrap() error { return e.Errno }

// Permit lets an init past its gate that is not stopped.
func (g *Gate) Permit() error {
	if _, err := g.Start.Write([]byte{1}); err != nil {
		return fmt.Errorf("open the start gate: %w", err)
	}
	g.permitted = true
	return nil
}

// Open lets init go past its gate: the byte permits, SIGCONT, sent by signal, wakes. It returns when init has executed its
// program or failed to (a *StartError), or has died.
func (g *Gate) Open(signal func(unix.Signal) error) error {
	if !g.permitted {
		if err := g.Permit(); err != nil {
			return err
		}
		if err := signal(unix.SIGCONT); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("continue init: %w", err)
		}
	}
	var report [12]byte // rawchild.Report: kind, step, errno
	n, err := g.Verdict.Read(report[:])
	switch {
	case n == 0 && (err == nil || errors.Is(err, io.EOF)):
		return nil
	case err != nil:
		return fmt.Errorf("read init's verdict: %w", err)
	}
	w := binary.NativeEndian
	return &StartError{Step: int(w.Uint32(report[4:])), Errno: unix.Errno(w.Uint32(report[8:]))}
}
