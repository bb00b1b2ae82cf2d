// Command demo runs one container with gosuda under a private containerd and tells what just happened.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

const runtime = "io.containerd.gosuda.v2"

// script is what the container runs: it shows what a container of its own sees.
const script = `cat /etc/motd
echo "I am process $$, user $(id -un), on host $(hostname), with $(ls -d /proc/[0-9]* | wc -l) processes in sight."
echo "My root has: $(ls / | tr '\n' ' ')"`

func main() {
	containerdtest.Main()
	verbose := flag.Bool("v", false, "show containerd's log, too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := demo(ctx, newScreen(), *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, s *screen, verbose bool) (err error) {
	tree, err := containerdtest.FindTree()
	if err != nil {
		return err
	}
	bin, err := tree.Peer("containerd")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "gosuda-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	image := filepath.Join(dir, "image.tar")
	if err := containerdtest.WriteImage(image); err != nil {
		return fmt.Errorf("make an image: %w", err)
	}

	done := s.step("start a private containerd in %s", dir)
	home := filepath.Join(dir, "d")
	if err := os.Mkdir(home, 0o711); err != nil {
		return err
	}
	d, err := containerdtest.Start(containerdtest.Config{
		Bin: bin, Path: []string{tree.Bin(), bin}, Dir: home, Namespace: fmt.Sprintf("gosuda-demo-%d", os.Getpid()),
	})
	if err != nil {
		return err
	}
	done()
	defer func() {
		done := s.step("stop containerd, and look what is left")
		left, stopErr := d.Close()
		done()
		if verbose {
			fmt.Print(d.Log())
		}
		if len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("left behind: %s", strings.Join(left, ", ")))
		} else {
			s.say("Nothing is left: no process, no mount, no cgroup, no socket, no file.")
		}
		err = errors.Join(err, stopErr)
	}()

	done = s.step("import an image with busybox, made here")
	if err := d.Import(ctx, image); err != nil {
		return err
	}
	done()

	// The shim appends the plan of every launch to the file that its option Trace names.
	trace, options := filepath.Join(dir, "trace"), filepath.Join(dir, "gosuda.toml")
	if err := os.WriteFile(options, fmt.Appendf(nil, "Trace = %q\n", trace), 0o600); err != nil {
		return err
	}
	args := []string{"run", "--rm", "--runtime", runtime, "--runtime-config-path", options, containerdtest.Image, "demo", "sh", "-c", script}
	s.title("ctr run --rm --runtime " + runtime + " " + containerdtest.Image + " demo sh -c '…'")
	began := time.Now()
	if err := show(d.Ctr(ctx, args...), s); err != nil {
		if verbose {
			return err
		}
		return fmt.Errorf("%w\ncontainerd's log:\n%s", err, d.Log())
	}
	took := time.Since(began)

	plan, err := os.ReadFile(trace)
	if err != nil {
		return fmt.Errorf("read the trace of the launch: %w", err)
	}
	s.title("what just happened: the launch plan, and how long each step took")
	s.plan(string(plan))
	s.say("ctr, containerd, the shim and the container together took %d ms.", took.Milliseconds())
	return nil
}

// show runs a command with its output on the screen, indented.
func show(cmd *exec.Cmd, s *screen) error {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	s.indented(string(out))
	if err != nil {
		return fmt.Errorf("run the container: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return nil
}
