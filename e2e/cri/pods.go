package main

import (
	"context"
	"errors"
	"fmt"
)

// runPods runs one pod with each handler, and starts containerd again under it; then the pods of sandboxChecks.
func (s *suite) runPods(ctx context.Context, handlers []string) error {
	var errs []error
	for _, h := range handlers {
		n, err := s.Start()
		if err == nil {
			err = errors.Join(s.RunPod(ctx, n, h, func() error { return s.restart(ctx, n, h) }), s.stop(n, h))
		}
		if err == nil {
			err = s.checkSandboxes(ctx, h)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("pod with %s: %w", h, err))
			continue
		}
		fmt.Printf("pod with %s: ok\n", h)
	}
	return errors.Join(errs...)
}
