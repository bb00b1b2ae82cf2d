package cli

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// missing are commands and options of the peers that gosudacon does not take, and why.
var missing = map[string]string{
	"mounts": "mounts of a running container are not there yet",
}

var (
	commandLine = regexp.MustCompile(`(?m)^\s+([a-z]+)(?:, [a-z]+)?\s+(?:- )?\S`)
	longOption  = regexp.MustCompile(`(?m)^\s+(?:-., )*--([a-z0-9-]+)`)
)

// special is what gosudacon does with options that it takes for callers of the peers.
var special = map[string]string{
	" --rootless":                "ignored",
	" --cgroup-manager":          "cgroupfs and systemd",
	"create --no-subreaper":      "ignored",
	"exec --no-subreaper":        "ignored",
	"restore --no-pivot":         "ignored",
	"update --kernel-memory":     "ignored, with a warning",
	"update --kernel-memory-tcp": "ignored, with a warning",
	"update --l3-cache-schema":   "refused: no Intel RDT yet",
	"update --mem-bw-schema":     "refused: no Intel RDT yet",
}

var update = flag.Bool("update", false, "rewrite the table of options in docs/gosudacon.md")

// peerFlags are the options that a program's help has, by command; "" has the global ones.
func peerFlags(t *testing.T, program string) map[string][]string {
	t.Helper()
	help := func(args ...string) string {
		out, err := exec.Command(program, append(args, "--help")...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v: %s", program, args, err, out)
		}
		return string(out)
	}
	options := func(text string) (list []string) {
		for _, o := range longOption.FindAllStringSubmatch(text, -1) {
			if o[1] != "help" && o[1] != "version" && o[1] != "usage" {
				list = append(list, "--"+o[1])
			}
		}
		return list
	}
	flags := map[string][]string{"": options(help())}
	_, list, _ := strings.Cut(help(), "COMMANDS:")
	list, _, _ = strings.Cut(list, "\n\n")
	for _, m := range commandLine.FindAllStringSubmatch(list, -1) {
		if m[1] != "help" {
			flags[m[1]] = options(help(m[1]))
		}
	}
	return flags
}

// TestEveryFlag asks runc and crun for their commands and options, and gosudacon whether it knows them; and the table in docs/gosudacon.md
// says so.
func TestEveryFlag(t *testing.T) {
	r := newRig(t, "true")
	tree, err := containerdtest.FindTree()
	r.check(err)
	crun, err := tree.Peer("crun")
	if err != nil {
		t.Skipf("without crun there is no table: %v", err)
	}
	runcs, cruns := peerFlags(t, r.withRunc().program), peerFlags(t, filepath.Join(crun, "crun"))
	var b strings.Builder
	b.WriteString("| command | option | runc | crun | gosudacon |\n|---|---|---|---|---|\n")
	has := func(flags map[string][]string, command, option string) string {
		list, ok := flags[command]
		if ok && (option == "" || slices.Contains(list, option)) {
			return "yes"
		}
		return "–"
	}
	for _, command := range union(slices.Collect(maps.Keys(runcs)), slices.Collect(maps.Keys(cruns))) {
		for _, option := range union([]string{""}, runcs[command], cruns[command]) {
			if command == "" && option == "" {
				continue
			}
			ours := r.takes(command, option)
			if ours == "–" && missing[command] == "" {
				t.Errorf("%s %s is not known", command, option)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", command, option, has(runcs, command, option), has(cruns, command, option), ours)
			if ours == "–" {
				break // of a command that is not there, neither are its options
			}
		}
	}
	const begin, end = "<!-- BEGIN OPTIONS -->\n", "<!-- END OPTIONS -->\n"
	file := filepath.Join(string(tree), "docs", "gosudacon.md")
	doc, err := os.ReadFile(file)
	r.check(err)
	before, rest, ok1 := strings.Cut(string(doc), begin)
	_, after, ok2 := strings.Cut(rest, end)
	want := before + begin + b.String() + end + after
	switch {
	case !ok1 || !ok2:
		t.Fatalf("%s has no place for the table", file)
	case *update:
		r.check(os.WriteFile(file, []byte(want), 0o644))
	case want != string(doc):
		t.Errorf("%s does not say what the programs say; run this test with -update", file)
	}
}

// takes tells what gosudacon does with an option, or with a command.
func (r *rig) takes(command, option string) string {
	r.t.Helper()
	args := strings.Fields(command)
	if option != "" {
		args = append(args, option+"=1") // a value that most kinds of options take; the others say that it is wrong
	}
	out, _ := exec.Command(r.program, append(args, "--help")...).CombinedOutput()
	if text := string(out); strings.Contains(text, "unknown option") || strings.Contains(text, "unknown command") {
		return "–"
	}
	if s := special[command+" "+option]; s != "" {
		return s
	}
	return "yes"
}

// union returns the sorted elements of lists, each once.
func union(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all)
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
