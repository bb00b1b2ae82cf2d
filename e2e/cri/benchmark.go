package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

// benchmarks are the files that critest writes and what they are of. Those of images have nothing to do with the runtime.
var benchmarks = []string{"pod_benchmark_data.json", "container_benchmark_data.json"}

// samples are the times of each operation, in the order in which operations come.
type samples struct {
	operations []string
	took       map[string][]time.Duration
}

// runBenchmarks runs critest's benchmarks with each handler in turn, several times, and prints medians.
func (s *suite) runBenchmarks(ctx context.Context, handlers []string) error {
	params := fmt.Sprintf("containersNumber: %[1]d\ncontainersNumberParallel: %[2]d\npodsNumber: %[1]d\npodsNumberParallel: %[2]d\n", s.number, s.parallel)
	if err := os.WriteFile(s.File("params.yaml"), []byte(params), 0o644); err != nil {
		return err
	}
	all := map[string]*samples{}
	for range s.rounds {
		for _, h := range handlers {
			if all[h] == nil {
				all[h] = &samples{took: map[string][]time.Duration{}}
			}
			if err := s.benchmarkRound(ctx, h, all[h]); err != nil {
				return fmt.Errorf("benchmark of %s: %w", h, err)
			}
		}
	}
	return reportBenchmarks(handlers, all)
}

// benchmarkRound adds one run of critest with the handler, on a containerd of its own.
func (s *suite) benchmarkRound(ctx context.Context, handler string, all *samples) (err error) {
	n, err := s.Start()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop(n, handler)) }()
	out, err := s.runCritest(ctx, n.Address(), handler, "-benchmark", "-benchmarking-params-file", s.File("params.yaml"),
		"-benchmarking-output-dir", n.Dir, "-ginkgo.no-color")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	for _, name := range benchmarks {
		if err := all.add(filepath.Join(n.Dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// add reads what critest wrote.
func (s *samples) add(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var data struct {
		OperationsNames []string
		Datapoints      []struct {
			OperationsDurationsNs []time.Duration
		}
	}
	if err := json.Unmarshal(text, &data); err != nil {
		return fmt.Errorf("decode %s: %w", file, err)
	}
	for i, operation := range data.OperationsNames {
		if !slices.Contains(s.operations, operation) {
			s.operations = append(s.operations, operation)
		}
		for _, d := range data.Datapoints {
			if i < len(d.OperationsDurationsNs) {
				s.took[operation] = append(s.took[operation], d.OperationsDurationsNs[i])
			}
		}
	}
	return nil
}

func (s *samples) median(operation string) float64 {
	took := slices.Sorted(slices.Values(s.took[operation]))
	if len(took) == 0 {
		return 0
	}
	return float64(took[len(took)/2]) / float64(time.Millisecond)
}

// reportBenchmarks prints a table of medians in milliseconds, with the ratio to the first handler.
func reportBenchmarks(handlers []string, all map[string]*samples) error {
	base := all[handlers[0]]
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "median, ms\tsamples\t")
	for i, h := range handlers {
		fmt.Fprintf(table, "%s\t", h)
		if i > 0 {
			fmt.Fprintf(table, "/ %s\t", handlers[0])
		}
	}
	fmt.Fprintln(table)
	for _, operation := range base.operations {
		fmt.Fprintf(table, "%s\t%d\t", operation, len(base.took[operation]))
		for i, h := range handlers {
			fmt.Fprintf(table, "%.2f\t", all[h].median(operation))
			if i > 0 {
				fmt.Fprintf(table, "%.2f\t", all[h].median(operation)/base.median(operation))
			}
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}
