package cli

import (
	"cmp"
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

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

var update = flag.Bool("update", false, "rewrite the table of options in docs/gosudacon.md")

// trial is one row of the table of options: a command, or one of its options, that each program is tried with.
type trial struct {
	command, option string
	shown           string // what is looked for, in the table
	try             func(*attempt)
	v1              bool // needs the limits of cgroup v1
}

// notes are what the table says instead of no, by program; and instead of yes, where the trial cannot tell.
var notes = map[string]map[string]string{
	"gosudacon": {
		"checkpoint --auto-dedup":     "accepted",
		"create --no-subreaper":       "accepted",
		"restore --lsm-mount-context": "accepted",
		"restore --no-pivot":          "accepted",
		"restore --no-subreaper":      "accepted",
		"update --kernel-memory":      "ignored by the kernel",
		"update --l3-cache-schema":    "refused: no Intel RDT yet",
		"update --mem-bw-schema":      "refused: no Intel RDT yet",
	},
	"runc": {
		" --criu":                     "accepted",
		"checkpoint --auto-dedup":     "accepted",
		"restore --lsm-mount-context": "accepted",
		"restore --no-pivot":          "accepted",
		"restore --no-subreaper":      "accepted",
		"kill --all":                  "accepted",
		"restore --shell-job":         "an error: a new one, that nobody takes",
		"update --kernel-memory":      "ignored",
		"update --kernel-memory-tcp":  "ignored",
	},
	"crun": {
		"create --no-subreaper":         "accepted",
		"run --no-subreaper":            "accepted",
		"exec --apparmor":               "ignored without AppArmor",
		"exec --cap":                    "sets these instead",
		"exec --process-label":          "ignored without SELinux",
		"restore ":                      "its status; it stays, stopped",
		"restore --lsm-mount-context":   "accepted",
		"restore --manage-cgroups-mode": "always soft",
		"restore --shell-job":           "an error: a new one, that nobody takes",
		"ps ":                           "without options of ps(1)",
		"update --kernel-memory":        "ignored by the kernel",
		"update --l3-cache-schema":      "ignored without Intel RDT",
		"update --mem-bw-schema":        "ignored without Intel RDT",
	},
}

// trials are all rows, sorted.
func trials() []trial {
	all := slices.Concat(globalTrials, launchTrials("create"), launchTrials("run"), lifeTrials, of("exec", execTrials), of("update", updateTrials),
		of("checkpoint", checkpointTrials), of("restore", restoreTrials))
	slices.SortStableFunc(all, func(a, b trial) int {
		if c := strings.Compare(a.command, b.command); c != 0 {
			return c
		}
		return strings.Compare(a.option, b.option)
	})
	return all
}

// of fills in the command of a list of trials.
func of(command string, list []trial) []trial {
	out := slices.Clone(list)
	for i := range out {
		out[i].command = command
	}
	return out
}

// TestEveryOption tries every command and every option of runc, of crun and of gosudacon with all three. The table in docs/gosudacon.md
// says how it went.
func TestEveryOption(t *testing.T) {
	tree, err := containerdtest.FindTree()
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string]string{"gosudacon": shared.gosudacon}
	for _, name := range []string{"runc", "crun"} {
		if programs[name], err = tree.Runtime(name); err != nil {
			t.Fatalf("without %s there is no table: %v (make %s)", name, err, name)
		}
	}
	criu, missing := criuFor(t, tree, programs["crun"])
	if missing == "" {
		t.Setenv("PATH", criu+":"+os.Getenv("PATH"))
	}
	programs["crun"] = withoutCgroup2(t, programs["crun"])
	checkpointers := maps.Clone(programs)
	if missing == "" {
		checkpointers["crun"] = confined(t, programs["crun"])
	}
	helps := map[string]map[string][]string{}
	for name, program := range programs {
		helps[name] = optionsOf(t, program)
	}
	var rows []string
	have := map[string]bool{}
	for _, tr := range trials() {
		have[tr.command+" "+tr.option] = true
		if tr.v1 && !exists("/sys/fs/cgroup/cpu/tasks") {
			continue
		}
		var cells [3]string
		t.Run(strings.TrimSpace(tr.command+" "+tr.option), func(t *testing.T) {
			programs := programs
			if tr.command == "checkpoint" || tr.command == "restore" {
				if missing := cmp.Or(missing, strayHierarchy()); missing != "" {
					t.Skip(missing)
				}
				programs = checkpointers
			}
			for i, name := range []string{"runc", "crun", "gosudacon"} {
				cells[i] = newAttempt(t, name, programs[name]).verdict(tr)
			}
		})
		if cells[0] == "" { // -run has left it out, or it was skipped
			*update = false
		} else {
			rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", tr.command, tr.option, tr.shown, cells[0], cells[1], cells[2]))
		}
	}
	for name, commands := range helps {
		for command, options := range commands {
			for _, option := range append(options, "") {
				if name != "gosudacon" && command+option != "" && !have[command+" "+option] {
					t.Errorf("%s has %s %s, which is not tried", name, command, option)
				}
			}
		}
	}
	compareTable(t, filepath.Join(string(tree), "docs", "gosudacon.md"), rows)
}

