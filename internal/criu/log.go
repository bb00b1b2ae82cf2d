package criu

import (
	"bufio"
	"io"
	"strings"
)

// maxErrors is how many lines of a log are quoted.
const maxErrors = 5

// Errors returns what a log of criu's says of errors: the last lines of that kind, without the times. They begin with what
// went wrong and end with what came of it.
func Errors(log io.Reader) []string {
	var list []string
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		// (00.027133) Error (criu/files-ext.c:100): Can't dump file 3 of that type
		_, text, ok := strings.Cut(lines.Text(), "Error (")
		if !ok {
			continue
		}
		if _, after, ok := strings.Cut(text, "): "); ok {
			text = after
		}
		if len(list) == maxErrors {
			list = append(list[:0], list[1:]...)
		}
		list = append(list, strings.TrimSpace(text))
	}
	return list
}
