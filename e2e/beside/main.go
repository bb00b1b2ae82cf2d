// Command beside runs the suites of containerd's and the engine's clients with runc and with gosuda, on the same machine one after another, and
// prints a table, command by command: how often the tests ran it, its flags, whether they passed, and the median of its times.
//
// It fails when a test fails with gosuda.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	parallel := flag.Int("parallel", 1, "tests at the same time; with more than one the times say less")
	only := flag.String("run", "", "run these tests alone, as go test's -run")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: beside [flags] SUITE...\nsuites: %s\n", strings.Join(slices.Sorted(maps.Keys(suites)), ", "))
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, flag.Args(), *parallel, *only); err != nil {
		fmt.Fprintln(os.Stderr, "beside:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string, parallel int, only string) error {
	for _, name := range names {
		if _, ok := suites[name]; !ok {
			return fmt.Errorf("there is no suite %q", name)
		}
	}
	failed := 0
	for _, name := range names {
		s := suites[name]
		var outcomes []*outcome
		for _, c := range s.columns {
			fmt.Fprintf(os.Stderr, "%s with %s\n", name, c.name)
			o, err := s.test(ctx, c, parallel, only)
			if err != nil {
				return fmt.Errorf("%s with %s: %w", name, c.name, err)
			}
			outcomes = append(outcomes, o)
			if c.name != peer {
				failed += o.count("fail")
			}
		}
		fmt.Println(table(name, outcomes))
	}
	if failed > 0 {
		return fmt.Errorf("%d tests fail with gosuda", failed)
	}
	return nil
}
