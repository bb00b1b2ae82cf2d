package client

import (
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	for args, want := range map[string]string{
		"ps": "ps",
		"run --rm --net none --memory=1m image grep --count x":     "run: --rm --net --memory",
		"run --detach image sh -c x":                               "run: --detach",
		"container healthcheck name":                               "container healthcheck",
		"compose --file p.yaml up --detach":                        "compose up: --detach",
		"stop --time 1 name":                                       "stop: --time",
		"checkpoint create --checkpoint-dir d --leave-running c k": "checkpoint create: --checkpoint-dir --leave-running",
		"top name -eo pid,args":                                    "top",
	} {
		command, flags := describe(strings.Fields(args))
		if got := strings.TrimSuffix(command+": "+strings.Join(flags, " "), ": "); got != want {
			t.Errorf("%s: got %q, want %q", args, got, want)
		}
	}
}
