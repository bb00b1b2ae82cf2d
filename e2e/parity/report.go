package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gosuda/gosudacon/e2e/ociruntime"
)

// verbs are the fields that say how far a container came. Where they differ, there is nothing else to compare.
var verbs = []string{"suite", "create", "start", "probe", "end"}

// finding is a field that differs.
type finding struct {
	field, ours, theirs string
}

// diff compares two views, and counts the fields it compared.
func diff(ours, theirs view) (found []finding, compared int) {
	for _, verb := range verbs {
		a, b := ours.fields[verb], theirs.fields[verb]
		if a != b {
			return []finding{{verb, a + note(ours, verb), b + note(theirs, verb)}}, 1
		}
	}
	fields := maps.Clone(ours.fields)
	maps.Copy(fields, theirs.fields)
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		compared++
		a, inA := ours.fields[field]
		b, inB := theirs.fields[field]
		if inA != inB || a != b {
			found = append(found, finding{field, shown(a, inA), shown(b, inB)})
		}
	}
	return found, compared
}

// note is what a runtime said when it refused.
func note(v view, verb string) string {
	if text := v.notes[verb]; text != "" {
		return ": " + oneLine(text)
	}
	return ""
}

func shown(value string, there bool) string {
	if !there {
		return "nothing"
	}
	return fmt.Sprintf("%q", oneLine(value))
}

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 400 {
		text = text[:200] + "..." + text[len(text)-200:]
	}
	return text
}

// report prints what differs and the counts. It is an error when something is not explained; and, if all bundles ran, when an explanation
// explains nothing.
func (s *suite) report(outcomes []outcome, all bool) error {
	first := s.runtimes[0].Name
	used := map[int]int{}
	open := 0
	for _, peer := range s.runtimes[1:] {
		var compared, explained, same int
		var lines []string
		together := map[string][]string{} // the bundles, by what differs
		for _, o := range outcomes {
			found, n := diff(o.seen[first], o.seen[peer.Name])
			compared += n
			if len(found) == 0 {
				same++
			}
			for _, f := range found {
				if i := explanation(peer.Name, o.name, f.field); i >= 0 {
					used[i]++
					explained++
					if s.verbose {
						lines = append(lines, fmt.Sprintf("%s: %s: %s %s, %s %s\n    (%s)", o.name, f.field, first, f.ours, peer.Name, f.theirs, differences[i].why))
					}
					continue
				}
				key := fmt.Sprintf("%s: %s %s, %s %s", f.field, first, f.ours, peer.Name, f.theirs)
				if together[key] == nil {
					lines = append(lines, key)
				}
				together[key] = append(together[key], o.name)
				open++
			}
		}
		for _, line := range lines {
			if names := together[line]; len(names) > 0 {
				line = "NOT EXPLAINED " + line + "\n    in " + some(names)
			}
			fmt.Println(line)
		}
		fmt.Printf("%s and %s: %d bundles, %d fields; %d bundles alike; %d differences explained, %d not\n",
			first, peer.Name, len(outcomes), compared, same, explained, sum(together))
	}
	if all {
		for i, d := range differences {
			if used[i] == 0 && !d.sometimes && s.compares(d.peer) {
				fmt.Printf("EXPLAINS NOTHING %s: %s: %s: %s\n", d.peer, d.bundles, d.fields, d.why)
				open++
			}
		}
	}
	if open > 0 {
		return fmt.Errorf("%d differences are not explained", open)
	}
	return nil
}

func (s *suite) compares(peer string) bool {
	return slices.ContainsFunc(s.runtimes[1:], func(r ociruntime.Runtime) bool { return r.Name == peer })
}

func sum(together map[string][]string) (n int) {
	for _, names := range together {
		n += len(names)
	}
	return n
}

// some names the first of many bundles.
func some(names []string) string {
	const most = 6
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d others", strings.Join(names[:most], ", "), len(names)-most)
}
