// Command parity runs the same bundles with gosudacon, runc and crun, and compares what their processes see, field by field.
//
// A field of gosudacon that is not as runc and crun have it must be explained in differences.go, or the run fails.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
	"github.com/gosuda/gosudacon/e2e/ociruntime"
)

func main() {
	runtime.LockOSThread() // for newHost
	ignoreNothing()
	var s suite
	names := flag.String("runtimes", "gosudacon,runc,crun", "runtimes to compare, separated by commas; the first with each of the others")
	only := flag.String("run", "", "run the bundles whose name matches this regular expression")
	flag.IntVar(&s.parallel, "parallel", 2, "bundles at a time")
	flag.BoolVar(&s.verbose, "v", false, "print every field of every runtime, and the explained differences")
	flag.BoolVar(&s.list, "list", false, "print the names of the bundles")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := s.run(ctx, strings.Split(*names, ","), *only); err != nil {
		fmt.Fprintln(os.Stderr, "parity:", err)
		os.Exit(1)
	}
}

// suite is one run of the bundles.
type suite struct {
	parallel      int
	verbose, list bool

	dir      string // of this run
	probe    string // the program for the containers
	host     *host
	runtimes []ociruntime.Runtime
	done     atomic.Int64
}

func (s *suite) run(ctx context.Context, names []string, only string) (err error) {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	var chosen []variation
	for _, v := range variations() {
		if match.MatchString(v.name) {
			chosen = append(chosen, v)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no bundle matches %q", only)
	}
	if s.list {
		for _, v := range chosen {
			fmt.Println(v.name)
		}
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("run it as root: it makes containers")
	}
	tree, err := containerdtest.FindTree()
	if err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "gosuda-parity"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if err := os.Chmod(s.dir, 0o755); err != nil { // other users' containers walk through it
		return err
	}
	for _, name := range names {
		r, err := ociruntime.Find(tree, name, s.dir)
		if err != nil {
			return err
		}
		s.runtimes = append(s.runtimes, r)
	}
	s.probe = filepath.Join(s.dir, "probe")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", s.probe, "./parity/probe")
	build.Dir = filepath.Join(string(tree), "e2e")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the probe: %w: %s", err, text)
	}
	if s.host, err = newHost(s.dir); err != nil {
		return err
	}
	defer s.host.close()

	defer func() { err = errors.Join(err, removeCgroups()) }()
	outcomes := make([]outcome, len(chosen))
	gate := make(chan struct{}, s.parallel)
	var wait sync.WaitGroup
	for i, v := range chosen {
		gate <- struct{}{}
		wait.Go(func() {
			defer func() { <-gate }()
			outcomes[i] = s.compare(ctx, v)
			progress("%d of %d: %s", s.done.Add(1), len(chosen), v.name)
		})
	}
	wait.Wait()
	progress("")
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.report(outcomes, only == "")
}

// outcome is what the runtimes made of one variation.
type outcome struct {
	name string
	seen map[string]view // by the runtime's name
}

// compare runs one variation with each runtime in turn, in the same directory.
func (s *suite) compare(ctx context.Context, v variation) outcome {
	out := outcome{v.name, map[string]view{}}
	for _, r := range s.runtimes {
		if ctx.Err() != nil {
			break
		}
		out.seen[r.Name] = s.one(ctx, v, r)
	}
	return out
}

// progress shows, on a terminal's one line, how far we are.
func progress(format string, args ...any) {
	if _, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS); err == nil {
		fmt.Fprintf(os.Stderr, "\r\033[K"+format, args...)
	}
}
