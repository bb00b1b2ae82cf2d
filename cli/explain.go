package cli

import (
	"context"
	"encoding/json"
	"path/filepath"

	"github.com/gosuda/gosudacon/runtime/engine"
)

func features(_ context.Context, c *call) (int, error) {
	e := json.NewEncoder(c.Out)
	e.SetIndent("", "  ")
	return 0, e.Encode(engine.Features())
}

func explain(_ context.Context, c *call) (int, error) {
	dir, err := filepath.Abs(c.args[0])
	if err != nil {
		return 0, err
	}
	e, err := c.engine()
	if err != nil {
		return 0, err
	}
	plan, err := e.Explain(dir)
	if err != nil {
		return 0, err
	}
	return 0, write(c.Out, plan)
}
