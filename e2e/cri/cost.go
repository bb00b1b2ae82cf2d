package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// podCost is what pods cost, by what is measured.
type podCost map[string][]float64

// What is measured. The network of a pod is made by CNI's plugins, which take most of the time; pods in the host's do without.
const (
	runRow     = "RunPodSandbox, ms"
	removeRow  = "Stop- and RemovePodSandbox, ms"
	runHost    = "RunPodSandbox in the host's network, ms"
	removeHost = "Stop- and RemovePodSandbox in the host's network, ms"
	firstRow   = "a container created and started, ms"
	processRow = "processes of a pod without containers"
	shimRow    = "shim, PSS, MiB"
	pauseRow   = "pause, PSS, MiB"
	bothRow    = "shim and pause, PSS, MiB"
	runningRow = "the same with a container, PSS, MiB"
	sharedRow  = "the same with shared process ids, PSS, MiB"
)

var costRows = []string{runRow, removeRow, runHost, removeHost, firstRow, processRow, shimRow, pauseRow, bothRow, runningRow, sharedRow}

// costPods is how many pods live when memory is measured: what their processes share counts as shared.
const costPods = 10

// runCost measures pods with each handler in turn, several times, and prints medians.
func (s *suite) runCost(ctx context.Context, handlers []string) error {
	all := map[string]podCost{}
	for range s.rounds {
		for _, h := range handlers {
			if all[h] == nil {
				all[h] = podCost{}
			}
			if err := s.costRound(ctx, h, all[h]); err != nil {
				return fmt.Errorf("cost of %s: %w", h, err)
			}
		}
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "median\t")
	for _, h := range handlers {
		fmt.Fprintf(table, "%s\t", h)
	}
	fmt.Fprintln(table)
	for _, row := range costRows {
		fmt.Fprintf(table, "%s\t", row)
		for _, h := range handlers {
			fmt.Fprintf(table, "%.2f\t", middle(all[h][row]))
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

func middle(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[len(list)/2]
}

// costRound adds pods on a containerd of its own.
func (s *suite) costRound(ctx context.Context, handler string, c podCost) error {
	return s.served(ctx, handler, func(r *runtimeService) error { return c.round(ctx, r, s.number) })
}

// round adds number pods, one after the other, and then many at a time.
func (c podCost) round(ctx context.Context, r *runtimeService, number int) error {
	host := func() *cri.PodSandboxConfig {
		config := r.newConfig(&cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER, Network: cri.NamespaceMode_NODE})
		config.Hostname = ""
		return config
	}
	if err := r.in(ctx, host(), func(*pod) error { return nil }); err != nil { // the first one pulls an image
		return err
	}
	for range number {
		if err := c.oneByOne(ctx, r, host()); err != nil {
			return err
		}
	}
	err := c.together(ctx, r, ownPids(), c.ofPods)
	if err == nil {
		err = c.together(ctx, r, &cri.NamespaceOption{}, func(_ context.Context, all []*pod) error { return c.memory(all, sharedRow) })
	}
	return errors.Join(err, removeCgroups())
}

func (c podCost) add(row string, v float64) { c[row] = append(c[row], v) }

func milliseconds(since time.Time) float64 {
	return float64(time.Since(since)) / float64(time.Millisecond)
}

// oneByOne makes and removes one pod.
func (c podCost) oneByOne(ctx context.Context, r *runtimeService, config *cri.PodSandboxConfig) error {
	start := time.Now()
	p, err := r.run(ctx, config)
	if err != nil {
		return err
	}
	c.add(runHost, milliseconds(start))
	start = time.Now()
	if err := p.remove(ctx); err != nil {
		return err
	}
	c.add(removeHost, milliseconds(start))
	return nil
}

// together makes pods, measures them while all of them live, and removes them.
func (c podCost) together(ctx context.Context, r *runtimeService, o *cri.NamespaceOption, measure func(context.Context, []*pod) error) error {
	own := o.Pid == cri.NamespaceMode_CONTAINER
	var all []*pod
	for range costPods {
		start := time.Now()
		p, err := r.run(ctx, r.newConfig(o))
		if err != nil {
			return err
		}
		if own {
			c.add(runRow, milliseconds(start))
		}
		all = append(all, p)
	}
	if err := measure(ctx, all); err != nil {
		return err
	}
	for _, p := range all {
		start := time.Now()
		if err := p.remove(ctx); err != nil {
			return err
		}
		if own {
			c.add(removeRow, milliseconds(start))
		}
	}
	return nil
}

// ofPods measures pods without containers, and with one.
func (c podCost) ofPods(ctx context.Context, all []*pod) error {
	if err := c.memory(all, bothRow); err != nil {
		return err
	}
	for _, p := range all {
		start := time.Now()
		if _, err := p.container(ctx, sleeper); err != nil {
			return err
		}
		c.add(firstRow, milliseconds(start))
	}
	return c.memory(all, runningRow)
}

// memory measures what keeps the pods; with bothRow also one by one.
func (c podCost) memory(all []*pod, row string) error {
	for _, p := range all {
		shim, pause, n, err := p.memory()
		if err != nil {
			return err
		}
		c.add(row, shim+pause)
		if row == bothRow {
			c.add(shimRow, shim)
			c.add(pauseRow, pause)
			c.add(processRow, float64(n))
		}
	}
	return nil
}

var pss = regexp.MustCompile(`(?m)^Pss: +(\d+) kB$`)

// memory is the proportional set size of a pod's shim, in MiB, and of the programs called pause among its children; n counts them all.
func (p *pod) memory() (shim, pause float64, n int, err error) {
	pid, err := p.shim()
	if err != nil {
		return 0, 0, 0, err
	}
	if shim, err = setSize(pid); err != nil {
		return 0, 0, 0, err
	}
	n = 1
	for _, child := range childrenOf(pid) {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child))
		if err != nil {
			return 0, 0, 0, err
		}
		if string(comm) != "pause\n" {
			continue
		}
		size, err := setSize(child)
		if err != nil {
			return 0, 0, 0, err
		}
		pause += size
		n++
	}
	return shim, pause, n, nil
}

func setSize(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	m := pss.FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("smaps_rollup of process %d: %q", pid, text)
	}
	kib, err := strconv.Atoi(string(m[1]))
	return float64(kib) / 1024, err
}

// childrenOf are the child processes of a process.
func childrenOf(pid int) (list []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is one
	for _, f := range files {
		text, _ := os.ReadFile(f) // of a thread that has ended there are none
		for word := range strings.FieldsSeq(string(text)) {
			if child, err := strconv.Atoi(word); err == nil {
				list = append(list, child)
			}
		}
	}
	return list
}
