package cli

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pause waits for a time that grows with i from nothing to well over what a creation takes.
func pause(i int) { time.Sleep(time.Duration(i) * 700 * time.Microsecond) }

// reapAtEnd reaps a process of the container that is our child by then: the init of a pid namespace does not end before all its
// others are reaped.
func (r *rig) reapAtEnd(pid int) { go unix.Wait4(pid, nil, 0, nil) }

// killHooks ends hooks whose runtime was killed, which nobody else would: they have mark in their command line.
func killHooks(mark string) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range lines {
		b, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(b), mark) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		children, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "task", strconv.Itoa(pid), "children"))
		for child := range strings.FieldsSeq(string(children)) {
			n, _ := strconv.Atoi(child)
			unix.Kill(n, unix.SIGKILL)
		}
		unix.Kill(pid, unix.SIGKILL)
	}
}
