package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// table is the result, in the order in which its lines came.
type table struct {
	names []string // of the runtimes
	lines []line
}

type line struct {
	title, work, unit string
	values            map[string]float64 // by runtime
}

func (t *table) put(title, work, unit, runtime string, v float64) {
	i := slices.IndexFunc(t.lines, func(l line) bool { return l.title == title && l.work == work })
	if i < 0 {
		i = len(t.lines)
		t.lines = append(t.lines, line{title, work, unit, map[string]float64{}})
	}
	t.lines[i].values[runtime] = v
}

// String is the table as text; times and sizes are per container.
func (t *table) String() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	title := ""
	for _, l := range t.lines {
		if l.title != title {
			title = l.title
			fmt.Fprintf(w, "\n%s\t", title)
			for _, name := range t.names {
				fmt.Fprintf(w, "%s\t", name)
			}
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "  %s\t", strings.TrimSpace(l.work+" "+l.unit))
		for _, name := range t.names {
			v, ok := l.values[name]
			if !ok { // it failed before
				fmt.Fprint(w, "–\t")
				continue
			}
			fmt.Fprintf(w, "%s\t", digits(v))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	return out.String()
}

// digits prints a number with three digits, or all of those before the point.
func digits(v float64) string {
	switch {
	case v >= 100 || v == float64(int(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
