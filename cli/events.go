package cli

import (
	"context"
	"encoding/json"
	"time"
)

// event is one line of the output of events, in runc's form.
type event struct {
	Type string `json:"type"` // stats or oom
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"`
}

// events prints the figures of a container's cgroup at intervals, and each OOM kill, until the container has ended.
func events(ctx context.Context, c *call) (int, error) {
	interval, _ := time.ParseDuration(c.opts.or("interval", "5s")) // checked when parsed
	if interval <= 0 {
		return 0, usagef("option --interval: must be greater than 0")
	}
	d, err := c.open()
	if err != nil {
		return 0, err
	}
	enc := json.NewEncoder(c.Out)
	if c.opts.on("stats") {
		s, err := d.Stats()
		if err != nil {
			return 0, err
		}
		return 0, enc.Encode(event{"stats", d.ID(), statsOf(s)})
	}
	if _, err := d.Stats(); err != nil {
		return 0, err
	}
	ctx, cancel := cancelledBySignal(ctx)
	defer cancel()
	kills := make(chan uint64, 16)
	stop, err := d.WatchOOM(func(n uint64) {
		select {
		case kills <- n:
		default: // nobody reads our output
		}
	})
	if err != nil {
		return 0, err
	}
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- d.AwaitEnd(ctx) }()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case n := <-kills:
			for range n {
				if err := enc.Encode(event{Type: "oom", ID: d.ID()}); err != nil {
					return 0, err
				}
			}
		case <-tick.C:
			s, err := d.Stats()
			if err != nil {
				c.log.slog().Warn("read stats", "error", err)
				continue
			}
			if err := enc.Encode(event{"stats", d.ID(), statsOf(s)}); err != nil {
				return 0, err
			}
		case err := <-ended:
			if ctx.Err() != nil {
				return 0, nil // a signal
			}
			return 0, err
		}
	}
}
