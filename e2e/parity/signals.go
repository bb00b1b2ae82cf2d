package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ignoreNothing gives this process, and so the runtimes, the default of every signal that its caller ignores, as nohup and some shells
// do: runc and crun pass on to their containers what they inherit.
func ignoreNothing() {
	type action struct {
		handler uintptr
		rest    [3]uint64
	}
	const ignore = 1 // SIG_IGN
	for signal := uintptr(1); signal <= 64; signal++ {
		var a action
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, signal, 0, uintptr(unsafe.Pointer(&a)), unsafe.Sizeof(a.rest[0]), 0, 0)
		if errno == 0 && a.handler == ignore {
			a = action{}
			unix.RawSyscall6(unix.SYS_RT_SIGACTION, signal, uintptr(unsafe.Pointer(&a)), 0, unsafe.Sizeof(a.rest[0]), 0, 0)
		}
	}
}
