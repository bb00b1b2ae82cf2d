// Package containerdtest runs a private containerd for tests, benchmarks and the demonstration, and proves that nothing of it is left.
package containerdtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Config says which containerd to run and how.
type Config struct {
	// Bin is the directory of containerd and ctr.
	Bin string
	// Path lists the directories in which containerd looks for shims and shims for runtimes, first match wins; the
	// directories of PATH follow.
	Path []string
	// Dir holds everything of this containerd. It must exist; the caller removes it. Its path must be short: unix sockets are
	// made in it.
	Dir string
	// Namespace is containerd's namespace for Ctr; also the name of the containers' parent cgroup, so it must be unlike
	// any other on the machine.
	Namespace string
	// ConfigVersion is the version of containerd's configuration file: 3 for containerd 2, 2 for containerd 1. 0 is 3.
	ConfigVersion int
	// NoFile, when set, is the soft RLIMIT_NOFILE that containerd is started with.
	NoFile uint64
	// Env is added to containerd's environment.
	Env []string
	// Events is the path of the socket to which shims send their events; "" is beside Address.
	Events string
	// CRI turns on the plugins that serve Kubernetes, of containerd 2.
	CRI bool
	// Debug turns on the debug log of containerd and its shims.
	Debug bool
	// RuncBinary, when set, is the path of what containerd-shim-runc-v2 executes for the containers that Ctr makes, instead of runc.
	RuncBinary string
	// Extra is appended to containerd's configuration file.
	Extra string
}

// Daemon is a running private containerd. Close it.
type Daemon struct {
	Config
	remote *remote
	before snapshot
}

// Start starts a containerd and returns when its socket answers.
//
// Preconditions: root; the program calls Main first.
func Start(c Config) (*Daemon, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("start containerd: needs root")
	}
	if c.ConfigVersion == 0 {
		c.ConfigVersion = 3
	}
	for _, program := range []string{"containerd", "ctr"} {
		if _, err := os.Stat(filepath.Join(c.Bin, program)); err != nil {
			return nil, fmt.Errorf("find %s: %w (make peers builds it)", program, err)
		}
	}
	d := &Daemon{Config: c, before: takeSnapshot(c.Dir, c.Namespace)}
	if err := d.Reconfigure(func(*Config) {}); err != nil {
		return nil, err
	}
	r, err := startSupervisor()
	if err != nil {
		return nil, err
	}
	d.remote = r
	if err := d.Launch(); err != nil {
		d.remote.close()
		return nil, err
	}
	return d, nil
}

func (d *Daemon) file(name string) string { return filepath.Join(d.Dir, name) }

// Reconfigure changes what the next Launch starts, for example another version of containerd on the same state.
//
// Preconditions: containerd does not run, or must not notice. Dir and Namespace stay.
func (d *Daemon) Reconfigure(change func(*Config)) error {
	change(&d.Config)
	if err := os.WriteFile(d.file("config.toml"), []byte(d.configText()), 0o600); err != nil {
		return fmt.Errorf("write containerd's configuration: %w", err)
	}
	return nil
}

// EventsAddress is the path of the socket to which shims send their events.
func (d *Daemon) EventsAddress() string { return cmp.Or(d.Events, d.Address()+".ttrpc") }

// Address is the path of containerd's gRPC socket.
func (d *Daemon) Address() string { return d.file("c.sock") }

// State is the directory below which containerd keeps the containers' bundles.
func (d *Daemon) State() string { return d.file("state") }

// Log returns what containerd and, through it, the shims have written so far.
func (d *Daemon) Log() string {
	text, _ := os.ReadFile(d.file("containerd.log"))
	return string(text)
}

// configText is the whole configuration: what tests of a runtime do not use is off, because it only costs start-up time.
func (d *Daemon) configText() string {
	level := "info"
	if d.Debug {
		level = "debug"
	}
	text := fmt.Sprintf("version = %d\nroot = %q\nstate = %q\n", d.ConfigVersion, d.file("root"), d.State())
	if d.ConfigVersion == 2 {
		text += `disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.nri.v1.nri"]` + "\n"
	} else if !d.CRI {
		text += `disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.zfs", "io.containerd.nri.v1.nri", "io.containerd.podsandbox.controller.v1.podsandbox"]` + "\n"
	}
	text += fmt.Sprintf("[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n[debug]\nlevel = %q\n", d.Address(), d.EventsAddress(), level)
	return text + d.Extra
}

