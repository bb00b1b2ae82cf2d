// Package cli is gosudacon, the engine as a command line: what calls runc or crun can call it with the same arguments.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/gosuda/gosudacon/internal/onecpu"
	"github.com/gosuda/gosudacon/runtime/engine"
)

// Streams are the standard streams of an invocation. Containers inherit them as they are.
type Streams struct{ In, Out, Err *os.File }

// Invocation is one execution of the command line.
type Invocation struct {
	Version string   // of this build
	Args    []string // without the program's name
	// Seal executes this program, with the same arguments, anew from a protected mount before it makes a process of a container.
	Seal bool
	Streams
}

// Exit codes, beside those of containers' processes.
const (
	failed     = 1
	execFailed = 255 // exec could not run the process: its callers tell that from the process's own failures by it
)

// call is what a command gets.
type call struct {
	Invocation
	global options
	opts   options // the command's own
	args   []string
	log    *logger
}

// Run carries out one command and returns the exit code of the process.
func Run(in Invocation) int {
	code, err := dispatch(in)
	if err == nil {
		return code
	}
	var e *commandError
	if !errors.As(err, &e) { // the command line itself is wrong
		l, logErr := openLog(options{}, in.Err)
		if logErr == nil {
			l.fatal(err, in.Err)
		}
		return failed
	}
	e.log.fatal(e.err, in.Err)
	if code == 0 {
		code = failed
	}
	return code
}

// commandError is the failure of a command, and where to tell it.
type commandError struct {
	err error
	log *logger
}

func (e *commandError) Error() string { return e.err.Error() }

func dispatch(in Invocation) (int, error) {
	c := &call{Invocation: in, global: options{}, opts: options{}}
	rest, err := c.global.parse(globalOptions(), in.Args, true)
	if err != nil {
		return 0, fmt.Errorf("%w; try gosudacon --help", err)
	}
	switch {
	case c.global.on("version"):
		return 0, printVersion(in.Version, in.Out)
	case c.global.on("help"), len(rest) == 0:
		return 0, printHelp(in.Out)
	}
	if c.log, err = openLog(c.global, in.Err); err != nil {
		return 0, err
	}
	cmd, err := findCommand(rest[0])
	if err == nil {
		c.args, err = c.opts.parse(append(cmd.table(), helpOption), rest[1:], cmd.inOrder)
		if err != nil {
			err = fmt.Errorf("%s: %w; try gosudacon %[1]s --help", cmd.name, err)
		}
	}
	if err != nil {
		return 0, &commandError{err, c.log}
	}
	if c.opts.on("help") {
		return 0, cmd.printHelp(in.Out)
	}
	code := 0
	if err = cmd.checkOperands(c.args); err == nil {
		if cmd.forks && in.Seal {
			err = c.seal()
		}
		if !cmd.settles {
			onecpu.Threads()
		}
		if err == nil {
			c.log.debug("gosudacon " + strings.Join(in.Args, " "))
			code, err = cmd.run(context.Background(), c)
		}
	}
	if err != nil {
		return code, &commandError{err, c.log}
	}
	return code, nil
}

// engine opens the engine for the state root that the caller asked for.
func (c *call) engine() (*engine.Engine, error) {
	root := c.global.text("root")
	if root == "" {
		var err error
		if root, err = ownStateRoot(); err != nil {
			return nil, err
		}
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if root == "/" {
		return nil, usagef("option --root: must not be /")
	}
	return engine.New(engine.Options{Root: root, Log: c.log.slog()})
}

// open opens the container that the first operand names.
func (c *call) open() (*engine.Detached, error) {
	e, err := c.engine()
	if err != nil {
		return nil, err
	}
	return e.Open(c.args[0])
}

func write(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}
