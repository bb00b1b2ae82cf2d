// Package cli is gosudacon, the engine as a command line. It can look at bundles and at this host; it cannot run containers yet.
package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

	"github.com/gosuda/gosudacon/runtime/engine"
)

const usage = `gosudacon: the engine of containerd-shim-gosuda-v2 as a command line

  gosudacon explain BUNDLE   print the launch plan of a bundle, without running it
  gosudacon features         print what this engine honours, as JSON (runtime-spec, features.md)
  gosudacon help             print this

It does not run containers yet: use containerd with --runtime io.containerd.gosuda.v2.
`

// stateRoot is where the command line keeps its containers.
const stateRoot = "/run/gosudacon"

// Run carries out one command.
func Run(args []string, out io.Writer) error {
	if len(args) == 0 {
		args = []string{"help"}
	}
	switch args[0] {
	case "help", "-h", "--help":
		_, err := io.WriteString(out, usage)
		return err
	case "features":
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(engine.Features())
	case "explain":
		if len(args) != 2 {
			return fmt.Errorf("explain takes one argument, the directory of a bundle")
		}
		return explain(args[1], out)
	}
	return fmt.Errorf("unknown command %q; try gosudacon help", args[0])
}

func explain(bundle string, out io.Writer) error {
	dir, err := filepath.Abs(bundle)
	if err != nil {
		return err
	}
	e, err := engine.New(engine.Options{Root: stateRoot})
	if err != nil {
		return err
	}
	text, err := e.Explain(dir)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, text)
	return err
}
