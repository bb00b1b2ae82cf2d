// Package nofile remembers the RLIMIT_NOFILE that this process was started with.
//
// Package syscall raises the soft limit in its initialisation and keeps the original to itself; containers must get the
// original back. Go initialises packages in the order of their import paths as far as dependencies allow (Go 1.21): this
// one comes before "syscall", on which it must therefore not depend, not even indirectly. A test holds it to that.
package nofile

import "unsafe"

//go:linkname rawSyscall6 syscall.RawSyscall6
func rawSyscall6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2, errno uintptr)

// Soft and Hard are the limits of this process at its start; both 0 when they could not be read.
var Soft, Hard = read()

func read() (soft, hard uint64) {
	const rlimitNoFile = 7
	var lim [2]uint64 // struct rlimit64
	// Sound: prlimit64(0, RLIMIT_NOFILE, NULL, old) writes 16 bytes to old, which lives on this stack for the call.
	_, _, errno := rawSyscall6(sysPrlimit64, 0, rlimitNoFile, 0, uintptr(unsafe.Pointer(&lim)), 0, 0)
	if errno != 0 {
		return 0, 0
	}
	return lim[0], lim[1]
}
