package client

import (
	"strings"
	"testing"
	"time"
)

// NoteKey is the key of the attribute (testing.T.Attr) by which go test -json tells which commands a test has run. e2e/beside makes a table of them.
const NoteKey = "command"

// groups are commands whose first argument is the command that is meant.
var groups = map[string]bool{
	"builder": true, "checkpoint": true, "compose": true, "container": true, "generate": true, "healthcheck": true, "image": true, "network": true,
	"play": true, "pod": true, "secret": true, "snapshot": true, "task": true, "volume": true,
}

// Note attributes a run of a program to the test: how long it took (0 when that says nothing), the command, its flags.
func Note(t *testing.T, program string, took time.Duration, args []string) {
	command, flags := describe(args)
	t.Attr(NoteKey, strings.Join(append([]string{took.Round(100 * time.Microsecond).String(), program + " " + command}, flags...), "\t"))
}

// describe returns a command's name, and its long flags without their values. What follows the second of two words that are no flags is not the
// program's any more, but for instance the container's.
func describe(args []string) (command string, flags []string) {
	words := 0
	for i := 0; i < len(args) && words < 2; i++ {
		arg := args[i]
		switch {
		case command == "":
			command = arg
		case arg == "--file": // of compose, before its command
			i++
		case strings.HasPrefix(arg, "-"):
			words = 0
			if name, _, _ := strings.Cut(arg, "="); strings.HasPrefix(name, "--") {
				flags = append(flags, name)
			}
		case groups[command]:
			command += " " + arg
		default:
			words++
		}
	}
	return command, flags
}
