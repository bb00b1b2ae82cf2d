// Package bootstrap implements the verbs that containerd executes: start, delete, -info and -v.
//
// Each is a process of its own on the path of creating or deleting a container, so the package is built for the time from
// execve to exit: it reads only what it needs and links no generated protobuf message. The process that start leaves
// behind is package daemon's.
package bootstrap

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// RuntimeName is the runtime's name in containerd's configuration; containerd makes the program's name from it.
const RuntimeName = "io.containerd.gosuda.v2"

// The verbs.
const (
	VerbStart  = "start"
	VerbDelete = "delete"
	VerbServe  = "" // what start leaves behind is called with flags only
)

// Flags is the command line that containerd, and start, make.
type Flags struct {
	Namespace     string
	ID            string // of the container or sandbox
	Address       string // containerd's gRPC socket: a part of the shim's socket name
	Bundle        string // delete only; start and the daemon have it as working directory
	PublishBinary string // containerd's path; accepted, events go over ttrpc
	Socket        string // serve on this path and not on the inherited socket
	DebugSocket   string
	Debug         bool
	Info          bool
	Version       bool
	Verb          string
}

// ErrHelp is the error of a command line that asks for help.
var ErrHelp = flag.ErrHelp

// ParseFlags reads the arguments after the program's name. What follows the verb is ignored, as containerd's own shims do.
// Namespace and ID are there and valid unless Info or Version is set.
func ParseFlags(args []string) (Flags, error) {
	var f Flags
	set := flag.NewFlagSet("shim", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.Namespace, "namespace", "", "")
	set.StringVar(&f.ID, "id", "", "")
	set.StringVar(&f.Address, "address", "", "")
	set.StringVar(&f.Bundle, "bundle", "", "")
	set.StringVar(&f.PublishBinary, "publish-binary", "", "")
	set.StringVar(&f.Socket, "socket", "", "")
	set.StringVar(&f.DebugSocket, "debug-socket", "", "")
	set.BoolVar(&f.Debug, "debug", false, "")
	set.BoolVar(&f.Info, "info", false, "")
	set.BoolVar(&f.Version, "v", false, "")
	set.BoolVar(&f.Version, "version", false, "")
	if err := set.Parse(args); err != nil {
		return Flags{}, fmt.Errorf("parse command line: %w", err)
	}
	f.Verb = set.Arg(0)
	if f.Info || f.Version {
		return f, nil
	}
	return f, f.validate()
}

func (f Flags) validate() error {
	switch f.Verb {
	case VerbStart, VerbDelete, VerbServe:
	default:
		return fmt.Errorf("parse command line: unknown verb %q, want start or delete", f.Verb)
	}
	if f.Namespace == "" {
		return errors.New("parse command line: -namespace is missing")
	}
	if f.ID == "" {
		return errors.New("parse command line: -id is missing")
	}
	// Both become components of paths.
	for _, s := range []string{f.Namespace, f.ID} {
		if s == "." || s == ".." || strings.ContainsAny(s, "/\x00") {
			return fmt.Errorf("parse command line: invalid name %q", s)
		}
	}
	return nil
}

// Usage is the text of -h.
const Usage = `This program is a containerd shim; containerd executes it. It takes

  [flags] start     read the bootstrap parameters from stdin, leave a shim behind, print its address
  [flags] delete    remove what is left of a container, print its exit status
  -info             print what the runtime can do, as a containerd.types.RuntimeInfo
  -v                print the version

with the flags -namespace NAME -id ID -address SOCKET -publish-binary PATH -bundle DIR -debug.
Under the name gosudacon it is a command line for people.
`
