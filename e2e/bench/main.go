// Command bench measures gosuda against containerd-shim-runc-v2 with runc and with crun.
//
// It drives the shims as containerd does, without containerd, whose own work is the same for all. The runtimes take turns within every
// round, so that whatever else the machine does touches all of them alike; what counts are the medians and their ratios.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/api/types/runc/options"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
	"github.com/gosuda/gosudacon/e2e/shimdrive"
)

func main() {
	rounds := flag.Int("rounds", 40, "rounds of each time; one run of every runtime per round")
	shims := flag.Int("shims", 6, "shims whose memory is measured, at the same time for each runtime")
	only := flag.String("only", "", "measure only these, separated by commas: gosuda, runc, crun")
	asJSON := flag.Bool("json", false, "print JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := bench(ctx, *rounds, *shims, *only, *asJSON); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// contender is one runtime under measurement.
type contender struct {
	name    string
	binary  shimdrive.Binary
	command string // the command line of the engine under the shim
}

func bench(ctx context.Context, rounds, shims int, only string, asJSON bool) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	all, undo, err := contenders(only)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, undo()) }()

	dir, err := os.MkdirTemp("", "gosuda-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	rootfs := filepath.Join(dir, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		return err
	}
	if err := containerdtest.WriteRootfs(rootfs); err != nil {
		return err
	}
	host, err := shimdrive.NewHost(dir, fmt.Sprintf("gosuda-bench-%d", os.Getpid()))
	if err != nil {
		return err
	}
	defer host.Close()
	r := &rig{host: host, dir: dir, rootfs: rootfs, namespace: fmt.Sprintf("gosuda-bench-%d", os.Getpid()), alive: map[string]alive{}}
	defer func() { err = errors.Join(err, r.close()) }()

	result := newResult(all)
	// The first lives of each runtime warm the page cache and are not counted.
	for range 2 {
		for _, c := range all {
			if err := r.ownShim(ctx, c, func(string, time.Duration) {}); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	for _, m := range measurements {
		n := max(rounds/m.cost, 3)
		for i := range n {
			progress("%s: round %d of %d", m.title, i+1, n)
			for _, c := range all {
				if err := m.run(r, ctx, c, func(work string, d time.Duration) { result.addTime(work, c.name, d) }); err != nil {
					return fmt.Errorf("%s: %s: %w", c.name, m.title, err)
				}
			}
		}
	}
	for _, c := range all {
		progress("memory: %s", c.name)
		if err := r.memory(ctx, c, shims, func(work string, kib float64) { result.addMemory(work, c.name, kib) }); err != nil {
			return fmt.Errorf("%s: memory: %w", c.name, err)
		}
	}
	progress("")
	if asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(result.summary())
	}
	fmt.Print(result.table())
	return nil
}

// contenders finds the runtimes. undo takes back what crun needed.
func contenders(only string) (all []contender, undo func() error, err error) {
	undo = func() error { return nil }
	tree, err := containerdtest.FindTree()
	if err != nil {
		return nil, undo, err
	}
	var find error
	peer := func(name, program string) string {
		dir, err := tree.Peer(name)
		find = errors.Join(find, err)
		return filepath.Join(dir, program)
	}
	shim, runc, crun := peer("containerd", "containerd-shim-runc-v2"), peer("runc", "runc"), peer("crun", "crun")
	if find != nil {
		return nil, undo, find
	}
	for _, c := range []struct{ name, path, engine, command string }{
		{"runc", shim, runc, runc},
		{"crun", shim, crun, crun},
		{"gosuda", filepath.Join(tree.Bin(), "containerd-shim-gosuda-v2"), "", filepath.Join(tree.Bin(), "gosudacon")},
	} {
		if only != "" && !slices.Contains(strings.Split(only, ","), c.name) {
			continue
		}
		if _, err := os.Stat(c.path); err != nil {
			return nil, undo, err
		}
		b := shimdrive.Binary{Path: c.path}
		if c.engine != "" {
			if b.Options, err = anypb.New(&options.Options{BinaryName: c.engine}); err != nil {
				return nil, undo, err
			}
			b.Options.TypeUrl = "containerd.runc.v1.Options" // as containerd's typeurl writes it
		}
		all = append(all, contender{c.name, b, c.command})
	}
	if slices.ContainsFunc(all, func(c contender) bool { return c.name == "crun" }) {
		undo, err = mountHugetlb()
	}
	return all, undo, err
}

// mountHugetlb mounts cgroup v1's hugetlb hierarchy where it is missing, without which crun starts nothing on a host that has v1
// hierarchies.
func mountHugetlb() (undo func() error, err error) {
	const v1, dir = "/sys/fs/cgroup/memory", "/sys/fs/cgroup/hugetlb"
	undo = func() error { return nil }
	if _, err := os.Stat(v1); err != nil {
		return undo, nil // pure v2
	}
	if _, err := os.Stat(dir); err == nil {
		return undo, nil
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return undo, fmt.Errorf("mount hugetlb for crun: %w", err)
	}
	if err := unix.Mount("cgroup", dir, "cgroup", 0, "hugetlb"); err != nil {
		return undo, errors.Join(fmt.Errorf("mount hugetlb for crun: %w", err), os.Remove(dir))
	}
	return func() error { return errors.Join(unmountHugetlb(dir), os.Remove(dir)) }, nil
}

// unmountHugetlb unmounts the hierarchy until it is gone. The kernel keeps a hierarchy, unmounted, when removed cgroups of it still wait
// for their last reference at the time of the unmount; runtimes then find it in /proc/self/cgroup and look for its mount in vain.
// Nothing tells when they are gone, so it is tried for a while.
func unmountHugetlb(dir string) error {
	for range 100 {
		if err := unix.Unmount(dir, 0); err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
		time.Sleep(50 * time.Millisecond) // the hierarchy goes after a grace period
		text, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			return err
		}
		if !strings.Contains(string(text), ":hugetlb:") {
			return nil
		}
		if err := unix.Mount("cgroup", dir, "cgroup", 0, "hugetlb"); err != nil {
			return fmt.Errorf("mount %s again: %w", dir, err)
		}
	}
	return errors.Join(fmt.Errorf("unmount %s: the kernel keeps the hierarchy", dir), unix.Unmount(dir, 0))
}
