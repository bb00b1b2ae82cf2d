package pattern

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestMatch(t *testing.T) {
	for expr, texts := range map[string]struct{ yes, no string }{
		``:                          {"", "a"},
		`web.*`:                     {"web web1 web-a", "a-web we"},
		`web`:                       {"web", "web1 aweb"},
		`a|b|cd`:                    {"a b cd", "ab d c"},
		`^a|b$`:                     {"a b", "ab"},
		`(a|b)+-[0-9]{2,3}`:         {"a-12 abba-123", "-12 a-1 a-1234"},
		`x{2}`:                      {"xx", "x xxx"},
		`x{2,}y?`:                   {"xx xxxxy", "x xy"},
		`[^a-c_]\.`:                 {"d. -.", "a. _. dx"},
		`[]a-]+`:                    {"]a-]", "b"},
		`[[:alpha:]_][[:xdigit:]]*`: {"_ f00 gABC", "0 gg"},
		`\w+\-\d`:                   {"a_1-2", "a- -2 a-x"},
		`[\d.]+`:                    {"1.2", "a"},
		`(?:a*)*b`:                  {"b aab", "a"},
		`a??b+?`:                    {"b abb", "a"},
		`a$b|c^`:                    {"", "ab c"},
	} {
		p, err := Compile(expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		for _, text := range strings.Split(texts.yes, " ") {
			if !p.Match(text) && (text != "" || expr == "") {
				t.Errorf("%s: does not match %q", expr, text)
			}
		}
		for _, text := range strings.Split(texts.no, " ") {
			if p.Match(text) {
				t.Errorf("%s: matches %q", expr, text)
			}
		}
	}
}

func TestCompileErrors(t *testing.T) {
	for expr, want := range map[string]string{
		`(a`: "missing )", `a)`: "unexpected )", `[a`: "missing ]", `[]`: "missing ]", `*a`: "nothing that * repeats", `a|+`: "nothing that +",
		`a{`: "no number", `a{2,1}`: "no number", `a{x}`: "no number", `a{1001}`: "no number", `a\`: "nothing behind", `\q`: `unknown \q`,
		`[[:no:]]`: "unknown class", `[b-a]`: "ends before", `[\d-z]`: "ends before", `(a{1000}){1000}`: "too large",
		strings.Repeat("(", 200): "too large", strings.Repeat("a", 20000): "too large",
	} {
		if _, err := Compile(expr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20s: %v, want %s", expr, err, want)
		}
	}
}

// TestAsRegexp compares with package regexp: short expressions, of what means something, and short texts.
func TestAsRegexp(t *testing.T) {
	parts := []string{"a", "b", "-", ".", "(", ")", "|", "*", "+", "?", "^", "$", "[ab]", "[^a]", "{2}", "{0,1}", "{1,}", `\w`, `\W`, `\.`, "(?:"}
	texts := []string{"", "a", "b", "-", "ab", "ba", "aa", "bb", "a.", "aab", "abab", "b-a-b", "aaaa"}
	r := rand.New(rand.NewPCG(1, 2))
	compared := 0
	for range 100_000 {
		var expr string
		for range 1 + r.IntN(8) {
			expr += parts[r.IntN(len(parts))]
		}
		want, werr := regexp.Compile("^(?:" + expr + ")$")
		got, gerr := Compile(expr)
		if werr != nil || gerr != nil {
			// What repeats a repetition, or an assertion, one of them may refuse; the wrong number of parentheses both do.
			if strings.Count(expr, "(") != strings.Count(expr, ")") && gerr == nil {
				t.Fatalf("%s: no error", expr)
			}
			continue
		}
		compared++
		for _, text := range texts {
			if got.Match(text) != want.MatchString(text) {
				t.Fatalf("%s: matches %q: %t", expr, text, got.Match(text))
			}
		}
	}
	if compared < 10_000 {
		t.Errorf("only %d expressions compared", compared)
	}
}

// TestLinear: no expression takes long.
func TestLinear(t *testing.T) {
	p, err := Compile("(a*)*(a|a?)*(a+)+b")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan bool)
	go func() { done <- p.Match(strings.Repeat("a", 1024)) }()
	select {
	case match := <-done:
		if match {
			t.Error("it matches")
		}
	case <-time.After(time.Minute):
		t.Error("it takes more than a minute")
	}
}
