package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// row is a command, or a test that runs none.
type row struct {
	flags map[string]bool
	cells map[string]*cell // by the column's name
}

type cell struct {
	runs, passed int // of the command, and in tests that passed
	took         []time.Duration
	result       string // of a test that runs no command
}

// table shows outcomes beside each other, and below them the tests that did not pass, with what they said.
func table(title string, all []*outcome) string {
	rows := map[string]*row{}
	at := func(name, column string) (*row, *cell) {
		if rows[name] == nil {
			rows[name] = &row{map[string]bool{}, map[string]*cell{}}
		}
		r := rows[name]
		if r.cells[column] == nil {
			r.cells[column] = &cell{}
		}
		return r, r.cells[column]
	}
	for _, o := range all {
		for _, name := range o.order {
			t := o.tests[name]
			for _, c := range t.commands {
				r, cell := at(c.name, o.name)
				for _, flag := range c.flags {
					r.flags[flag] = true
				}
				cell.add(c, t.result)
			}
			if len(t.commands) == 0 && o.leaf(name) && !ranCommands(all, name) {
				_, cell := at(name, o.name)
				cell.result = t.result
			}
		}
	}

	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, title)
	for _, o := range all {
		fmt.Fprintf(w, "\t%s", o.name)
	}
	fmt.Fprint(w, "\tflags\n")
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(w, "  %s", name)
		for _, o := range all {
			fmt.Fprintf(w, "\t%s", rows[name].cells[o.name])
		}
		fmt.Fprintf(w, "\t%s\n", strings.Join(slices.Sorted(maps.Keys(rows[name].flags)), " "))
	}
	fmt.Fprint(w, "  tests: passed, failed, skipped")
	for _, o := range all {
		fmt.Fprintf(w, "\t%d, %d, %d", o.count("pass"), o.count("fail"), o.count("skip"))
	}
	fmt.Fprint(w, "\n  all together")
	for _, o := range all {
		fmt.Fprintf(w, "\t%.0f s", o.took.Seconds())
	}
	fmt.Fprintln(w)
	w.Flush()
	for _, o := range all {
		for _, name := range o.order {
			if t := o.tests[name]; t.result != "pass" && o.leaf(name) {
				fmt.Fprintf(&out, "%s: %s %s: %s\n", o.name, name, t.result, beginning(t.output.String()))
			}
		}
	}
	return out.String()
}

// beginning is what a test said first, in one line: daemons' logs come last.
func beginning(text string) string {
	words := []rune(strings.Join(strings.Fields(text), " "))
	if len(words) > 400 {
		words = append(words[:400], '…')
	}
	return string(words)
}

// ranCommands tells whether a test is one of commands with another runtime, when it was skipped with this one.
func ranCommands(all []*outcome, name string) bool {
	return slices.ContainsFunc(all, func(o *outcome) bool { return o.tests[name] != nil && len(o.tests[name].commands) > 0 })
}

func (c *cell) add(run command, result string) {
	c.runs++
	if result == "pass" {
		c.passed++
	}
	if run.took > 0 {
		c.took = append(c.took, run.took)
	}
}

// String is how many runs there were, of them how many in tests that failed or were skipped later, and the median of their times.
func (c *cell) String() string {
	switch {
	case c == nil:
		return "–"
	case c.runs == 0:
		return c.result
	}
	text := fmt.Sprintf("%d", c.runs)
	if c.passed < c.runs {
		text = fmt.Sprintf("%d of %d", c.passed, c.runs)
	}
	if len(c.took) > 0 {
		slices.Sort(c.took)
		text += fmt.Sprintf(", %d ms", c.took[len(c.took)/2].Milliseconds())
	}
	return text
}
