package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/engine"
)

// mounts is crun's: it adds mounts to a live container, or removes them, that a file lists as config.json does.
func mounts(ctx context.Context, c *call) (int, error) {
	change := (*engine.Detached).AddMounts
	switch c.args[0] {
	case "add":
	case "remove":
		change = (*engine.Detached).RemoveMounts
	default:
		return 0, usagef("mounts: %q is neither add nor remove", c.args[0])
	}
	e, err := c.engine()
	if err != nil {
		return 0, err
	}
	d, err := e.Open(c.args[1])
	if err != nil {
		return 0, err
	}
	list, err := c.readMounts(c.args[2])
	if err != nil {
		return 0, err
	}
	return 0, change(d, ctx, list)
}

// readMounts reads a JSON array of mounts; "-" is the standard input.
func (c *call) readMounts(file string) ([]specs.Mount, error) {
	var data []byte
	var err error
	if file == "-" {
		data, err = io.ReadAll(c.In)
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("read the mounts: %w", err)
	}
	var list []specs.Mount
	if err := engine.Decode(data, &list); err != nil {
		return nil, fmt.Errorf("parse %s: %w (want an array as of config.json's mounts)", file, err)
	}
	return list, nil
}
