package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
)

// features is what containerd tells the kubelet of a handler, by what the handler's shim answers to -info.
type features struct {
	RecursiveReadOnlyMounts bool `json:"recursive_read_only_mounts"`
	UserNamespaces          bool `json:"user_namespaces"`
}

// checkFeatures fails unless every handler has the features of the first one.
func (s *suite) checkFeatures(ctx context.Context, handlers []string) error {
	n, err := s.Start()
	if err != nil {
		return err
	}
	text, err := s.Crictl(ctx, n, "info")
	if closed := s.stop(n, handlers[0]); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	var info struct {
		RuntimeHandlers []struct {
			Name     string
			Features features
		}
	}
	if err := json.Unmarshal([]byte(text), &info); err != nil {
		return fmt.Errorf("decode what crictl info says: %w", err)
	}
	by := map[string]features{}
	for _, h := range info.RuntimeHandlers {
		by[h.Name] = h.Features
	}
	for _, h := range handlers {
		f, ok := by[h]
		fmt.Fprintf(os.Stderr, "%s: recursive read-only mounts %t, user namespaces %t\n", h, f.RecursiveReadOnlyMounts, f.UserNamespaces)
		if !ok || f != by[handlers[0]] {
			return fmt.Errorf("containerd says of %s %+v, of %s %+v: what does the shim's -info say?", h, f, handlers[0], by[handlers[0]])
		}
	}
	return nil
}
