package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/gosuda/gosudacon/e2e/ociruntime"
)

// row is one line of the table.
type row struct {
	program  string
	verdicts map[string]verdict // by the runtime's name
}

// judgement is what the table says about one verdict.
type judgement struct {
	word    string   // pass, skip, excused, FAIL
	reasons []string // why it is excused; or what is not
}

// judge compares a verdict with the excuses. Only gosudacon needs them: for the others, whatever is not clean fails.
func judge(runtime, program string, v verdict) judgement {
	if runtime != ociruntime.Gosudacon {
		if v.clean() {
			return judgement{word: cleanWord(v)}
		}
		return judgement{"fail", v.complaints}
	}
	var j judgement
	used := map[string]bool{}
	for _, complaint := range v.complaints {
		if e, ok := excused(program, complaint); ok {
			if !used[e.why] {
				used[e.why], j.reasons = true, append(j.reasons, e.why)
			}
		} else {
			j.word, j.reasons = "FAIL", append(j.reasons, "not excused: "+complaint)
		}
	}
	for _, e := range excuses[program] {
		if !used[e.why] && !e.races && e.holds() {
			j.word, j.reasons = "FAIL", append(j.reasons, "nothing is wrong that this excuses: "+e.why)
		}
	}
	switch {
	case j.word != "":
	case v.clean():
		j.word = cleanWord(v)
	default:
		j.word = "excused"
	}
	return j
}

// cleanWord tells a program that checked something from one that checked nothing.
func cleanWord(v verdict) string {
	if v.oks == 0 && v.skips > 0 {
		return "skip"
	}
	return "pass"
}

// report prints the table and the counts; it is an error when gosudacon fails a program.
func (s *suite) report(rows []row) error {
	counts := map[string]map[string]int{}
	failed := 0
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "program")
	for _, r := range s.runtimes {
		counts[r.Name] = map[string]int{}
		fmt.Fprintf(w, "\t%s", r.Name)
	}
	fmt.Fprint(w, "\t\n")
	for _, row := range rows {
		fmt.Fprint(w, row.program)
		var lines []string
		for _, r := range s.runtimes {
			j := judge(r.Name, row.program, row.verdicts[r.Name])
			counts[r.Name][j.word]++
			fmt.Fprintf(w, "\t%s", j.word)
			if j.word == "FAIL" {
				failed++
			}
			if s.verbose || r.Name == ociruntime.Gosudacon {
				for _, reason := range j.reasons {
					lines = append(lines, r.Name+": "+reason)
				}
			}
		}
		fmt.Fprint(w, "\t\n")
		for _, line := range lines {
			fmt.Fprintf(w, "    %s\n", line)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Println()
	for _, r := range s.runtimes {
		fmt.Printf("%-10s %d programs: %s\n", r.Name, len(rows), tally(counts[r.Name]))
	}
	if failed > 0 {
		return fmt.Errorf("gosudacon fails %d of %d programs", failed, len(rows))
	}
	return nil
}

// tally writes counts in the order of the words' weight.
func tally(counts map[string]int) string {
	var parts []string
	for _, word := range []string{"pass", "skip", "excused", "fail", "FAIL"} {
		if n := counts[word]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, word))
		}
	}
	return strings.Join(slices.Clip(parts), ", ")
}
