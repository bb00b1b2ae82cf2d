// Package cgroup makes, limits, observes, kills and removes the control groups of containers, on cgroup v1, v2 and
// hybrid hosts.
//
// Limits are written while a cgroup is empty. A process enters by being born there (clone3 CLONE_INTO_CGROUP into the
// cgroup2 directory) and, on v1, by writing "0" to the hierarchies' tasks files itself: see [Cgroup.Join]. What can be
// decided without the kernel is decided in [New].
package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Config says which cgroup a container gets.
type Config struct {
	// ID names the cgroup when Path is empty; it is one path component.
	ID string
	// Path is linux.cgroupsPath: an absolute path below the root of every hierarchy, a path relative to the cgroup of this
	// process (on v2: to its parent), "slice:prefix:name" for a scope that systemd makes, or "" for ID.
	Path string
	// Systemd insists on a systemd scope. Without it the syntax of Path decides.
	Systemd bool
	// Resources is linux.resources; nil sets no limit but the device rules that every container gets.
	Resources *specs.LinuxResources
	// Owner is the user on this host that may make cgroups below the container's and move processes between them; 0 for
	// root alone. v1 has nothing that is safe to give away, and leaves it.
	Owner int
	// Annotations may name properties of systemd's unit ("org.systemd.property.TimeoutStopSec": "uint64 3"). Without a unit
	// they mean nothing.
	Annotations map[string]string
	// Disabled makes no cgroup: the container stays in that of this process, and limits mean nothing.
	Disabled bool
	// Rootless: this process has no privileges on the host. Where it may not make a cgroup, it does without, unless Path or
	// Resources ask for it.
	Rootless bool
}

// Cgroup is the control group of one container: one directory per v1 hierarchy and one in the cgroup2 tree, as far as the
// host has them. Its methods may be called from several goroutines.
type Cgroup struct {
	host     *Host
	dirs     []dir    // v1, in the order of Host.Hierarchies
	unified  string   // directory in the cgroup2 tree, "" without one
	unit     string   // systemd's unit, "" for cgroupfs
	slice    string   // the unit's slice
	started  bool     // systemd was told of the unit
	begun    []string // what Begin has made
	owner    int
	rootless bool
	ignored  []string // see Ignored
	settings []setting
	// properties of the unit that annotations ask for; what the settings are called there comes on top.
	properties []systemd.Property

	mu      sync.Mutex
	devices *devicePolicy // nil when another process made the cgroup
	stats   *statReader   // made by the first Stats
}

// dir is the cgroup's directory in one v1 hierarchy.
type dir struct {
	controllers []string
	mount       string
	path        string
}

func (d dir) has(controller string) bool { return slices.Contains(d.controllers, controller) }

// named reports whether the hierarchy has no controller, only a name (such as name=systemd).
func (d dir) named() bool { return strings.HasPrefix(d.controllers[0], "name=") }

// New decides where the container's cgroup is and what will be written there, without touching it. The error names the
// property of config.json that cannot be honoured.
func New(h *Host, cfg Config) (*Cgroup, error) {
	c := &Cgroup{host: h, owner: cfg.Owner, rootless: cfg.Rootless}
	var err error
	if c.settings, err = compile(cfg.Resources, h, nil); err != nil {
		return nil, err
	}
	devices, err := compileDevices(cfg.Resources)
	if err != nil {
		return nil, err
	}
	c.devices = &devices
	if cfg.Disabled {
		c.without(cfg)
		return c, nil
	}
	if err := c.place(cfg); err != nil {
		return nil, err
	}
	if err := c.refuseOwn(); err != nil {
		return nil, err
	}
	if cfg.Rootless {
		return c, c.withoutRights(cfg)
	}
	if c.dir("devices") == "" && c.unified == "" {
		return nil, errors.New("linux.resources.devices: this host has neither the devices cgroup nor cgroup2")
	}
	return c, nil
}

// At returns the cgroup at an absolute path of every hierarchy, which somebody else has made, for reading its figures.
func At(h *Host, path string) (*Cgroup, error) {
	if !filepath.IsAbs(path) || isSystemdPath(path) {
		return nil, fmt.Errorf("cgroup %q: is not an absolute path", path)
	}
	c := &Cgroup{host: h}
	return c, c.place(Config{Path: path})
}

// Load returns a cgroup that another process recorded, by its [Cgroup.Paths] and [Cgroup.Unit], for cleaning up.
//
// Preconditions: CheckPaths has no objection.
func Load(h *Host, paths map[string]string, unit string) *Cgroup {
	c := &Cgroup{host: h, unit: unit, started: unit != "", unified: paths[""]}
	for _, hier := range h.Hierarchies {
		for _, name := range hier.Controllers {
			if p := paths[name]; p != "" {
				c.dirs = append(c.dirs, dir{hier.Controllers, hier.Mount, p})
				break
			}
		}
	}
	return c
}

