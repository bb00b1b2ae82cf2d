// Package bundle reads what a bundle holds: config.json, and the few files of the root file system that the runtime needs.
package bundle

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/internal/trusted"
	"github.com/gosuda/gosudacon/runtime/internal/lazyjson"
)

// ErrConfig is a config.json that is missing or no JSON of a spec.
var ErrConfig = errors.New("config.json")

// ConfigFile returns where the config of the bundle in dir is.
func ConfigFile(dir string) string { return filepath.Join(dir, "config.json") }

// configLimit bounds what is read of a config.json, in bytes. It is far more than the arguments, the environment and the
// mounts that the kernel takes.
const configLimit = 16 << 20

// Load reads a config.json.
func Load(name string) (*specs.Spec, error) {
	data, err := trusted.ReadRegular(name, configLimit)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	spec, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w: parse %s: %w", ErrConfig, name, err)
	}
	return spec, nil
}

// Parse decodes the text of a config.json. Of a name that occurs twice in an object the last holds.
func Parse(data []byte) (*specs.Spec, error) {
	if err := checkText(data); err != nil {
		return nil, err
	}
	var spec specs.Spec
	if err := lazyjson.Unmarshal(data, &spec); err != nil {
		return nil, err
	}
	return &spec, checkStrings(data, &spec)
}

// RootPath returns the absolute path of the root file system. A relative root.path that leaves the bundle is refused.
func RootPath(dir string, spec *specs.Spec) (string, error) {
	switch {
	case spec.Root == nil || spec.Root.Path == "":
		return "", errors.New("root.path: is missing")
	case filepath.IsAbs(spec.Root.Path):
		return filepath.Clean(spec.Root.Path), nil
	case !filepath.IsLocal(spec.Root.Path):
		return "", fmt.Errorf("root.path: %q leads out of the bundle", spec.Root.Path)
	}
	return filepath.Join(dir, spec.Root.Path), staysIn(dir, spec.Root.Path)
}

// staysIn makes sure that no symbolic link takes a path below dir out of it. What does not exist goes nowhere.
func staysIn(dir, rel string) error {
	parent, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(parent)
	fd, err := unix.Openat2(parent, rel, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS})
	switch {
	case err == nil:
		unix.Close(fd)
		return nil
	case errors.Is(err, unix.EXDEV):
		return fmt.Errorf("root.path: %q is a symbolic link out of the bundle; name the directory itself", rel)
	}
	return nil // whoever uses it says what is wrong
}

// CheckRoot makes sure that the root file system is a directory.
func CheckRoot(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("root.path: %w", err)
	}
	if !fi.IsDir() {
		return fmt.Errorf("root.path: %s is not a directory", path)
	}
	return nil
}

// passwdLimit bounds what is read of a file that the image controls.
const passwdLimit = 1 << 20

// Home returns the home directory of a user in the passwd file of the root file system rootFD is open on, "/" when there is
// none. Links are followed within that root.
func Home(rootFD int, uid uint32) string {
	fd, err := unix.Openat2(rootFD, "etc/passwd", &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return "/"
	}
	f := os.NewFile(uintptr(fd), "passwd")
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return "/"
	}
	data, err := io.ReadAll(io.LimitReader(f, passwdLimit))
	if err != nil {
		return "/"
	}
	return home(string(data), uid)
}

// home finds a user's home directory in a passwd file. One with a NUL byte is none.
func home(passwd string, uid uint32) string {
	want := strconv.FormatUint(uint64(uid), 10)
	for line := range strings.Lines(passwd) {
		field := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(field) >= 6 && field[2] == want && field[5] != "" && strings.IndexByte(field[5], 0) < 0 {
			return field[5]
		}
	}
	return "/"
}