// Launch starts containerd again after Kill and returns when its socket answers.
func (d *Daemon) Launch() error {
	path := append(append([]string{}, d.Path...), os.Getenv("PATH"))
	env := append(environ(), "PATH="+strings.Join(path, ":"))
	env = append(env, d.Env...)
	_, err := d.remote.ask(request{
		Op:     "start",
		Cmd:    []string{filepath.Join(d.Bin, "containerd"), "--config", d.file("config.toml")},
		Env:    env,
		Log:    d.file("containerd.log"),
		NoFile: d.NoFile,
	})
	if err != nil {
		return fmt.Errorf("start containerd: %w", err)
	}
	// containerd makes its socket before it serves it, so a connection is queued until then: what has to be retried is only
	// the connection to a socket that is not there yet, and nothing signals its coming.
	deadline := time.Now().Add(time.Minute)
	for {
		c, err := net.Dial("unix", d.Address())
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("connect to containerd: %w\n%s", err, d.Log())
		}
		time.Sleep(10 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := d.Ctr(ctx, "version").CombinedOutput(); err != nil {
		return fmt.Errorf("ask containerd for its version: %w: %s\n%s", err, out, d.Log())
	}
	return nil
}

// environ is our environment without what would change what containerd, ctr or the containers do.
func environ() []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if name == "PATH" || strings.HasPrefix(name, "CONTAINERD_") || strings.HasPrefix(name, "OTEL_") || name == "NOTIFY_SOCKET" {
			continue
		}
		env = append(env, v)
	}
	return env
}

// Ctr prepares ctr with args; it ends with ctx. In this containerd's namespace, unless args has --namespace.
func (d *Daemon) Ctr(ctx context.Context, args ...string) *exec.Cmd {
	if i := slices.Index(args, "io.containerd.runc.v2"); i > 0 && args[i-1] == "--runtime" && d.RuncBinary != "" {
		args = slices.Insert(slices.Clone(args), i+1, "--runc-binary", d.RuncBinary)
	}
	args = append([]string{"--address", d.Address(), "--namespace", d.Namespace}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(d.Bin, "ctr"), args...)
	cmd.Env = append(environ(), "PATH="+os.Getenv("PATH"), "CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1")
	cmd.WaitDelay = 5 * time.Second // a grandchild that holds the output must not hold the test
	return cmd
}

// Import imports an image archive, as made by WriteImage.
func (d *Daemon) Import(ctx context.Context, archive string) error {
	cmd := d.Ctr(ctx, "image", "import", "--local", archive)
	if d.ConfigVersion == 2 {
		cmd = d.Ctr(ctx, "image", "import", archive)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("import %s: %w: %s", archive, err, &out)
	}
	return nil
}

// Kill ends containerd with SIGKILL; its shims and containers go on.
func (d *Daemon) Kill() error { return d.end(unix.SIGKILL) }

// Terminate ends containerd with SIGTERM; its shims and containers go on.
func (d *Daemon) Terminate() error { return d.end(unix.SIGTERM) }

func (d *Daemon) end(sig unix.Signal) error {
	if _, err := d.remote.ask(request{Op: "signal", Signal: int(sig)}); err != nil {
		return fmt.Errorf("signal containerd: %w", err)
	}
	_, err := d.remote.ask(request{Op: "wait"})
	return err
}

// Close ends containerd and tells what is left of it and its containers: processes, mounts, cgroups, sockets, directories of
// state, one text each. Then it ends and removes those, too, as far as it can.
func (d *Daemon) Close() (left []string, err error) {
	err = d.Terminate()
	answer, leftErr := d.remote.ask(request{Op: "left"})
	for _, process := range answer.Left {
		left = append(left, "process "+process)
	}
	err = errors.Join(err, leftErr, d.remote.close())
	left = append(left, d.before.newer(d)...)
	return left, err
}