// compareTable looks for the rows in the document, or writes them there.
func compareTable(t *testing.T, file string, rows []string) {
	t.Helper()
	const begin, end = "<!-- BEGIN OPTIONS -->\n", "<!-- END OPTIONS -->\n"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(doc), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the table", file)
	}
	if *update {
		const title = "| command | option | tried | runc | crun | gosudacon |\n|---|---|---|---|---|---|\n"
		if err := os.WriteFile(file, []byte(before+begin+title+strings.Join(rows, "")+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, row := range rows {
		if !strings.Contains(table, row) {
			t.Errorf("%s does not say this; run the test with -update: %s", filepath.Base(file), row)
		}
	}
}

var (
	commandLine = regexp.MustCompile(`(?m)^[ \t]+([a-z]+)(?:, [a-z]+)?\s+(?:- )?\S`)
	longOption  = regexp.MustCompile(`(?m)^\s+(?:-., )*--([a-z0-9-]+)`)
)

// optionsOf are the options that a program's help has, by command; "" has the global ones.
func optionsOf(t *testing.T, program string) map[string][]string {
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
	list := help()
	if _, rest, ok := strings.Cut(list, "COMMANDS:"); ok {
		list, _, _ = strings.Cut(rest, "\n\n")
	}
	for _, m := range commandLine.FindAllStringSubmatch(list, -1) {
		if m[1] != "help" {
			flags[m[1]] = options(help(m[1]))
		}
	}
	return flags
}

// withoutCgroup2 is crun on a host where some controllers are in the cgroup2 tree beside those of cgroup v1, which it refuses: it is shown a
// tree without any.
func withoutCgroup2(t *testing.T, program string) string {
	t.Helper()
	const file = "/sys/fs/cgroup/unified/cgroup.controllers"
	if data, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(data)) == "" {
		return program
	}
	script := filepath.Join(t.TempDir(), "crun")
	text := "#!/bin/sh\nexec unshare --mount --propagation slave sh -c 'mount --bind /dev/null " + file + ` && exec "$0" "$@"' ` + program + ` "$@"` + "\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return script
}

// attempt is a trial with one program, in a bundle of its own.
type attempt struct {
	*rig
	name string // of the program
	id   string // of the container
}

func newAttempt(t *testing.T, name, program string) *attempt {
	t.Helper()
	a := &attempt{rig: newRig(t, "sleep", "1000"), name: name, id: "c"}
	a.program = program
	return a
}

// disappointment is why a program does not do what is tried.
type disappointment struct {
	unknown bool // it has no such command or option
	why     string
}

var unknownOption = regexp.MustCompile(`flag provided but not defined|unrecognized option|unknown option|unknown command|[Nn]o help topic|command not found`)

// verdict carries out the trial and returns what the table says of it. gosudacon has to do all that is tried.
func (a *attempt) verdict(tr trial) (cell string) {
	a.t.Helper()
	defer func() {
		a.cleanUp()
		key := tr.command + " " + tr.option
		failed := recover()
		d, ok := failed.(disappointment)
		note := notes[a.name][key]
		switch {
		case failed == nil && !strings.HasPrefix(note, "accepted") && !strings.HasPrefix(note, "refused"):
			cell = "yes" // whatever it was once
		case failed == nil || ok && note != "":
			cell = note
			if ok {
				a.t.Logf("%s: %s", a.name, d.why)
			}
		case !ok:
			panic(failed)
		case d.unknown && a.name != "gosudacon":
			cell = "–"
		default:
			cell = "no"
			a.t.Errorf("%s %s %s: %s", a.name, tr.command, tr.option, d.why)
		}
	}()
	tr.try(a)
	return ""
}

// cleanUp removes the containers, whatever happened.
func (a *attempt) cleanUp() {
	a.globals = nil
	for id := range strings.FieldsSeq(a.rig.run("list", "-q").out) {
		a.reapAll(id)
		a.rig.run("delete", "--force", id)
	}
	os.RemoveAll(a.root) // crun keeps a cache there
}

// remove removes the container.
func (a *attempt) remove() {
	a.reapAll(a.id)
	a.do("delete", "--force", a.id)
}

// reapAll reaps the processes of a container when they end: they are children of this process, whoever made them is gone.
func (a *attempt) reapAll(id string) {
	var pids []int
	decode(a.rig.run("ps", "-f", "json", id).out, &pids)
	for _, pid := range append(pids, a.pidOf(id)) {
		if pid > 0 {
			a.reapAtEnd(pid)
		}
	}
}

func (a *attempt) pidOf(id string) int {
	var s specs.State
	if res := a.rig.run("state", id); res.code != 0 || decode(res.out, &s) != nil {
		return 0
	}
	return s.Pid
}

// do carries out a command that the trial needs to succeed.
func (a *attempt) do(args ...string) string {
	a.t.Helper()
	return a.succeeds(a.command(args...))
}

func (a *attempt) succeeds(cmd *exec.Cmd) string {
	a.t.Helper()
	res := a.finish(cmd)
	if res.code != 0 {
		panic(disappointment{unknownOption.MatchString(res.err + res.out), fmt.Sprintf("%q: exit code %d: %s%s", cmd.Args, res.code, res.out, res.err)})
	}
	return res.out
}

// want is what the trial is about.
func (a *attempt) want(ok bool, format string, args ...any) {
	if !ok {
		panic(disappointment{why: fmt.Sprintf(format, args...)})
	}
}

// equal is want of a text.
func (a *attempt) equal(got, want string) { a.want(got == want, "got %q, want %q", got, want) }

// start starts a container c of the rig's config, changed.
func (a *attempt) start(change ...func(*specs.Spec)) {
	for _, f := range change {
		f(a.spec)
	}
	a.writeConfig()
	a.do("create", "c")
	a.do("start", "c")
}

// status waits until the container is in a state.
func (a *attempt) status(want specs.ContainerState) {
	var s specs.State
	for range 400 {
		a.reap()
		if decode(a.do("state", a.id), &s) == nil && s.Status == want {
			return
		}
		pause(10)
	}
	a.want(false, "the container is %s, want %s", s.Status, want)
}
