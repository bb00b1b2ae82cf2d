package engine

import "github.com/gosuda/gosudacon/runtime/internal/seccomp"

const nativeArch = seccomp.AMD64
