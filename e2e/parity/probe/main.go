// Command probe is the process of the containers that the suite compares: it prints what it sees as one JSON object, one string per
// field. What cannot be looked at has the error's name as its value.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gosuda/gosudacon/e2e/parity/ask"
)

// report is what the probe has seen.
type report map[string]string

// init keeps main on the first thread, which is what the runtime has made: others do not inherit all of it (SCHED_FLAG_RESET_ON_FORK).
func init() { runtime.LockOSThread() }

func main() {
	switch args := os.Args[1:]; {
	case len(args) > 2 && args[0] == ask.Hook:
		hook(args[1], args[2], args[3:])
	case len(args) > 1 && args[0] == ask.Call:
		call(args[1:])
	case len(args) > 1 && args[0] == ask.Cat:
		cat(args[1])
	default:
		see()
	}
}

func see() {
	r := report{}
	r.descriptors() // before we open any
	var q ask.Question
	text, err := os.ReadFile(ask.File)
	if err == nil {
		err = json.Unmarshal(text, &q)
	}
	if err != nil {
		r["question"] = failure(err)
	}
	for _, look := range []func(*ask.Question){
		r.process, r.attributes, r.status, r.namespaces, r.cgroups, r.mounts, r.devices, r.files, r.paths, r.network, r.terminal, r.calls,
	} {
		look(&q)
	}
	out, _ := json.Marshal(r)
	os.Stdout.Write(append(out, '\n'))
}

// failure is the value of what cannot be looked at.
func failure(err error) string {
	var errno unix.Errno
	var path *fs.PathError
	switch {
	case errors.As(err, &errno):
		return "!" + unix.ErrnoName(errno)
	case errors.As(err, &path):
		return "!" + path.Err.Error()
	}
	return "!" + err.Error()
}

// value is a result, or its failure.
func value(v any, err error) string {
	if err != nil {
		return failure(err)
	}
	return fmt.Sprint(v)
}

// read is a file's text without the last newline.
func read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return failure(err)
	}
	return strings.TrimRight(string(text), "\n\x00")
}

// self runs the probe as another program, and returns what it printed.
func self(args ...string) (string, error) {
	out, err := exec.Command(ask.Probe, args...).Output()
	return strings.TrimSpace(string(out)), err
}

// cat prints a file with as little as a Go program can have done: the child of one has the resource limits that its parent began with.
func cat(path string) {
	fmt.Print(read(path))
}
