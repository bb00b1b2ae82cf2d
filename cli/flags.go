package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// option is one entry of a command's table of options.
type option struct {
	long  string
	short string // one letter, or ""
	kind  kind
	value string // how help names the value; "" for a switch
	help  string // "" leaves it out of the help: accepted for callers of runc and crun
}

// kind says what values an option takes.
type kind uint8

const (
	toggle kind = iota // --name, --name=true, --name=false
	text
	repeated
	number
	duration
)

// options are the options of one invocation, as far as they were given.
type options map[string][]string

func (o options) has(name string) bool     { return len(o[name]) > 0 }
func (o options) all(name string) []string { return o[name] }
func (o options) on(name string) bool      { return o.text(name) == "true" }
func (o options) text(name string) string  { return o.or(name, "") }
func (o options) number(name string) int64 { n, _ := strconv.ParseInt(o.text(name), 0, 64); return n } // checked when parsed
func (o options) set(name, value string)   { o[name] = []string{value} }
func (o options) or(name, def string) string {
	if v := o[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return def
}

// usageError is a command line that cannot be understood.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// parse takes options from args into o and returns the operands. Options may come after operands, unless inOrder is set: then
// the first operand ends them, and what follows is somebody else's. "--" always ends them. One dash is as good as two, as
// with Go's flag package: go-runc sends "-no-subreaper".
func (o options) parse(table []option, args []string, inOrder bool) (operands []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return append(operands, args...), nil
		case len(arg) < 2 || arg[0] != '-':
			operands = append(operands, arg)
			if inOrder {
				return append(operands, args...), nil
			}
			continue
		}
		name, value, given := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		i := slices.IndexFunc(table, func(t option) bool { return t.long == name || t.short == name && t.short != "" })
		if i < 0 {
			if rest, ok := splitCluster(table, arg); ok {
				args = append(rest, args...)
				continue
			}
			return nil, usagef("unknown option %s", arg)
		}
		t := table[i]
		switch {
		case given:
		case t.kind == toggle:
			value = "true"
		case len(args) == 0:
			return nil, usagef("option %s needs a value: %s", arg, t.value)
		default:
			value, args = args[0], args[1:]
		}
		if value, err = t.check(value); err != nil {
			return nil, err
		}
		if t.kind == repeated {
			o[t.long] = append(o[t.long], value)
		} else {
			o.set(t.long, value)
		}
	}
	return operands, nil
}

// splitCluster takes "-it" apart, and "-uroot", when all letters but the last are switches.
func splitCluster(table []option, arg string) ([]string, bool) {
	if strings.HasPrefix(arg, "--") || len(arg) < 3 {
		return nil, false
	}
	var out []string
	for i := 1; i < len(arg); i++ {
		j := slices.IndexFunc(table, func(t option) bool { return t.short == arg[i:i+1] })
		if j < 0 {
			return nil, false
		}
		out = append(out, "-"+arg[i:i+1])
		if table[j].kind != toggle {
			if i+1 < len(arg) {
				out = append(out, arg[i+1:])
			}
			return out, true
		}
	}
	return out, true
}

// check returns the value as the accessors of options expect it.
func (t option) check(value string) (string, error) {
	var err error
	switch t.kind {
	case toggle:
		var b bool
		b, err = strconv.ParseBool(value)
		if err == nil {
			value = strconv.FormatBool(b)
		}
	case number:
		_, err = strconv.ParseInt(value, 0, 64)
	case duration:
		_, err = time.ParseDuration(value)
	}
	if err != nil {
		return "", usagef("option --%s: invalid value %q", t.long, value)
	}
	return value, nil
}
