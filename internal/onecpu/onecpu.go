// Package onecpu gives a process the processors back that the program's entry (cli/entry_amd64.s) has kept it from while the Go runtime
// began.
//
// A command that ends within milliseconds is quicker with one thread that runs Go code at a time (GOMAXPROCS=1): the others would be
// begun, woken on a sleeping processor, and ended, for nothing. The runtime sets that number by the processors that it sees, so the
// entry lets it see one; while the runtime begins, which takes three threads, their switches are also cheaper on one.
package onecpu

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// start are the processors that the entry found, and one is the one that it left; both are empty in a program that is entered elsewhere.
var start, one unix.CPUSet

// kept: the entry did that. Packages are initialised on the process's first thread, which gets its processors back here.
var kept = one != unix.CPUSet{} && unix.SchedSetaffinity(0, &start) == nil

// Threads gives the processors back to the threads that the runtime has begun with, too, which hand them down to whatever process they
// start. It is not done at once, because it takes as long as all that they gain one from.
func Threads() {
	if kept {
		for _, tid := range threads() {
			unix.SchedSetaffinity(tid, &start)
		}
	}
}

// threads returns the threads of this process. os.ReadDir is not used: it sorts, and looks at each.
func threads() (tids []int) {
	fd, err := unix.Open("/proc/self/task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	// struct linux_dirent64, getdents(2): inode and offset, the entry's length, type, and name.
	const length, name = 16, 19
	var buf [1024]byte
	for {
		n, err := unix.Getdents(fd, buf[:])
		if err != nil || n <= 0 {
			return tids
		}
		for rest := buf[:n]; len(rest) > name; rest = rest[binary.NativeEndian.Uint16(rest[length:]):] {
			text, _, _ := bytes.Cut(rest[name:], []byte{0})
			if tid, err := strconv.Atoi(string(text)); err == nil {
				tids = append(tids, tid)
			}
		}
	}
}

// Leave lets as many threads run Go code as Go would have by itself: for a process that stays.
func Leave() {
	if n := start.Count(); kept && n > runtime.GOMAXPROCS(0) && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(n)
	}
}
