package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// spec is how one spec of critest ended.
type spec struct {
	name    string
	state   string // passed, failed, skipped, or another word of Ginkgo's
	message string // of what failed or was skipped
}

// result is how critest ended with one handler.
type result struct {
	handler string
	specs   []spec
	took    time.Duration
}

// count tells how many specs ended in state; other is every state but passed and skipped.
func (r result) count() (passed, failed, skipped int) {
	for _, s := range r.specs {
		switch s.state {
		case "passed":
			passed++
		case "skipped":
			skipped++
		default:
			failed++
		}
	}
	return passed, failed, skipped
}

func (r result) summary() string {
	passed, failed, skipped := r.count()
	return fmt.Sprintf("%d passed, %d failed, %d skipped in %v", passed, failed, skipped, r.took.Round(time.Second))
}

// critest runs the validation with one handler, on a containerd of its own.
func (s *suite) critest(ctx context.Context, handler string) (r result, err error) {
	n, err := s.Start()
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, s.stop(n, handler)) }()
	file := filepath.Join(n.Dir, "report.json")
	args := []string{"-ginkgo.json-report", file, "-ginkgo.no-color", "-ginkgo.seed", "1"}
	if s.focus != "" {
		args = append(args, "-ginkgo.focus", s.focus)
	}
	start := time.Now()
	out, err := s.runCritest(ctx, n.Address(), handler, args...)
	if ended := (*exec.ExitError)(nil); err != nil && !errors.As(err, &ended) {
		return result{}, err
	}
	specs, err := readReport(file)
	if err != nil {
		return result{}, fmt.Errorf("%w\n%s", err, out)
	}
	return result{handler, specs, time.Since(start)}, nil
}

// runCritest runs critest and returns what it printed.
func (s *suite) runCritest(ctx context.Context, socket, handler string, args ...string) (string, error) {
	args = append([]string{"-runtime-endpoint", "unix://" + socket, "-runtime-handler", handler}, args...)
	cmd := exec.CommandContext(ctx, s.Critest(), args...)
	cmd.Dir = s.Dir
	cmd.Env = append(os.Environ(), "TMPDIR="+s.File("tmp"))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if s.verbose {
		cmd.Stdout = io.MultiWriter(&out, os.Stderr)
		cmd.Stderr = cmd.Stdout
	}
	err := cmd.Run()
	return out.String(), err
}

// readReport reads the report that Ginkgo writes as JSON. Of the specs that were to run: those that a filter leaves out are skipped, too, but
// nobody said why.
func readReport(file string) ([]spec, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read critest's report: %w", err)
	}
	var reports []struct {
		SpecReports []struct {
			ContainerHierarchyTexts           []string
			LeafNodeType, LeafNodeText, State string
			Failure                           struct{ Message string }
		}
	}
	if err := json.Unmarshal(text, &reports); err != nil {
		return nil, fmt.Errorf("decode critest's report: %w", err)
	}
	var specs []spec
	for _, r := range reports {
		for _, s := range r.SpecReports {
			name := strings.Join(append(s.ContainerHierarchyTexts, s.LeafNodeText), " ")
			filtered := s.State == "skipped" && s.Failure.Message == ""
			if filtered || s.LeafNodeType != "It" && s.State == "passed" {
				continue
			}
			specs = append(specs, spec{name, s.State, s.Failure.Message})
		}
	}
	if len(specs) == 0 {
		return nil, errors.New("critest ran no specs")
	}
	return specs, nil
}
