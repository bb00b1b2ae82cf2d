package cli

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// firstFD is where socket activation (sd_listen_fds(3)) begins.
const firstFD = 3

// inheritedFDs are descriptors of the caller that the process gets under the same numbers: first those of socket activation,
// then those of --preserve-fds.
type inheritedFDs struct{ activated, preserved int }

func (f inheritedFDs) count() int { return f.activated + f.preserved }

// environment tells the process of the activated ones; it is pid 1 in its namespace or does not look.
func (f inheritedFDs) environment() []string {
	if f.activated == 0 {
		return nil
	}
	return []string{"LISTEN_FDS=" + strconv.Itoa(f.activated), "LISTEN_PID=1"}
}

// inheritedFDs makes sure that they are open. What this process opens itself is close-on-exec, so it is not taken for them.
func (c *call) inheritedFDs() (inheritedFDs, error) {
	var f inheritedFDs
	if os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		f.activated, _ = strconv.Atoi(os.Getenv("LISTEN_FDS"))
		f.activated = max(f.activated, 0)
	}
	n := c.opts.number("preserve-fds")
	const limit = 1 << 16
	if n < 0 || n > limit {
		return f, usagef("option --preserve-fds: %d is not between 0 and %d", n, limit)
	}
	f.preserved = int(n)
	for fd := firstFD; fd < firstFD+f.count(); fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			return f, usagef("file descriptor %d is to be handed to the container (LISTEN_FDS=%d, --preserve-fds=%d) and is not open",
				fd, f.activated, f.preserved)
		}
	}
	return f, nil
}
