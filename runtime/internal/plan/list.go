package plan

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Mask is a set of small numbers, as the kernel's bit masks have it: bit n%64 of word n/64.
type Mask []uint64

// Limits of masks: the most that a kernel can be built for.
const (
	maxCPUs  = 8192 // CONFIG_NR_CPUS
	maxNodes = 1024 // CONFIG_NODES_SHIFT
)

// parseList reads a list such as "0-3,7": numbers and ranges below limit. Spaces around them and empty entries do not
// matter, as in runc; a list without any number is an error.
func parseList(list string, limit uint64) (Mask, error) {
	var m Mask
	for entry := range strings.SplitSeq(list, ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		from, to, isRange := strings.Cut(entry, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is neither a number nor a range", entry)
		}
		last, err := strconv.ParseUint(to, 10, 32)
		switch {
		case err != nil || first > last:
			return nil, fmt.Errorf("%q is neither a number nor a range", entry)
		case last >= limit:
			return nil, fmt.Errorf("%d is above %d, the most a kernel can have", last, limit-1)
		}
		for len(m) <= int(last/64) {
			m = append(m, 0)
		}
		for n := first; n <= last; n++ {
			m[n/64] |= 1 << (n % 64)
		}
	}
	if m == nil {
		return nil, errors.New("has no members")
	}
	return m, nil
}

// String prints the set in the form that parseList reads.
func (m Mask) String() string {
	var out []string
	bits := len(m) * 64
	has := func(n int) bool { return n < bits && m[n/64]&(1<<(n%64)) != 0 }
	for n := 0; n < bits; n++ {
		if !has(n) {
			continue
		}
		first := n
		for has(n + 1) {
			n++
		}
		if first == n {
			out = append(out, strconv.Itoa(n))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", first, n))
		}
	}
	return strings.Join(out, ",")
}
