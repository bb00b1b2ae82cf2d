package engine_test

import "golang.org/x/sys/unix"

var mkdirs = []int{unix.SYS_MKDIRAT}
