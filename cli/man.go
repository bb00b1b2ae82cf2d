package cli

import (
	"context"
	"fmt"
	"strings"
)

// man prints the manual page, made from the tables that the command line itself goes by.
func man(_ context.Context, c *call) (int, error) {
	var b strings.Builder
	version := c.Version
	if version == "" {
		version = "unknown"
	}
	fmt.Fprintf(&b, ".TH GOSUDACON 8 \"\" \"gosudacon %s\" \"System Administration\"\n", roff(version))
	b.WriteString(".SH NAME\ngosudacon \\- run OCI containers\n.SH SYNOPSIS\n.B gosudacon\n[\\fIOPTION\\fR]... \\fICOMMAND\\fR [\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]...\n")
	b.WriteString(".SH DESCRIPTION\nThe engine of containerd\\-shim\\-gosuda\\-v2 as a command line. What calls runc or crun can call it with the same arguments.\n" +
		"Options may come before or after arguments, but for\n.B exec\nand\n.BR ps ,\nwhose command and options begin after the first argument.\n")
	b.WriteString(".SH OPTIONS\n")
	manOptions(&b, globalOptions())
	b.WriteString(".SH COMMANDS\n")
	for _, cmd := range commands() {
		fmt.Fprintf(&b, ".SS \"%s\"\n%s.\n", roff(strings.TrimSpace(cmd.name+" "+cmd.operands)), roff(strings.ToUpper(cmd.help[:1])+cmd.help[1:]))
		manOptions(&b, cmd.table())
	}
	b.WriteString(".SH EXIT STATUS\n.B run\nand\n.B exec\nexit with the status of the process, 128 and the signal's number if a signal ended it.\n" +
		"Other failures are 1, those of\n.B exec\n255.\n")
	fmt.Fprintf(&b, ".SH FILES\n.TP\n.I %s\nrecords of containers; see \\fB\\-\\-root\\fR\n", stateRoot)
	b.WriteString(".SH ENVIRONMENT\n.TP\n.BR LISTEN_FDS ,\\  LISTEN_PID\ndescriptors of socket activation, handed to the container\n" +
		".TP\n.B NOTIFY_SOCKET\nwhere\n.B start\ntells that the container is ready\n.SH SEE ALSO\n.BR runc (8),\n.BR crun (1)\n")
	return 0, write(c.Out, b.String())
}

func manOptions(b *strings.Builder, table []option) {
	for _, o := range shown(table) {
		b.WriteString(".TP\n")
		if o.short != "" {
			fmt.Fprintf(b, "\\fB\\-%s\\fR, ", o.short)
		}
		fmt.Fprintf(b, "\\fB\\-\\-%s\\fR", roff(o.long))
		if o.value != "" {
			fmt.Fprintf(b, " \\fI%s\\fR", roff(o.value))
		}
		fmt.Fprintf(b, "\n%s\n", roff(o.help))
	}
}

// roff escapes what means something to roff: backslashes, hyphens that people copy, and dots where a line begins.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
