package engine_test

import "golang.org/x/sys/unix"

var mkdirs = []int{unix.SYS_MKDIR, unix.SYS_MKDIRAT}
