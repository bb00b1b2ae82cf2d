package cli

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// states are the states in which every command is tried, with how a container gets there.
var states = map[string][][]string{
	"none":    {},
	"created": {{"create", "c"}},
	"running": {{"create", "c"}, {"start", "c"}},
	"paused":  {{"create", "c"}, {"start", "c"}, {"pause", "c"}},
	"stopped": {{"create", "c"}, {"start", "c"}, {"kill", "c", "KILL"}},
}

// commands are tried in every state.
var commands = [][]string{
	{"create", "c"}, {"start", "c"}, {"state", "c"}, {"kill", "c", "0"}, {"kill", "c"}, {"kill", "c", "FLY"}, {"kill", "--all", "c", "KILL"},
	{"delete", "c"}, {"delete", "--force", "c"}, {"exec", "c", "sh", "-c", "exit 3"}, {"exec", "c", "nothing"}, {"list"}, {"list", "-q"}, {"list", "-f", "json"},
	{"ps", "-f", "json", "c"}, {"pause", "c"}, {"resume", "c"}, {"update", "--pids-limit", "20", "c"}, {"events", "--stats", "c"},
}

// wrong are command lines that are wrong in any state.
var wrong = [][]string{{"state"}, {"state", "c", "d"}, {"kill"}, {"delete"}, {"list", "-f", "xml"}}

// without is where runc looks no further: to us a state root that does not exist has no containers.
var without = []string{"none: list", "none: list -q", "none: list -f json", "none: list -f xml"}

// TestSameAsRunc tries every command in every state with runc and with gosudacon: the same exit code, the same keys of JSON, and a
// failure has at least runc's words, which callers look for. How runc tells a wrong command line is its own affair.
func TestSameAsRunc(t *testing.T) {
	for _, state := range slices.Sorted(maps.Keys(states)) {
		try := commands
		if state == "none" {
			try = append(try, wrong...)
		}
		for _, command := range try {
			name := state + ": " + strings.Join(command, " ")
			t.Run(name, func(t *testing.T) {
				ours := newRig(t, "sleep", "1000")
				runcs := ours.withRunc()
				got, want := ours.try(state, command), runcs.try(state, command)
				switch {
				case slices.Contains(without, name) && want.code == 1:
					return
				case strings.HasPrefix(want.out, "Incorrect Usage"):
					want.out, want.err = "", "usage: gosudacon "+command[0]
				}
				if got.code != want.code || keys(got.out) != keys(want.out) || !strings.Contains(got.err, want.err) {
					t.Errorf("\ngosudacon %d %s %s\nrunc      %d %s %s", got.code, keys(got.out), got.err, want.code, keys(want.out), want.err)
				}
			})
		}
	}
}

// try carries out a command on a container in a state, and removes the container.
func (r *rig) try(state string, command []string) result {
	r.t.Helper()
	for _, step := range states[state] {
		r.ok(step...)
	}
	if state == "stopped" {
		r.stopped("c")
	}
	res := r.run(command...)
	res.err = message(res.err)
	if left := r.run("state", "c"); left.code == 0 {
		if pid := r.state("c").Pid; pid != 0 {
			go unix.Wait4(pid, nil, 0, nil) // the duty of whoever the container is reparented to
		}
		r.ok("delete", "--force", "c")
	}
	return res
}

var msg = regexp.MustCompile(`level=error msg="?(.*?)"?\n`)

var number = regexp.MustCompile(`[0-9]+`)

// message is the words of a failure, without the program's name.
func message(stderr string) string {
	m := msg.FindStringSubmatch(stderr)
	if m == nil {
		return stderr
	}
	text := m[1]
	for _, prefix := range []string{"runc create failed: ", "exec failed: ", "unable to start container process: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return text
}

// keys returns the sorted keys of a JSON object or of the first in a list; of other text the words of its first line.
func keys(text string) string {
	var list []map[string]any
	var object map[string]any
	if json.Unmarshal([]byte(text), &list) == nil && len(list) > 0 {
		object = list[0]
	} else if json.Unmarshal([]byte(text), &object) != nil {
		line, _, _ := strings.Cut(number.ReplaceAllString(text, "N"), "\n")
		return strings.Join(strings.Fields(line), " ")
	}
	return strings.Join(slices.Sorted(maps.Keys(object)), " ")
}
