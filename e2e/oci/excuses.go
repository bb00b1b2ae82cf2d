package main

import (
	"regexp"
)

// excuse says why a complaint of a program is not gosudacon's fault.
type excuse struct {
	complaint *regexp.Regexp // the complaints that it covers
	why       string
	holds     func() bool // whether it is so on this machine
}

// excused finds the excuse for a program's complaint that holds here.
func excused(program, complaint string) (excuse, bool) {
	for _, e := range excuses[program] {
		if e.complaint.MatchString(complaint) && e.holds() {
			return e, true
		}
	}
	return excuse{}, false
}

// excuses by the programs' names.
var excuses = map[string][]excuse{}
