// Command cri runs critest, the validation suite of Kubernetes' container runtime interface, on a private containerd: with runc, and with
// gosuda in each way that it can be deployed. It prints what passed, failed and was skipped, and every spec that did not end as it did with runc.
//
// A spec that fails with gosuda, or ends otherwise than with runc, fails the run unless differences.go has the reason.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/alone"
	"github.com/gosuda/gosudacon/e2e/containerdtest"
	"github.com/gosuda/gosudacon/e2e/node"
)

func main() {
	containerdtest.Main()
	var s suite
	names := flag.String("handlers", "runc,gosuda,gosuda-table,in-place,pauseless", "runtime handlers to run critest with, separated by commas; the first is what the others are compared with")
	flag.StringVar(&s.focus, "run", "", "run the specs whose name matches this regular expression")
	flag.BoolVar(&s.verbose, "v", false, "print what critest prints, and containerd's log when something is left behind")
	flag.BoolVar(&s.pod, "pod", false, "run pods, and start containerd again under them, instead of critest")
	flag.BoolVar(&s.benchmark, "benchmark", false, "run critest's benchmarks instead of its validation")
	flag.BoolVar(&s.cost, "cost", false, "measure what pods cost besides their containers, instead of critest")
	flag.IntVar(&s.rounds, "rounds", 3, "with -benchmark or -cost: runs of each handler, in turn")
	flag.IntVar(&s.number, "number", 20, "with -benchmark or -cost: pods, and containers, in a run")
	flag.IntVar(&s.parallel, "parallel", 1, "with -benchmark: pods or containers at a time")
	flag.BoolVar(&s.systemd, "systemd", false, "have systemd make the cgroups of pods, as a kubelet with that cgroup driver asks for")
	printDigest := flag.Bool("print-digest", false, "print the digest that critest is to be built with")
	flag.Parse()
	if *printDigest {
		d, err := node.DigestImage()
		exitOn(err)
		fmt.Println(d)
		return
	}
	if os.Geteuid() != 0 {
		exitOn(errors.New("run it as root: it makes containers"))
	}
	// The ports that critest uses, the bridge and what its specs mount are those of namespaces of our own; so is what CNI's plugins remember.
	exitOn(alone.Start(alone.Config{Empty: node.Empty}))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	exitOn(s.run(ctx, strings.Split(*names, ",")))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "cri:", err)
		os.Exit(1)
	}
}

// suite is one run.
type suite struct {
	*node.Site

	focus                string
	verbose              bool
	pod, benchmark, cost bool
	systemd              bool // makes the cgroups of pods

	rounds, number, parallel int // of benchmarks
}

func (s *suite) run(ctx context.Context, names []string) (err error) {
	if s.Site, err = node.NewSite(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	s.SystemdCgroup = s.systemd
	switch {
	case s.pod:
		return s.runPods(ctx, names)
	case s.benchmark:
		return s.runBenchmarks(ctx, names)
	case s.cost:
		return s.runCost(ctx, names)
	}
	return s.validate(ctx, names)
}

// stop ends a containerd; what is left of the handler is an error.
func (s *suite) stop(d *containerdtest.Daemon, handler string) error {
	err := node.Stop(d, handler)
	if err != nil && s.verbose {
		fmt.Fprintln(os.Stderr, d.Log())
	}
	return err
}

// validate runs critest with each handler and compares.
func (s *suite) validate(ctx context.Context, names []string) error {
	if err := s.checkFeatures(ctx, names); err != nil {
		return err
	}
	var results []result
	for _, name := range names {
		r, err := s.critest(ctx, name)
		if err != nil {
			return fmt.Errorf("critest with %s: %w", name, err)
		}
		fmt.Fprintf(os.Stderr, "critest with %s: %s\n", name, r.summary())
		results = append(results, r)
	}
	return report(os.Stdout, results, s.focus == "")
}
