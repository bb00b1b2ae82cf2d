package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// verdict is how one program ended for one runtime.
type verdict struct {
	oks        int      // lines "ok"
	skips      int      // lines "ok ... # SKIP"
	complaints []string // what was not ok, in the program's words; a program that has none is clean
}

func (v verdict) clean() bool { return len(v.complaints) == 0 }

// broken is the verdict on a program that could not run.
func broken(err error) verdict { return verdict{complaints: []string{err.Error()}} }

// execute runs a program in dir and reads its TAP.
func execute(ctx context.Context, timeout time.Duration, dir, program string, env ...string) verdict {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // a container that outlives the program may hold its streams
	err := cmd.Run()
	v := readTAP(stdout.String())
	for i, complaint := range v.complaints {
		if strings.HasSuffix(complaint, "exit status 1") { // of the runtime, which has said why elsewhere
			v.complaints[i] += ": " + oneLine(stderr.String())
		}
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		v.complaints = append(v.complaints, fmt.Sprintf("not finished after %v", timeout))
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		v.complaints = append(v.complaints, fmt.Sprintf("%v: %s", err, oneLine(stderr.String())))
	}
	return v
}

// readTAP counts the lines of TAP output that are ok, and collects those that are not, with the diagnostic that follows them. A line of a nested output, which is indented in
// a YAML block, belongs to a line of its own that says the same.
func readTAP(text string) verdict {
	var v verdict
	failed := false // the last line of a check
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if said, found := strings.CutPrefix(line, "# "); found && failed {
			v.complaints[len(v.complaints)-1] += " (" + said + ")"
		}
		number, isNot := strings.CutPrefix(line, "not ok ")
		if isNot {
			if _, what, found := strings.Cut(number, " - "); found {
				number = what
			}
			v.complaints = append(v.complaints, number)
			failed = true
		} else if strings.HasPrefix(line, "ok ") {
			failed = false
			if strings.Contains(line, "# SKIP") {
				v.skips++
			} else {
				v.oks++
			}
		}
	}
	return v
}

// oneLine is the end of a text, in one line.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 300 {
		text = "..." + text[len(text)-300:]
	}
	return text
}
