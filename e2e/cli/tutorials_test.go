package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gosuda/gosudacon/e2e/containerdtest"
)

// TestTutorials types every command of docs/tutorials.md and compares what comes with what the document shows. debootstrap is played by
// a script that makes a root file system of busybox: what it really makes takes minutes.
func TestTutorials(t *testing.T) {
	tree, err := containerdtest.FindTree()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(string(tree), "docs", "tutorials.md"))
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(t)
	for title, blocks := range sections(string(doc)) {
		ok := t.Run(title, func(t *testing.T) {
			d.t = t
			for _, b := range blocks {
				if b.file != "" {
					d.save(b.file, b.text)
				} else if b.language == "console" {
					d.play(b)
				}
			}
		})
		d.t = t
		if !ok {
			break // the next goes on from there
		}
	}
	for _, root := range []string{"/run/gosudacon", "/run/docker/runtime-runc/moby"} {
		if out := d.shell("gosudacon --root " + root + " list -q"); out != "" {
			t.Errorf("left behind in %s: %s", root, out)
			d.shell("gosudacon --root " + root + " delete --force --regex '.*'")
		}
	}
	for _, id := range []string{"hello", "debian", "web"} {
		if left, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", id)); len(left) > 0 {
			t.Errorf("left behind: %s", left)
		}
	}
}

// block is a fenced block of a document. What follows its language in the opening fence, which no reader sees, is for the test.
type block struct {
	language string
	file     string // file=NAME: what to save the text as
	terminal string // terminal=NAME: where to type it
	wait     bool   // the last command goes on
	text     string
}

var fenced = regexp.MustCompile("(?ms)^```(\\S+)([^\n]*)\n(.*?)^```$")

// sections yields the titles of a document and their fenced blocks, in order.
func sections(doc string) func(yield func(string, []block) bool) {
	return func(yield func(string, []block) bool) {
		for section := range strings.SplitSeq(doc, "\n## ") {
			title, text, _ := strings.Cut(section, "\n")
			var blocks []block
			for _, m := range fenced.FindAllStringSubmatch(text, -1) {
				b := block{language: m[1], terminal: "first", text: m[3]}
				for word := range strings.FieldsSeq(m[2]) {
					key, value, _ := strings.Cut(word, "=")
					switch key {
					case "file":
						b.file = value
					case "terminal":
						b.terminal = value
					case "wait":
						b.wait = true
					}
				}
				blocks = append(blocks, b)
			}
			if blocks != nil && !yield(title, blocks) {
				return
			}
		}
	}
}

// step is one command of a console block, and the lines that it is to print.
type step struct {
	command string
	output  []string
}

// steps takes a block apart: what follows "# " is typed.
func (b block) steps() (list []step) {
	for line := range strings.Lines(b.text) {
		line = strings.TrimSuffix(line, "\n")
		if command, ok := strings.CutPrefix(line, "# "); ok {
			list = append(list, step{command: command})
		} else if n := len(list); n > 0 {
			list[n-1].output = append(list[n-1].output, line)
		}
	}
	return list
}

// typical are the values in the document that stand for any of their kind, and what matches those.
var typical = []struct{ shown, any string }{
	{"12345", `[0-9]+`},
	{`2026-01-01T12:00:00.000000000Z`, `2[-0-9]+T[0-9:.]+Z`},
	{"…", `.*`},
}

// pattern is what the output of a step must match. Columns may be wider or narrower than in the document.
func (s step) pattern() *regexp.Regexp {
	var lines []string
	for _, line := range s.output {
		line = blanks.ReplaceAllString(line, " ")
		line = regexp.QuoteMeta(line)
		for _, t := range typical {
			line = strings.ReplaceAll(line, regexp.QuoteMeta(t.shown), t.any)
		}
		lines = append(lines, line+"\n")
	}
	if slices.Equal(s.output, []string{"…"}) {
		return regexp.MustCompile(`(?s)^.*$`)
	}
	return regexp.MustCompile(`^` + strings.Join(lines, "") + `$`)
}
