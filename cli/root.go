package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/runtime/engine"
)

// stateRoot is where the command line keeps the containers of the host's root.
const stateRoot = "/run/gosudacon"

// ownStateRoot returns where it keeps those of the user who calls it: below $XDG_RUNTIME_DIR, which root of the host, and whoever
// calls themselves root in a user namespace, do without (as with runc).
func ownStateRoot() (string, error) {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	user := os.Geteuid() != 0
	switch {
	case dir == "" && user:
		return "", errors.New("an ordinary user's containers are recorded below $XDG_RUNTIME_DIR, which is not set; set it to a" +
			" directory of the user's own, best on a tmpfs, or give --root DIR")
	case dir == "", !user && (os.Getenv("USER") == "root" || !inUserNamespace()):
		return stateRoot, nil
	}
	root := filepath.Join(dir, "gosudacon")
	if err := makeOwn(root); err != nil {
		return "", fmt.Errorf("make the state root below $XDG_RUNTIME_DIR, which must be the user's own: %w", err)
	}
	return root, nil
}

func inUserNamespace() bool {
	in, err := engine.InUserNamespace()
	return err == nil && in
}

// makeOwn makes a directory for this user alone, with the sticky bit, which keeps those who tidy up from $XDG_RUNTIME_DIR away
// from it (XDG base directory specification). One that belongs to somebody else, who could put records there, is refused.
func makeOwn(dir string) error {
	err := unix.Mkdir(dir, 0o700)
	switch {
	case err == nil:
		err = unix.Chmod(dir, 0o700|unix.S_ISVTX)
	case errors.Is(err, unix.EEXIST):
		var st unix.Stat_t
		if err = unix.Lstat(dir, &st); err == nil {
			switch {
			case st.Mode&unix.S_IFMT != unix.S_IFDIR:
				err = unix.ENOTDIR
			case int(st.Uid) != os.Geteuid():
				err = fmt.Errorf("it belongs to user %d", st.Uid)
			case st.Mode&0o022 != 0:
				err = fmt.Errorf("others may write to it (mode %04o)", st.Mode&0o7777)
			}
		}
	}
	if err != nil {
		return &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return nil
}