// CheckPaths refuses recorded paths that New never chose, such as the root of a hierarchy: what is in them would be killed.
func (h *Host) CheckPaths(paths map[string]string) error {
	check := func(path, mount string) error {
		if path != "" && (path != filepath.Clean(path) || path == mount || mount == "" || !within(path, mount)) {
			return fmt.Errorf("cgroup %s: is not below %s", path, mount)
		}
		return nil
	}
	for _, hier := range h.Hierarchies {
		for _, name := range hier.Controllers {
			if err := check(paths[name], hier.Mount); err != nil {
				return err
			}
		}
	}
	return check(paths[""], h.Unified)
}

// Paths returns the directories that Create makes, by controller; the key "" is the one in the cgroup2 tree. Record them
// before calling Create.
func (c *Cgroup) Paths() map[string]string {
	paths := make(map[string]string)
	for _, d := range c.dirs {
		for _, name := range d.controllers {
			paths[name] = d.path
		}
	}
	if c.unified != "" {
		paths[""] = c.unified
	}
	return paths
}

// Unit returns the name of systemd's unit, "" when the cgroup is made by cgroupfs.
func (c *Cgroup) Unit() string { return c.unit }

// Close releases the files that Stats keeps open. The cgroup itself stays, and stays usable.
func (c *Cgroup) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stats != nil {
		c.stats.close()
		c.stats = nil
	}
}

// dir returns the directory in the hierarchy of a v1 controller, "" when there is none.
func (c *Cgroup) dir(controller string) string {
	for _, d := range c.dirs {
		if d.has(controller) {
			return d.path
		}
	}
	return ""
}

// all returns every directory, the cgroup2 one last.
func (c *Cgroup) all() []string {
	paths := make([]string, 0, len(c.dirs)+1)
	for _, d := range c.dirs {
		paths = append(paths, d.path)
	}
	if c.unified != "" {
		paths = append(paths, c.unified)
	}
	return paths
}

// refuseOwn fails when this process is in the cgroup or below it: its limits, freezes and kills would hit us.
func (c *Cgroup) refuseOwn() error {
	for _, d := range c.dirs {
		for _, hier := range c.host.Hierarchies {
			if hier.Mount == d.mount && within(hier.Own, d.path) {
				return fmt.Errorf("cgroup %s: holds this process", d.path)
			}
		}
	}
	if c.unified != "" && within(c.host.UnifiedOwn, c.unified) {
		return fmt.Errorf("cgroup %s: holds this process", c.unified)
	}
	return nil
}

// place fills in the directories.
func (c *Cgroup) place(cfg Config) error {
	if cfg.Systemd || isSystemdPath(cfg.Path) {
		return cmp.Or(c.placeUnit(cfg), c.refuseUnit(cfg))
	}
	path := cfg.Path
	if path == "" {
		path = cfg.ID
	}
	clean, err := cleanPath(path)
	if err != nil {
		return fmt.Errorf("linux.cgroupsPath %q: %w", path, err)
	}
	for _, hier := range c.host.Hierarchies {
		base := hier.Mount
		if !filepath.IsAbs(clean) {
			base = hier.Own
		}
		if base == "" {
			if cfg.Rootless && cfg.Path == "" {
				continue
			}
			return fmt.Errorf("linux.cgroupsPath %q: the cgroup of this process is not visible in %s", path, hier.Mount)
		}
		c.dirs = append(c.dirs, dir{hier.Controllers, hier.Mount, filepath.Join(base, clean)})
	}
	if c.host.Unified == "" {
		return nil
	}
	base := c.host.Unified
	if !filepath.IsAbs(clean) {
		if base = c.host.relativeBase(); base == "" {
			if cfg.Rootless && cfg.Path == "" {
				return nil
			}
			return fmt.Errorf("linux.cgroupsPath %q: the cgroup of this process is not visible in %s", path, c.host.Unified)
		}
	}
	c.unified = filepath.Join(base, clean)
	return nil
}

// relativeBase is where relative paths start in the cgroup2 tree.
func (h *Host) relativeBase() string {
	if h.Mode == V1 || h.UnifiedOwn == "" || h.UnifiedOwn == h.Unified {
		return h.UnifiedOwn
	}
	// A cgroup with processes cannot hand controllers to its children; its parent can.
	return filepath.Dir(h.UnifiedOwn)
}

var (
	errEscapes = errors.New("escapes the root of the hierarchy")
	errIsRoot  = errors.New("is the root of the hierarchy")
)

// cleanPath cleans a cgroup path lexically and refuses one that leaves, or is, the directory that it starts from.
func cleanPath(path string) (string, error) {
	if strings.ContainsAny(path, "\x00\n") {
		return "", errors.New("contains a NUL or a newline")
	}
	depth := 0
	for name := range strings.SplitSeq(path, "/") {
		switch name {
		case "", ".":
		case "..":
			depth--
		default:
			depth++
		}
		if depth < 0 {
			return "", errEscapes
		}
	}
	if depth == 0 {
		return "", errIsRoot
	}
	return filepath.Clean(path), nil
}

// within reports whether path is parent or below it. An empty path is nowhere.
func within(path, parent string) bool {
	rest, ok := strings.CutPrefix(path, parent)
	return ok && path != "" && (rest == "" || rest[0] == '/' || strings.HasSuffix(parent, "/"))
}

// gone reports whether an error says that the cgroup does not exist (any more).
func gone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV)
}
