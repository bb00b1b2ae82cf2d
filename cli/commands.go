package cli

import (
	"context"
	"fmt"
	"slices"
)

// command is one entry of the table of commands.
type command struct {
	name     string
	operands string // for the help
	help     string
	min, max int             // number of operands; max -1 has no limit
	options  func() []option // nil without any; the table of commands is made each time, and one command is carried out
	inOrder  bool            // the first operand ends the options
	forks    bool            // a child of this process becomes a process of a container
	settles  bool            // it calls onecpu.Threads itself
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
		{long: "cgroup-manager", kind: text, value: "cgroupfs|systemd|disabled", help: "who makes the cgroup (cgroupfs); disabled: nobody, the container stays in the caller's"},
		{long: "rootless", kind: text, value: "true|false|auto", help: "do without a cgroup that may not be made (auto: unless the caller is the host's root)"},
		{long: "criu", kind: text, value: "PATH", help: "the program that checkpoints and restores (criu in $PATH)"},
		{long: "version", short: "v", help: "print the version"},
		helpOption,
	}
}

func commands() []command {
	return []command{
		{name: "create", operands: "ID [BUNDLE]", help: "create a container, all but started", min: 1, max: 2, options: launchOptions, forks: true, run: create},
		{name: "run", operands: "ID [BUNDLE]", help: "create and start a container, stay with it and remove it", min: 1, max: 2,
			options: runOptions, forks: true, settles: true, run: run},
		{name: "exec", operands: "ID COMMAND [ARGUMENT]...", help: "run one more process in a container", min: 1, max: -1, inOrder: true,
			options: execOptions, forks: true, run: exec},
		{name: "start", operands: "ID", help: "start a created container", min: 1, max: 1, options: startOptions, run: start},
		{name: "state", operands: "ID", help: "print the state of a container as JSON", min: 1, max: 1, run: state},
		{name: "kill", operands: "ID [SIGNAL]", help: "send a signal (TERM) to a container's first process", min: 1, max: 2,
			options: killOptions, run: kill},
		{name: "delete", operands: "ID", help: "remove a stopped container", min: 1, max: 1,
			options: deleteOptions, run: remove},
		{name: "list", help: "list containers", options: listOptions, run: list},
		{name: "ps", operands: "ID [PS-OPTION]...", help: "list the processes of a container", min: 1, max: -1, inOrder: true,
			options: psOptions, run: ps},
		{name: "pause", operands: "ID", help: "freeze the processes of a container", min: 1, max: 1, run: pause},
		{name: "resume", operands: "ID", help: "let them go on", min: 1, max: 1, run: resume},
		{name: "checkpoint", operands: "ID", help: "write the state of a container's processes to files, with criu(8), and remove it", min: 1, max: 1,
			options: checkpointOptions, run: checkpoint},
		{name: "restore", operands: "ID", help: "create a container whose processes go on where a checkpoint has left them", min: 1, max: 1,
			options: restoreOptions, run: restore},
		{name: "update", operands: "ID", help: "change resource limits of a container", min: 1, max: 1, options: updateOptions, run: update},
		{name: "events", operands: "ID", help: "print figures and OOM kills of a container until it has ended", min: 1, max: 1, options: eventsOptions, run: events},
		{name: "mounts", operands: "add|remove ID FILE", help: "change the mounts of a live container: FILE has an array as config.json's mounts", min: 3, max: 3, forks: true, run: mounts},
		{name: "spec", help: "write a config.json to begin with", options: specOptions, run: spec},
		{name: "explain", operands: "[BUNDLE]", help: "print what create would do, step by step, or why it would not", max: 1, options: explainOptions, run: explain},
		{name: "console", operands: "SOCKET", help: "wait at SOCKET for what --console-socket sends, and be that terminal", min: 1, max: 1, run: console},
		{name: "features", help: "print what this engine honours, as JSON (runtime-spec, features.md)", run: features},
		{name: "completion", operands: "bash|zsh|fish", help: "print a script that completes command lines", min: 1, max: 1, run: completion},
		{name: "man", help: "print the manual page", run: man},
		{name: "help", operands: "[COMMAND]", help: "print this, or about a command", max: 1, run: help},
	}
}

func startOptions() []option {
	return []option{
		{long: "trace", help: "print the steps of the launch plan that were left, and the time that they took, to the standard error"},
	}
}

func killOptions() []option {
	return []option{
		{long: "all", short: "a", help: "send it to every process of the container"},
		regexOption,
	}
}

func deleteOptions() []option {
	return []option{
		{long: "force", short: "f", help: "kill it first; one that does not exist is no error"},
		regexOption,
	}
}

func listOptions() []option {
	return []option{
		formatOption,
		{long: "quiet", short: "q", help: "print ids only"},
	}
}

func psOptions() []option { return []option{formatOption} }

func eventsOptions() []option {
	return []option{
		{long: "interval", kind: duration, value: "TIME", help: "how often (5s)"},
		{long: "stats", help: "print the figures once"},
	}
}

func specOptions() []option {
	return []option{
		{long: "bundle", short: "b", kind: text, value: "DIR", help: "where to (the working directory)"},
		{long: "file", short: "f", kind: text, value: "FILE", help: "its name (config.json)"},
		{long: "rootless", help: "for a user without privileges"},
	}
}

