package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	osexec "os/exec"
	"slices"
	"strconv"
	"strings"
)

// ps prints those lines of the host's ps(1) that are about processes of the container.
func ps(ctx context.Context, c *call) (int, error) {
	format := c.opts.or("format", "table")
	if format != "table" && format != "json" {
		return 0, usagef("invalid format option: %q is neither table nor json", format)
	}
	d, err := c.open()
	if err != nil {
		return 0, err
	}
	pids, err := d.Pids()
	if err != nil {
		return 0, err
	}
	if format == "json" {
		return 0, json.NewEncoder(c.Out).Encode(pids)
	}
	args := c.args[1:]
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	out, err := osexec.CommandContext(ctx, "ps", args...).Output()
	if err != nil {
		var exit *osexec.ExitError
		if errors.As(err, &exit) && len(exit.Stderr) > 0 {
			return 0, fmt.Errorf("ps %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(exit.Stderr)))
		}
		return 0, fmt.Errorf("ps %s: %w", strings.Join(args, " "), err)
	}
	text, err := onlyPids(string(out), pids)
	if err != nil {
		return 0, fmt.Errorf("ps %s: %w", strings.Join(args, " "), err)
	}
	return 0, write(c.Out, text)
}

// onlyPids keeps the title and the lines whose column PID has one of the pids.
func onlyPids(out string, pids []int) (string, error) {
	title, rest, _ := strings.Cut(out, "\n")
	column := slices.Index(strings.Fields(title), "PID")
	if column < 0 {
		return "", errors.New("its output has no column PID")
	}
	var b strings.Builder
	b.WriteString(title + "\n")
	for line := range strings.Lines(rest) {
		fields := strings.Fields(line)
		if len(fields) <= column {
			continue
		}
		pid, err := strconv.Atoi(fields[column])
		if err != nil {
			return "", fmt.Errorf("its column PID has %q", fields[column])
		}
		if slices.Contains(pids, pid) {
			b.WriteString(line)
		}
	}
	return b.String(), nil
}
