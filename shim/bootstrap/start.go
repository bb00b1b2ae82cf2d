package bootstrap

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/shim/config"
)

// maxInput bounds what start reads: options hold at most a configuration file.
const maxInput = 10 << 20

// socketDirLink is a symbolic link in the bundle to the directory of the sockets, for the tools that expect it.
const socketDirLink = "s"

// Start leaves a shim behind for the container whose bundle is the working directory, or finds the one that serves its
// group, and writes its address to stdout. The daemon does not wait for its first request: connections queue at its socket
// from the moment that Start returns. On an error nothing is left behind.
func Start(f Flags, stdin io.Reader, stdout *os.File) error {
	input, err := io.ReadAll(io.LimitReader(stdin, maxInput))
	if err != nil {
		return fmt.Errorf("read stdin: %w", err)
	}
	_, hasShimVersions := os.LookupEnv("MAX_SHIM_VERSION")
	r, err := decodeRequest(f, input, legacyEnvironment{os.Getenv("TTRPC_ADDRESS"), hasShimVersions})
	if err != nil {
		return err
	}
	options, err := config.Decode(r.options.TypeURL, r.options.Value)
	if err != nil && !errors.Is(err, config.ErrUnknownType) { // create refuses an unknown type, where the client sees it
		return err
	}
	group, err := readGroup(".", f.ID)
	if err != nil {
		return err
	}
	if err := recordPodOptions(options); err != nil {
		return err
	}
	dir, handle, err := openSocketDir(r.socketDir)
	if err != nil {
		return err
	}
	defer handle.Close()
	path := socketPath(dir, r.address, f.Namespace, group, false)
	answer, err := reply(r.protocol, unixScheme+path)
	if err != nil {
		return err
	}
	// Before the socket exists: whatever happens from here on, delete finds it.
	if err := recordSocket(dir, unixScheme+path); err != nil {
		return err
	}

	listener, err := listen(handle, path)
	if errors.Is(err, errServed) {
		return write(stdout, answer)
	}
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	undo := []func(){func() { unix.Unlink(path) }}
	defer func() {
		for _, u := range slices.Backward(undo) {
			u()
		}
	}()
	listeners := []int{listener}
	if r.debug {
		path := socketPath(dir, r.address, f.Namespace, group, true)
		// Nobody shares this one: a shim that serves it has lost its other socket.
		if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
			return fmt.Errorf("remove debug socket %s: %w", path, err)
		}
		debug, err := listen(handle, path)
		if err != nil {
			return err
		}
		defer unix.Close(debug)
		undo = append(undo, func() { unix.Unlink(path) })
		listeners = append(listeners, debug)
	}

	if err := schedCore(); err != nil {
		return err
	}
	if err := raiseOOMScore(); err != nil {
		return err
	}
	pid, err := spawn(daemonArguments(os.Args[0], f, r), daemonEnvironment(f, r, os.Environ()), listeners)
	if err != nil {
		return err
	}
	undo = append(undo, func() { kill(pid) })
	if options.ShimCgroup != "" {
		if err := joinCgroup(pid, options.ShimCgroup); err != nil {
			return err
		}
	}
	if err := write(stdout, answer); err != nil {
		return err
	}
	undo = nil
	return nil
}

// recordPodOptions records the options of a sandbox, whose bundle has no config.json: nobody hands them to the shim with the request
// to create it.
func recordPodOptions(o config.Options) error {
	if o == (config.Options{}) {
		return nil
	}
	if _, err := os.Lstat("config.json"); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return config.WriteBundle(".", o)
}

// recordSocket records the socket in the bundle.
func recordSocket(dir, address string) error {
	if err := os.Symlink(dir, socketDirLink); err != nil {
		if !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("link socket directory: %w", err)
		}
		// Of an earlier start for this bundle. The directory may be another one now.
		os.Remove(socketDirLink)
		if err := os.Symlink(dir, socketDirLink); err != nil {
			return fmt.Errorf("link socket directory: %w", err)
		}
	}
	return config.WriteAddress(".", address)
}

// recordedSocketDir returns the directory of the sockets that a start recorded in the bundle; the default without one.
func recordedSocketDir(bundle string) string {
	dir, err := os.Readlink(filepath.Join(bundle, socketDirLink))
	if err != nil || !filepath.IsAbs(dir) {
		return defaultSocketDir
	}
	return dir
}

// write writes the answer past os.File, which ends the process when the pipe is broken: the undoing must still run.
func write(stdout *os.File, answer []byte) error {
	if _, err := unix.Write(int(stdout.Fd()), answer); err != nil {
		return fmt.Errorf("write reply: %w", err)
	}
	return nil
}
