package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSpecTable: every test that docs/runtime-spec.md names is there, as a Go test of the tree or as a bundle of this suite, and every
// row names one.
func TestSpecTable(t *testing.T) {
	const root = "../.."
	known := map[string]bool{}
	for _, v := range variations() {
		if known[v.name] {
			t.Errorf("two bundles have the name %s", v.name)
		}
		known[v.name] = true
	}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".cache" {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range function.FindAllStringSubmatch(string(text), -1) {
			known[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs/runtime-spec.md"))
	if err != nil {
		t.Fatal(err)
	}
	name, rows := regexp.MustCompile("`([^`]+)`"), 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 8 || strings.HasPrefix(cells[1], "---") || strings.TrimSpace(cells[1]) == "property" {
			continue
		}
		rows++
		tests := name.FindAllStringSubmatch(cells[6], -1)
		if len(tests) == 0 {
			t.Errorf("no test backs %q", cells[1])
		}
		for _, test := range tests {
			if !known[test[1]] {
				t.Errorf("%s: there is no test %s", strings.TrimSpace(cells[1]), test[1])
			}
		}
	}
	if rows < 80 {
		t.Errorf("the tables have %d rows", rows)
	}
}
