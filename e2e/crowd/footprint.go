package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// footprint is what a process uses; memory in KiB.
type footprint struct {
	private, pss, files, threads float64
	cpu                          time.Duration
}

func (f *footprint) add(g footprint) {
	f.private += g.private
	f.pss += g.pss
	f.files += g.files
	f.threads += g.threads
	f.cpu += g.cpu
}

// shims returns the process ids of the shims of a namespace.
func shims(namespace string) (pids []int, err error) {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		text, _ := os.ReadFile(path) // it may have ended
		args := strings.Split(string(text), "\x00")
		if i := slices.Index(args, "-namespace"); i > 0 && args[i+1] == namespace && strings.Contains(args[0], "containerd-shim-") {
			pid, err := strconv.Atoi(strings.Split(path, "/")[2])
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		return nil, errors.New("find shims: there are none")
	}
	return pids, err
}

// look reads what a process uses.
func look(pid int) (f footprint, err error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	smaps, err := os.ReadFile(dir + "/smaps_rollup")
	if err != nil {
		return f, err
	}
	for line := range bytes.Lines(smaps) {
		fields := strings.Fields(string(line))
		n, err := strconv.ParseFloat(fields[min(1, len(fields)-1)], 64)
		if err != nil {
			continue // the first line, which names the range
		}
		switch fields[0] {
		case "Private_Clean:", "Private_Dirty:":
			f.private += n
		case "Pss:":
			f.pss = n
		}
	}
	files, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return f, err
	}
	f.files = float64(len(files))
	// In nanoseconds, where /proc/PID/stat has hundredths of a second, which are rounded for each process.
	threads, err := filepath.Glob(dir + "/task/*/schedstat")
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		ns, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			return f, fmt.Errorf("parse %s: %w", path, err)
		}
		f.cpu += time.Duration(n)
		f.threads++
	}
	return f, err
}