func explainOptions() []option {
	return []option{
		{long: "bundle", short: "b", kind: text, value: "DIR", help: "the bundle (the working directory)"},
		{long: "config", short: "f", kind: text, value: "FILE", help: "the config (config.json in the bundle)"},
		{long: "json", help: "print it as JSON"},
	}
}

func runOptions() []option {
	return append(launchOptions(),
		option{long: "detach", short: "d", help: "do not stay with it"},
		option{long: "keep", help: "do not remove it when it has ended"})
}

var formatOption = option{long: "format", short: "f", kind: text, value: "table|json", help: "form of the list (table)"}

var regexOption = option{long: "regex", short: "r", help: "ID is an extended regular expression: all containers whose whole id it matches"}

// handoverOptions say who gets parts of a new process.
var handoverOptions = []option{
	{long: "console-socket", kind: text, value: "SOCKET", help: "send the terminal's master to this unix socket"},
	{long: "pidfd-socket", kind: text, value: "SOCKET", help: "send a pidfd of the process to this unix socket"},
	{long: "pid-file", kind: text, value: "FILE", help: "write the process id to this file"},
	{long: "preserve-fds", kind: number, value: "N", help: "hand N more file descriptors to the process, after those of LISTEN_FDS"},
}

func launchOptions() []option {
	return slices.Concat([]option{
		{long: "bundle", short: "b", kind: text, value: "DIR", help: "the bundle (the working directory)"},
		{long: "config", short: "f", kind: text, value: "FILE", help: "the config (config.json in the bundle)"},
	}, handoverOptions, []option{
		{long: "no-pivot", help: "do not use pivot_root(2)"},
		{long: "no-new-keyring", help: "keep the caller's session keyring"},
		{long: "no-subreaper", help: "do not become the reaper of the container's orphans"},
		{long: "trace", help: "print the launch plan with the time that each step took to the standard error"},
	})
}

func execOptions() []option {
	return slices.Concat([]option{
		{long: "tty", short: "t", help: "give the process a terminal"},
		{long: "detach", short: "d", help: "do not stay with it"},
		{long: "cwd", kind: text, value: "DIR", help: "its working directory"},
		{long: "env", short: "e", kind: repeated, value: "NAME=VALUE", help: "an environment variable more"},
		{long: "user", short: "u", kind: text, value: "UID[:GID]", help: "its user and group"},
		{long: "additional-gids", short: "g", kind: repeated, value: "GID", help: "one group more"},
		{long: "cap", short: "c", kind: repeated, value: "CAP_NAME", help: "a capability more"},
		{long: "no-new-privs", help: "set no_new_privs"},
		{long: "process", short: "p", kind: text, value: "FILE", help: "the whole process, as JSON, instead of all these"},
		{long: "process-label", kind: text, value: "LABEL", help: "its SELinux label"},
		{long: "apparmor", kind: text, value: "PROFILE", help: "its AppArmor profile"},
		{long: "cgroup", kind: repeated, value: "[CONTROLLER:]PATH", help: "an existing cgroup below the container's to be in"},
		{long: "ignore-paused", help: "allow it in a paused container, where it waits for resume"},
		{long: "no-subreaper"},
	}, handoverOptions)
}

func updateOptions() []option {
	return []option{
		{long: "resources", short: "r", kind: text, value: "FILE", help: "linux.resources as JSON, - for the standard input; all other options are void"},
		{long: "blkio-weight", kind: number, value: "N", help: "weight of block input and output, 10 to 1000"},
		{long: "cpu-period", kind: number, value: "USEC", help: "period of the CPU quota"},
		{long: "cpu-quota", kind: number, value: "USEC", help: "CPU time in a period"},
		{long: "cpu-burst", kind: number, value: "USEC", help: "unused CPU time that may be saved up"},
		{long: "cpu-share", kind: number, value: "N", help: "share of the CPU time, relative to others"},
		{long: "cpu-rt-period", kind: number, value: "USEC", help: "period of the realtime quota"},
		{long: "cpu-rt-runtime", kind: number, value: "USEC", help: "realtime CPU time in a period"},
		{long: "cpu-idle", kind: number, value: "0|1", help: "1: run only when nobody else wants to"},
		{long: "cpuset-cpus", kind: text, value: "LIST", help: "CPUs to use, such as 0-3,7"},
		{long: "cpuset-mems", kind: text, value: "LIST", help: "memory nodes to use"},
		{long: "memory", kind: text, value: "BYTES", help: "memory limit, such as 512M; -1 for none"},
		{long: "memory-reservation", kind: text, value: "BYTES", help: "memory that is taken last"},
		{long: "memory-swap", kind: text, value: "BYTES", help: "limit of memory and swap together; -1 for none"},
		{long: "kernel-memory", kind: text, value: "BYTES", help: "limit of kernel memory, which kernels since 6.1 do not have any more"},
		{long: "kernel-memory-tcp", kind: text, value: "BYTES", help: "limit of kernel memory for TCP, with cgroup v1"},
		{long: "pids-limit", kind: number, value: "N", help: "number of processes and threads; -1 for no limit"},
		{long: "l3-cache-schema", kind: text, value: "SCHEMA"},
		{long: "mem-bw-schema", kind: text, value: "SCHEMA"},
	}
}

// table returns the options of a command.
func (c command) table() []option {
	if c.options == nil {
		return nil
	}
	return c.options()
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
	return usagef("%s: %s: usage: gosudacon %[1]s [OPTION]... %[3]s", c.name, what, c.operands)
}
