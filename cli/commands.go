package cli

import (
	"context"
	"fmt"
)

// command is one entry of the table of commands.
type command struct {
	name     string
	operands string // for the help
	help     string
	min, max int // number of operands; max -1 has no limit
	options  []option
	inOrder  bool // the first operand ends the options
	forks    bool // a child of this process becomes a process of a container
	run      func(context.Context, *call) (exit int, err error)
}

var helpOption = option{long: "help", short: "h", help: "print this"}

func globalOptions() []option {
	return []option{
		{long: "root", kind: text, value: "DIR", help: "where containers are recorded, best on a tmpfs (" + stateRoot + ")"},
		{long: "log", kind: text, value: "FILE", help: "append the log to this file instead of writing it to the standard error"},
		{long: "log-format", kind: text, value: "text|json", help: "format of the log (text)"},
		{long: "log-level", kind: text, value: "debug|warning|error", help: "what is worth logging (warning)"},
		{long: "debug", help: "log everything"},
		{long: "systemd-cgroup", help: "have systemd make the cgroup; linux.cgroupsPath is slice:prefix:name"},
		{long: "cgroup-manager", kind: text, value: "cgroupfs|systemd", help: "the same, as crun has it (cgroupfs)"},
		{long: "rootless", kind: text, value: "true|false|auto"},
		{long: "criu", kind: text, value: "PATH"},
		{long: "version", short: "v", help: "print the version"},
		helpOption,
	}
}

func commands() []command {
	bundle := option{long: "bundle", short: "b", kind: text, value: "DIR", help: "the bundle (the working directory)"}
	launch := []option{
		bundle,
		{long: "config", short: "f", kind: text, value: "FILE", help: "the config (config.json in the bundle)"},
		{long: "console-socket", kind: text, value: "SOCKET", help: "send the terminal's master to this unix socket"},
		{long: "pidfd-socket", kind: text, value: "SOCKET", help: "send a pidfd of the process to this unix socket"},
		{long: "pid-file", kind: text, value: "FILE", help: "write the process id to this file"},
		{long: "preserve-fds", kind: number, value: "N", help: "hand N more file descriptors to the process, after those of LISTEN_FDS"},
		{long: "no-pivot", help: "do not use pivot_root(2)"},
		{long: "no-new-keyring", help: "keep the caller's session keyring"},
		{long: "no-subreaper"},
		{long: "trace", help: "print the launch plan with the time that each step took to the standard error"},
	}
	return []command{
		{name: "create", operands: "ID [BUNDLE]", help: "create a container, all but started", min: 1, max: 2, options: launch, forks: true, run: create},
		{name: "start", operands: "ID", help: "start a created container", min: 1, max: 1, run: start},
		{name: "state", operands: "ID", help: "print the state of a container as JSON", min: 1, max: 1, run: state},
		{name: "kill", operands: "ID [SIGNAL]", help: "send a signal (TERM) to a container's first process", min: 1, max: 2,
			options: []option{{long: "all", short: "a", help: "send it to every process of the container"}}, run: kill},
		{name: "delete", operands: "ID", help: "remove a stopped container", min: 1, max: 1,
			options: []option{{long: "force", short: "f", help: "kill it first; one that does not exist is no error"}}, run: remove},
		{name: "explain", operands: "BUNDLE", help: "print the launch plan of a bundle, without running it", min: 1, max: 1, run: explain},
		{name: "features", help: "print what this engine honours, as JSON (runtime-spec, features.md)", run: features},
		{name: "help", operands: "[COMMAND]", help: "print this, or about a command", max: 1, run: help},
	}
}

func findCommand(name string) (command, error) {
	for _, c := range commands() {
		if c.name == name {
			return c, nil
		}
	}
	return command{}, usagef("unknown command %q; try gosudacon help", name)
}

func (c command) checkOperands(args []string) error {
	what := ""
	switch {
	case len(args) < c.min:
		what = "too few arguments"
	case c.max >= 0 && len(args) > c.max:
		what = fmt.Sprintf("too many arguments from %q on", args[c.max])
	default:
		return nil
	}
	return usagef("%s: %s: usage: gosudacon %[1]s [OPTION]... %s", c.name, what, c.operands)
}
