// Command crowd measures what many containers at once cost under containerd: time, and memory, descriptors and threads of their shims, and
// the CPU time of asking for their statistics. gosuda and containerd-shim-runc-v2 take turns.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// scale is how much is measured.
type scale struct {
	own, pod, stats, seconds, width int
}

func main() {
	containerdtest.Main()
	var s scale
	flag.IntVar(&s.own, "own", 500, "containers that have a shim each; 0 leaves them out")
	flag.IntVar(&s.pod, "pod", 200, "containers in one shim; 0 leaves them out")
	flag.IntVar(&s.stats, "stats", 100, "containers whose statistics are asked for every second; 0 leaves them out")
	flag.IntVar(&s.seconds, "seconds", 20, "how long statistics are asked for")
	flag.IntVar(&s.width, "width", 4, "requests at a time")
	runtimes := flag.String("runtimes", "runc,gosuda", "what is measured")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := crowd(ctx, s, strings.Split(*runtimes, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "crowd:", err)
		os.Exit(1)
	}
}

// group is that of containers which share a shim.
const group = "crowd"

func crowd(ctx context.Context, s scale, runtimes []string) error {
	t := &table{names: runtimes}
	var failed []error
	for _, m := range []struct {
		title   string
		n       int
		measure func(h *herd, title string, n int) error
	}{
		{"%d, a shim each", s.own, func(h *herd, title string, n int) error { return h.life(title, "", n, t) }},
		{"%d, in one shim", s.pod, func(h *herd, title string, n int) error { return h.life(title, group, n, t) }},
		{"statistics of %d, a shim each", s.stats, func(h *herd, title string, n int) error { return h.statistics(title, "", n, s.seconds, t) }},
		{"statistics of %d, in one shim", s.stats, func(h *herd, title string, n int) error { return h.statistics(title, group, n, s.seconds, t) }},
	} {
		if m.n == 0 {
			continue
		}
		for _, runtime := range runtimes {
			title := fmt.Sprintf(m.title, m.n)
			fmt.Fprintf(os.Stderr, "%s: %s\n", runtime, title)
			if err := alone(ctx, runtime, s.width, func(h *herd) error { return m.measure(h, title, m.n) }); err != nil {
				failed = append(failed, fmt.Errorf("%s: %s: %w", runtime, title, err))
			}
		}
	}
	fmt.Print(t)
	return errors.Join(failed...)
}

// alone measures a runtime under a containerd of its own, and fails when something is left of it.
func alone(ctx context.Context, runtime string, width int, measure func(*herd) error) (err error) {
	dir, err := os.MkdirTemp("", "gc-") // short: sockets are made in it
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	h, err := newHerd(ctx, dir, runtime, width)
	if err != nil {
		return err
	}
	defer func() {
		left, closeErr := h.close()
		err = errors.Join(err, closeErr)
		if len(left) > 0 && runtime == "gosuda" { // the runc shim leaves the sockets of groups
			err = errors.Join(err, fmt.Errorf("left behind: %s", strings.Join(left, "\n")))
		}
	}()
	return measure(h)
}

// startDaemon starts a containerd in dir.
func startDaemon(dir string) (*containerdtest.Daemon, error) {
	tree, err := containerdtest.FindTree()
	if err != nil {
		return nil, err
	}
	bin, err := tree.Peer("containerd")
	if err != nil {
		return nil, err
	}
	runc, err := tree.Peer("runc")
	if err != nil {
		return nil, err
	}
	d := filepath.Join(dir, "d")
	if err := os.Mkdir(d, 0o711); err != nil {
		return nil, err
	}
	return containerdtest.Start(containerdtest.Config{
		Bin: bin, Path: []string{tree.Bin(), bin, runc}, Dir: d, Namespace: fmt.Sprintf("gosuda-crowd-%d", os.Getpid()),
	})
}
