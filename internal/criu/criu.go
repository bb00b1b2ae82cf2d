// Package criu asks criu(8), the program, to write the state of processes to files and to make processes from such files.
//
// Each request has a criu of its own, `criu swrk FD`: a child of this process, which takes one request on a socket and, while
// it works, asks back (Notification). Its messages are protobuf, those of criu's rpc.proto, written by hand: generated ones
// would be linked into every process and parsed at its start (see internal/wire), for something that few containers ever see.
package criu

import (
	"cmp"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
)

// ErrNotFound says that there is no criu on this host.
var ErrNotFound = errors.New("criu is not installed (a package of that name has it), or is not in $PATH")

// Find returns the absolute path of the program. name is what somebody asked for, "" for criu in $PATH.
func Find(name string) (string, error) {
	path, err := exec.LookPath(cmp.Or(name, "criu"))
	switch {
	case err == nil:
		return filepath.Abs(path)
	case name == "":
		return "", ErrNotFound
	}
	return "", fmt.Errorf("%w: %w", ErrNotFound, err)
}
