package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Random fills b, of at most 256 bytes, which getrandom(2) does all at once. That of package unix has the vDSO do it, for which a
// process that asks once prepares memory.
func Random(b []byte) error {
	for {
		// Sound: the kernel writes len(b) bytes to b, which lives on for the call.
		_, _, errno := unix.Syscall(unix.SYS_GETRANDOM, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0)
		if errno != unix.EINTR {
			if errno != 0 {
				return errno
			}
			return nil
		}
	}
}
