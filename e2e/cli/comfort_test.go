package cli

import (
	"os/exec"
	"strings"
	"testing"
)

// TestBashCompletion has bash complete command lines with the script that gosudacon prints.
func TestBashCompletion(t *testing.T) {
	r := newRig(t, "true")
	r.ok("create", "first")
	defer r.ok("delete", "first")
	complete := func(words ...string) string {
		t.Helper()
		script := `source <("$0" completion bash); COMP_WORDS=("${@}"); COMP_CWORD=$(($# - 1)); _gosudacon; echo "${COMPREPLY[*]}"`
		cmd := exec.Command("bash", append([]string{"-c", script, r.program}, words...)...)
		// The script calls gosudacon by that name.
		cmd.Env = []string{"PATH=" + strings.TrimSuffix(r.program, "/gosudacon") + ":/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v: %s", words, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	for _, tc := range []struct {
		want  string
		words []string
	}{
		{"start state", []string{"gosudacon", "st"}},
		{"--root --rootless", []string{"gosudacon", "--ro"}},
		{"--pidfd-socket --pid-file", []string{"gosudacon", "--debug", "create", "--pid"}},
		{"first", []string{"gosudacon", "--root", r.root, "kill", ""}},
		{"first", []string{"gosudacon", "--root", r.root, "--log", "x", "exec", "-t", "f"}},
		{"spec", []string{"gosudacon", "help", "sp"}},
		{"json", []string{"gosudacon", "--log-format", "j"}},
		{"table json", []string{"gosudacon", "list", "-f", ""}},
		{"add remove", []string{"gosudacon", "mounts", ""}},
		{"first", []string{"gosudacon", "--root", r.root, "mounts", "add", ""}},
	} {
		if got := complete(tc.words...); got != tc.want {
			t.Errorf("%q: %q, want %q", tc.words, got, tc.want)
		}
	}
}

// TestHelpIsComplete: the manual page and the completions have every command and option that help has.
func TestHelpIsComplete(t *testing.T) {
	r := newRig(t, "true")
	man := strings.ReplaceAll(r.ok("man"), `\-`, "-")
	scripts := map[string]string{"man": man}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		scripts[shell] = r.ok("completion", shell)
	}
	for line := range strings.Lines(r.ok("help")) {
		name, _, ok := strings.Cut(strings.TrimPrefix(line, "  "), " ")
		if !ok || !strings.HasPrefix(line, "  ") || strings.HasPrefix(name, "-") || name == "" {
			continue
		}
		for option := range strings.FieldsSeq(r.ok("help", name)) {
			if !strings.HasPrefix(option, "--") {
				continue
			}
			for what, text := range scripts {
				want := option
				if what == "fish" {
					want = "-l " + strings.TrimPrefix(option, "--")
				}
				if !strings.Contains(text, name) || !strings.Contains(text, want) {
					t.Errorf("%s lacks %s %s", what, name, option)
				}
			}
		}
	}
	r.fails("none of bash, zsh, fish", "completion", "csh")
}
