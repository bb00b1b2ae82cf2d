package cli

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"

	"github.com/gosuda/gosudacon/runtime/engine"
)

func features(_ context.Context, c *call) (int, error) {
	e := json.NewEncoder(c.Out)
	e.SetIndent("", "  ")
	return 0, e.Encode(engine.Features())
}

// refused is what explain --json prints of a bundle that cannot be run here.
type refused struct {
	Refused string `json:"refused"`
}

// explain prints what create would do, or why it would not.
func explain(_ context.Context, c *call) (int, error) {
	bundle := c.opts.or("bundle", ".")
	if len(c.args) > 0 {
		bundle = c.args[0]
	}
	r := engine.CreateRequest{ID: "explain", Bundle: bundle, Config: c.opts.text("config")}
	var err error
	for _, p := range []*string{&r.Bundle, &r.Config} {
		if *p != "" {
			if *p, err = filepath.Abs(*p); err != nil {
				return 0, err
			}
		}
	}
	if err := c.cgroupManager(&r); err != nil {
		return 0, err
	}
	e, err := c.engine()
	if err != nil {
		return 0, err
	}
	x, err := e.Explain(r)
	if !c.opts.on("json") {
		if err != nil {
			return 0, err
		}
		return 0, write(c.Out, x.String())
	}
	enc := json.NewEncoder(c.Out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err != nil {
		return 0, errors.Join(err, enc.Encode(refused{err.Error()}))
	}
	return 0, enc.Encode(x)
}
