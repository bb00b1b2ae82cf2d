package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gosuda/gosudacon/runtime/engine"
)

func list(_ context.Context, c *call) (int, error) {
	format := c.opts.or("format", "table")
	if format != "table" && format != "json" {
		return 0, usagef("invalid format option: %q is neither table nor json", format)
	}
	e, err := c.engine()
	if err != nil {
		return 0, err
	}
	containers, err := e.List()
	if err != nil {
		return 0, err
	}
	var states []containerState // null in JSON when there is none, as with runc
	for _, d := range containers {
		s, err := stateOf(d)
		if gone := (*engine.Error)(nil); errors.As(err, &gone) && gone.Kind == engine.NotFound {
			continue
		}
		if err != nil {
			return 0, err
		}
		states = append(states, s)
	}
	switch {
	case c.opts.on("quiet"):
		var b strings.Builder
		for _, s := range states {
			fmt.Fprintln(&b, s.ID)
		}
		return 0, write(c.Out, b.String())
	case format == "json":
		return 0, json.NewEncoder(c.Out).Encode(states)
	}
	return 0, write(c.Out, table(states, isTerminal(c.Out)))
}

// colourOf is for people who look at a terminal.
func colourOf(status string) string {
	switch status {
	case "created":
		return "\x1b[36m"
	case "running":
		return "\x1b[32m"
	case "paused":
		return "\x1b[33m"
	case "stopped":
		return "\x1b[2m"
	}
	return ""
}

// table prints states in columns, with the widths that runc has: scripts cut them.
func table(states []containerState, colours bool) string {
	rows := [][]string{{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}}
	for _, s := range states {
		rows = append(rows, []string{s.ID, strconv.Itoa(s.Pid), s.Status, s.Bundle, s.Created.Format(time.RFC3339Nano), s.Owner})
	}
	const minWidth, padding = 12, 3
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], minWidth, len(cell)+padding)
		}
	}
	var b strings.Builder
	for _, row := range rows {
		last := len(row) - 1
		for i, cell := range row[:last] {
			text := cell
			if colour := colourOf(cell); colours && i == 2 && colour != "" {
				text = colour + cell + "\x1b[0m"
			}
			b.WriteString(text + strings.Repeat(" ", width[i]-len(cell)))
		}
		b.WriteString(row[last] + "\n")
	}
	return b.String()
}
