package lazyjson_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gosuda/gosudacon/runtime/internal/lazyjson"
)

// everything has a value of each kind.
type everything struct {
	embedded
	String  string            `json:"string"`
	Bool    bool              `json:"bool,omitempty"`
	Int     *int64            `json:"int"`
	Small   int8              `json:"small"`
	Uint    uint32            `json:"uint"`
	Float   float64           `json:"float"`
	Strings []string          `json:"strings"`
	Map     map[string]string `json:"map"`
	Structs []*everything     `json:"structs"`
	Keys    map[kind]embedded `json:"keys"`
	Any     any               `json:"any"`
	Time    time.Time         `json:"time"`
	Untold  string
	Never   string `json:"-"`
	hidden  string
}

type kind string

type embedded struct {
	Deep string `json:"deep"`
}

var documents = []string{
	`{}`, ` { } `, `{"string":"x","bool":true,"int":-9223372036854775808,"small":-128,"uint":4294967295,"float":-1.5e3}`,
	`{"strings":[],"structs":[{"strings":["a","b"]},null,{"int":null}],"map":{"a":"b","":""},"deep":"d"}`,
	`{"strings":["1","2","3","4","5","6","7","8","9"]}`,
	`{"any":{"a":[1,"x",null,true,{"b":-0.5}],"c":{}},"Untold":"u","Never":"n","hidden":"h"}`,
	`{"keys":{"a":{"deep":"x"},"b":{}}}`, `{"STRING":"folded","sTring":"again"}`, `{"string":"a","string":"b"}`,
	`{"unknown":{"deep":[[[{"x":"\u00e9"}]],-1e-7,false]},"string":"after"}`,
	`{"string":"\"\\\/\b\f\n\r\tü\u00fc\ud83d\ude00\ud83d x\ud83d\u0041"}`, "{\"string\":\"\xff\xfe€\"}",
	`{"time":"2026-01-02T03:04:05.000000006Z"}`, `{"structs":null,"map":null,"string":null,"bool":null,"time":null,"any":null}`, `null`,

	// not JSON
	``, ` `, `{`, `}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{"a":1 "b":2}`, `{"strings":["a",]}`, `{"strings":["a" "b"]}`, `{"strings":[`, `[1]x`,
	`{"a":01}`, `{"a":1.}`, `{"a":.5}`, `{"a":-}`, `{"a":1e}`, `{"a":+1}`, `{"a":tru}`, `{"a":nul}`, `{"a":falsey}`, `{"a":"x}`, `{"a":"\x"}`, `{"a":"\u12g4"}`,
	"{\"a\":\"\x01\"}", `{"a":"\`, `{a:1}`, `{'a':1}`, `{}{}`, `{"a":[}`, "\x00",

	// of another type
	`{"string":1}`, `{"string":[]}`, `{"string":{}}`, `{"string":true}`, `{"bool":"true"}`, `{"int":"1"}`, `{"int":1.5}`, `{"int":1e3}`, `{"int":9223372036854775808}`,
	`{"small":128}`, `{"uint":-1}`, `{"uint":4294967296}`, `{"float":1e999}`, `{"strings":{}}`, `{"strings":"x"}`, `{"strings":[1]}`, `{"map":[]}`, `{"map":{"a":1}}`,
	`{"structs":[[]]}`, `{"time":1}`, `{"time":"yesterday"}`, `[]`, `"x"`, `1`, `true`,
}

// What encoding/json takes is taken, as the same; what it refuses is refused.
func TestAsEncodingJSON(t *testing.T) {
	for _, doc := range documents {
		var want, got everything
		wantErr, err := json.Unmarshal([]byte(doc), &want), lazyjson.Unmarshal([]byte(doc), &got)
		if (err == nil) != (wantErr == nil) {
			t.Errorf("%s: got %v, want %v", doc, err, wantErr)
		} else if err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", doc, got, want)
		}
		var wantAny, gotAny any
		wantErr, err = json.Unmarshal([]byte(doc), &wantAny), lazyjson.Unmarshal([]byte(doc), &gotAny)
		if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(gotAny, wantAny) {
			t.Errorf("%s as any: got %+v, %v, want %+v, %v", doc, gotAny, err, wantAny, wantErr)
		}
	}
}

// What Marshal writes is what encoding/json writes, and says the same.
func TestMarshalAsEncodingJSON(t *testing.T) {
	n := int64(-5)
	for _, v := range []any{
		everything{}, &everything{Strings: []string{}, Map: map[string]string{}, Structs: []*everything{}}, (*everything)(nil), []int{1, -2}, map[string]any(nil),
		everything{
			embedded: embedded{"d"}, String: "\"\\\n\x00ü€\U0001f600", Bool: true, Int: &n, Small: -1, Uint: 1 << 31, Float: 1.5, Strings: []string{"a", ""},
			Map: map[string]string{"b": "1", "a": "2"}, Structs: []*everything{nil, {}}, Keys: map[kind]embedded{"k": {"x"}},
			Any: map[string]any{"x": []any{1.0, "s", nil, true}}, Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Untold: "u", Never: "n",
		},
		specs.State{Version: "1.3.0", ID: "i", Pid: 7, Annotations: map[string]string{"a": "b"}},
	} {
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		got := lazyjson.Marshal(v)
		var wantAny, gotAny any
		json.Unmarshal(want, &wantAny)
		if err := json.Unmarshal(got, &gotAny); err != nil || !reflect.DeepEqual(gotAny, wantAny) {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
	if got := string(lazyjson.Marshal("\xff\x01")); got != "\"\ufffd\\u0001\"" {
		t.Errorf("got %s", got)
	}
}

func TestErrorsSayWhere(t *testing.T) {
	for doc, want := range map[string]string{
		"{\n\"linux\": {\"resources\": {\"pids\": {\"limit\": 1.5}}}}": "line 2: linux.resources.pids.limit: cannot take the number 1.5 for a int64",
		`{"process":{"args":["a",["b"]]}}`:                             "line 1: process.args[1]: cannot take an array for a string",
		`{"mounts":[{},{"options":"ro"}]}`:                             "line 1: mounts[1].options: cannot take a string for a []string",
		"{\n\n\"hostname\": x}":                                        "line 3: hostname: invalid character 'x' where a value should begin",
		"{\"hostname\": \"x\"":                                         `line 1: the JSON text ends too early, after the value of "hostname"`,
		`{"process":{"args":["a","b"`:                                  "line 1: process.args: the JSON text ends too early, after an element of an array",
		`{} {}`:                                                        "line 1: invalid character '{' after the document",
		strings.Repeat(`{"x":`, 10001):                                 "is nested more than 10000 deep",
		strings.Repeat(`[`, 10001):                                     "cannot take an array for a specs.Spec",
	} {
		var spec specs.Spec
		err := lazyjson.Unmarshal([]byte(doc), &spec)
		var e *lazyjson.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got %.200v, want %s", doc, err, want)
		}
	}
}

// FuzzSpec decodes whatever there is as encoding/json does. Where a name occurs twice the two may differ: there each merges
// arrays in its own way.
func FuzzSpec(f *testing.F) {
	for _, doc := range documents {
		f.Add([]byte(doc))
	}
	configs, err := filepath.Glob("../plan/testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range configs {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want, got any
		wantErr, err := json.Unmarshal(text, &want), lazyjson.Unmarshal(text, &got)
		if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("any: got %+v, %v, want %+v, %v", got, err, want, wantErr)
		}
		if err != nil || repeats(want) {
			return
		}
		text, err = json.Marshal(want) // names that are equal are gone now
		if err != nil {
			t.Fatal(err)
		}
		var wantSpec, gotSpec specs.Spec
		wantErr, err = json.Unmarshal(text, &wantSpec), lazyjson.Unmarshal(text, &gotSpec)
		if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(gotSpec, wantSpec) {
			t.Fatalf("spec: got %+v, %v, want %+v, %v", gotSpec, err, wantSpec, wantErr)
		}
	})
}

// repeats reports whether an object has names that differ only in case.
func repeats(v any) bool {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if repeats(e) {
				return true
			}
		}
	case map[string]any:
		for a, e := range v {
			for b := range v {
				if a != b && strings.EqualFold(a, b) {
					return true
				}
			}
			if repeats(e) {
				return true
			}
		}
	}
	return false
}

func BenchmarkSpec(b *testing.B) {
	text, err := json.Marshal(&specs.Spec{
		Version: "1.2.0", Process: &specs.Process{Args: []string{"sh"}, Env: make([]string, 20)}, Mounts: make([]specs.Mount, 10), Linux: &specs.Linux{},
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		var spec specs.Spec
		if err := lazyjson.Unmarshal(text, &spec); err != nil {
			b.Fatal(err)
		}
	}
}
