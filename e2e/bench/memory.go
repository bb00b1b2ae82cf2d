package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// settle is how long shims are left alone before their memory is read.
const settle = 2 * time.Second

// memory reads the memory of n shims of the same runtime that live at the same time, so that pages of the program, which they share,
// are no one's private ones: first of shims with a running container, then of shims with a created one.
func (r *rig) memory(ctx context.Context, c contender, n int, used func(work string, kib float64)) error {
	for _, created := range []bool{false, true} {
		if err := r.crowd(ctx, c, n, created, used); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) crowd(ctx context.Context, c contender, n int, created bool, used func(string, float64)) (err error) {
	var crowd []*running
	defer func() {
		for _, run := range crowd {
			err = errors.Join(err, r.stop(ctx, c, run))
		}
	}()
	for range n {
		run, err := r.launch(ctx, c, "", created)
		if err != nil {
			return err
		}
		crowd = append(crowd, run)
	}
	time.Sleep(settle)
	for _, run := range crowd {
		shim, err := readMemory(run.pid)
		if err != nil {
			return err
		}
		if !created {
			used(memPrivate, shim.private)
			used(memPSS, shim.pss)
			used(memRSS, shim.rss)
			continue
		}
		init, err := readMemory(run.init)
		if err != nil {
			return err
		}
		used(memPSSCreated, shim.pss+init.pss)
	}
	return nil
}

// footprint is what a process uses, in KiB.
type footprint struct{ private, pss, rss float64 }

func readMemory(pid uint32) (m footprint, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return m, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			continue
		}
		n, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			continue // the first line, which names the range
		}
		switch fields[0] {
		case "Private_Clean:", "Private_Dirty:":
			m.private += n
		case "Pss:":
			m.pss = n
		case "Rss:":
			m.rss = n
		}
	}
	return m, nil
}
