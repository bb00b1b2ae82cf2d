package containerdtest

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Criu is the directory of criu. missing says what criu itself misses in this kernel, "" for nothing: then tests can do without it.
func (t Tree) Criu() (dir, missing string, err error) {
	if dir, err = t.Peer("criu"); err != nil {
		return "", "", err
	}
	out, err := exec.Command(filepath.Join(dir, "criu"), "check").CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return "", "", fmt.Errorf("run criu: %w", err)
	}
	if strings.Contains(string(out), "Too many open files") { // the machine's limit of inotify instances, not its kernel
		return "", "", fmt.Errorf("run criu: %s", out)
	}
	if err != nil {
		return dir, "criu check: " + strings.TrimSpace(string(out)), nil
	}
	return dir, "", nil
}
