package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func help(_ context.Context, c *call) (int, error) {
	if len(c.args) == 0 {
		return 0, printHelp(c.Out)
	}
	cmd, err := findCommand(c.args[0])
	if err != nil {
		return 0, err
	}
	return 0, cmd.printHelp(c.Out)
}

func printHelp(w io.Writer) error {
	var b strings.Builder
	b.WriteString("gosudacon runs OCI containers: the engine of containerd-shim-gosuda-v2 as a command line\n\n")
	b.WriteString("usage: gosudacon [OPTION]... COMMAND [OPTION]... [ARGUMENT]...\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-32s %s\n", strings.TrimSpace(c.name+" "+c.operands), c.help)
	}
	b.WriteString("\noptions before the command:\n\n")
	writeOptions(&b, globalOptions())
	return write(w, b.String())
}

func (c command) printHelp(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "gosudacon %s: %s\n\nusage: gosudacon %[1]s", c.name, c.help)
	if len(c.table()) > 0 {
		b.WriteString(" [OPTION]...")
	}
	fmt.Fprintf(&b, " %s\n", c.operands)
	if len(c.table()) > 0 {
		b.WriteString("\n")
		writeOptions(&b, c.table())
	}
	return write(w, b.String())
}

func writeOptions(b *strings.Builder, table []option) {
	for _, o := range table {
		if o.help == "" {
			continue
		}
		name := "    --" + o.long
		if o.short != "" {
			name = "-" + o.short + ", --" + o.long
		}
		fmt.Fprintf(b, "  %-40s %s\n", strings.TrimRight(name+" "+o.value, " "), o.help)
	}
}

// printVersion prints lines that go-runc and people look for.
func printVersion(version string, w io.Writer) error {
	commit := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	if version == "" {
		version = "unknown"
	}
	_, err := fmt.Fprintf(w, "gosudacon version %s\ncommit: %s\nspec: %s\ngo: %s\n", version, commit, specs.Version, runtime.Version())
	return err
}
