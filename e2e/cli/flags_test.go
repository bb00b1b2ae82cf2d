package cli

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// missing are commands and options of the peers that gosudacon does not take, and why.
var missing = map[string]string{
	"checkpoint": "checkpoints are not there yet",
	"restore":    "checkpoints are not there yet",
	"init":       "runc's own",
	"mounts":     "mounts of a running container are not there yet",
	"--usage":    "a short form of --help",
}

var (
	commandLine = regexp.MustCompile(`(?m)^\s+([a-z]+)(?:, [a-z]+)?\s+(?:- )?\S`)
	longOption  = regexp.MustCompile(`(?m)^\s+(?:-., )*--([a-z0-9-]+)`)
)

// TestEveryFlag asks runc and crun for their commands and options, and gosudacon whether it knows them.
func TestEveryFlag(t *testing.T) {
	r := newRig(t, "true")
	peers := map[string]string{"runc": r.withRunc().program}
	if tree, err := containerdtest.FindTree(); err == nil {
		if dir, err := tree.Peer("crun"); err == nil {
			peers["crun"] = filepath.Join(dir, "crun")
		}
	}
	known := func(peer string, args ...string) {
		key := strings.Join(args, " ")
		for _, a := range args {
			if name, _, _ := strings.Cut(a, "="); missing[name] != "" {
				return
			}
		}
		out, _ := exec.Command(r.program, append(args, "--help")...).CombinedOutput()
		if text := string(out); strings.Contains(text, "unknown option") || strings.Contains(text, "unknown command") {
			t.Errorf("%s has %s: %s", peer, key, text)
		}
	}
	count := 0
	for peer, program := range peers {
		help := func(args ...string) string {
			out, err := exec.Command(program, append(args, "--help")...).CombinedOutput()
			if err != nil {
				t.Fatalf("%s %q: %v: %s", peer, args, err, out)
			}
			return string(out)
		}
		_, list, _ := strings.Cut(help(), "COMMANDS:")
		list, _, _ = strings.Cut(list, "\n\n")
		for _, m := range commandLine.FindAllStringSubmatch(list, -1) {
			command := m[1]
			if command == "help" {
				continue
			}
			known(peer, command)
			for _, o := range longOption.FindAllStringSubmatch(help(command), -1) {
				known(peer, command, "--"+o[1]+"=1")
				count++
			}
		}
		for _, o := range longOption.FindAllStringSubmatch(help(), -1) {
			if name := o[1]; name != "help" && name != "version" {
				known(peer, "--"+name+"=1")
			}
		}
	}
	if count < 60 {
		t.Errorf("only %d options were found in the help of %v", count, peers)
	}
}

// TestRegex: crun's --regex, for many containers at once.
func TestRegex(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	for _, id := range []string{"web-1", "web-2", "db-1"} {
		r.spec.Linux.CgroupsPath = r.cgroups + "/" + id
		r.writeConfig()
		r.ok("create", id)
	}
	r.ok("kill", "--regex", "web-.", "KILL")
	r.stopped("web-1")
	r.stopped("web-2")
	r.fails("web-1: container not running", "kill", "-r", "web-1|db-.*|web", "CONT") // but db-1 got it
	r.ok("delete", "-r", "web-[12]")
	if out := r.ok("list", "-q"); out != "db-1\n" {
		t.Errorf("left: %q", out)
	}
	r.fails("option --regex", "delete", "-r", "(")
	r.ok("delete", "-f", "--regex", ".*")
}
