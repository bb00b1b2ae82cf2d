package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// result are all samples: milliseconds, or MiB for memory.
type result struct {
	names   []string
	samples map[string]map[string][]float64 // by work, by runtime
}

func newResult(all []contender) *result {
	r := &result{samples: map[string]map[string][]float64{}}
	for _, c := range all {
		r.names = append(r.names, c.name)
	}
	return r
}

func (r *result) add(work, name string, v float64) {
	if r.samples[work] == nil {
		r.samples[work] = map[string][]float64{}
	}
	r.samples[work][name] = append(r.samples[work][name], v)
}

func (r *result) addTime(work, name string, d time.Duration) {
	r.add(work, name, float64(d)/float64(time.Millisecond))
}
func (r *result) addMemory(work, name string, kib float64) { r.add(work, name, kib/1024) }

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// row is one line of the summary.
type row struct {
	Work    string             `json:"work"`
	Unit    string             `json:"unit"`
	Samples map[string]int     `json:"samples"`
	Median  map[string]float64 `json:"median"`
	// Ratio is gosuda's median divided by the peer's.
	Ratio map[string]float64 `json:"ratio,omitempty"`
}

func (r *result) summary() (rows []row) {
	for _, work := range works {
		by := r.samples[work]
		if by == nil {
			continue
		}
		line := row{Work: work, Unit: "ms", Samples: map[string]int{}, Median: map[string]float64{}, Ratio: map[string]float64{}}
		if strings.HasPrefix(work, "shim, ") || strings.HasSuffix(work, "PSS") {
			line.Unit = "MiB"
		}
		for _, name := range r.names {
			line.Samples[name], line.Median[name] = len(by[name]), median(by[name])
		}
		if ours, ok := line.Median["gosuda"]; ok {
			for _, name := range r.names {
				if name != "gosuda" && line.Median[name] > 0 {
					line.Ratio[name] = ours / line.Median[name]
				}
			}
		}
		rows = append(rows, line)
	}
	return rows
}

func (r *result) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "work\tunit\t")
	for _, name := range r.names {
		fmt.Fprint(w, name, "\t")
	}
	rows := r.summary()
	for _, name := range r.names {
		if name != "gosuda" && slices.Contains(r.names, "gosuda") {
			fmt.Fprintf(w, "/ %s\t", name)
		}
	}
	fmt.Fprintln(w)
	for _, row := range rows {
		fmt.Fprint(w, row.Work, "\t", row.Unit, "\t")
		for _, name := range r.names {
			fmt.Fprintf(w, "%.2f\t", row.Median[name])
		}
		for _, name := range r.names {
			if ratio, ok := row.Ratio[name]; ok {
				fmt.Fprintf(w, "%.2f\t", ratio)
			}
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	return b.String()
}

// progress shows on a terminal, in one line, what goes on; empty clears it.
func progress(format string, args ...any) {
	if _, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS); err != nil {
		return
	}
	text := ""
	if format != "" {
		text = fmt.Sprintf(format, args...)
	}
	fmt.Fprintf(os.Stderr, "\r\033[K%s", text)
}
