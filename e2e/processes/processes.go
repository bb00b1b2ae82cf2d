// Package processes finds the processes that a test left, and ends them.
package processes

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// End kills everything that descends from root, but not root. Who is its subreaper must reap them.
func End(root int) {
	for range 10 { // each round kills one generation more than the last at the least
		left := Below(root, 0)
		if len(left) == 0 {
			return
		}
		for _, process := range left {
			pid, _, _ := strings.Cut(process, " ")
			if n, err := strconv.Atoi(pid); err == nil {
				_ = unix.Kill(n, unix.SIGKILL) // gone already is as good
				_ = unix.Kill(n, unix.SIGCONT)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Below lists the processes below root, but not except and nothing of what except still owns, as
// "pid command line".
func Below(root, except int) []string {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	children := map[int][]int{}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it ended while we looked
		}
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		after := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
		fields := strings.Fields(after)
		if len(fields) < 2 {
			continue
		}
		ppid, _ := strconv.Atoi(fields[1])
		children[ppid] = append(children[ppid], pid)
	}
	var found []string
	var walk func(pid int)
	walk = func(pid int) {
		for _, child := range children[pid] {
			if child == except {
				continue
			}
			found = append(found, fmt.Sprintf("%d %s", child, commandLine(child)))
			walk(child)
		}
	}
	walk(root)
	slices.Sort(found)
	return found
}

func commandLine(pid int) string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if len(line) == 0 {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return "[" + strings.TrimSpace(string(comm)) + "]"
	}
	return strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
}
