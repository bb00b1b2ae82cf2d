package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gosuda/gosudacon/e2e/node"
)

// report prints the table and every difference from the first result, and fails when one of gosuda's is not explained, unless it is that the spec passes. Explanations that explain
// nothing fail when all specs ran.
func report(w io.Writer, results []result, all bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "handler\tpassed\tfailed\tskipped\ttime\t")
	for _, r := range results {
		passed, failed, skipped := r.count()
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%v\t\n", r.handler, passed, failed, skipped, r.took.Round(time.Second))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	skipped(w, results[0])
	base := map[string]spec{}
	for _, s := range results[0].specs {
		base[s.name] = s
	}
	unexplained := 0
	for i, r := range results {
		used := map[string]bool{}
		for _, s := range r.specs {
			if s.state == base[s.name].state && (i > 0 || s.state == "passed" || s.state == "skipped") {
				continue
			}
			fmt.Fprintf(w, "\n%s: %s: %s", r.handler, s.state, s.name)
			if i > 0 {
				fmt.Fprintf(w, " (%s: %s)", results[0].handler, base[s.name].state)
			}
			fmt.Fprintf(w, "\n  %s\n", strings.ReplaceAll(strings.TrimSpace(s.message), "\n", "\n  "))
			if why := differences[r.handler][s.name]; why != "" {
				used[s.name] = true
				fmt.Fprintf(w, "  because %s\n", why)
			} else if r.handler != node.Runc && s.state != "passed" {
				unexplained++
			}
		}
		for name := range differences[r.handler] {
			if all && !used[name] {
				fmt.Fprintf(w, "\n%s: no different from %s, but differences.go has a reason: %s\n", r.handler, results[0].handler, name)
				unexplained++
			}
		}
	}
	if unexplained > 0 {
		return errors.New("there are differences without a reason")
	}
	return nil
}

// skipped prints why specs were skipped, which is what the machine lacks, and how many for that.
func skipped(w io.Writer, r result) {
	count := map[string]int{}
	for _, s := range r.specs {
		if s.state == "skipped" {
			count[s.message]++
		}
	}
	for _, why := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(w, "%d skipped with %s: %s\n", count[why], r.handler, why)
	}
}
