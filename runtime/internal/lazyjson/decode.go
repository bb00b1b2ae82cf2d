// Package lazyjson decodes JSON into structs and encodes them, and looks only at the types that there are values of.
//
// encoding/json prepares a struct with everything below it at its first use, for encoding too: 0.6 ms for the runtime-spec, with
// Windows and all, in every shim, whose first config is mostly its only one. Here nothing is prepared. The same text is accepted, and
// errors say where in the document they are: linux.resources.pids.limit.
package lazyjson

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// Error says what is wrong with a text, and where.
type Error struct {
	Line int    // from 1
	Path string // "process.args[1]", "" for the document itself
	Msg  string
}

func (e *Error) Error() string {
	at := "line " + strconv.Itoa(e.Line)
	if e.Path != "" {
		at += ": " + e.Path
	}
	return at + ": " + e.Msg
}

// Unmarshal decodes a JSON document into what the pointer v points to, by the rules of encoding/json: names of fields are
// compared without regard to case if none is equal, unknown ones are left out, null changes nothing, and of a name that occurs
// twice the last holds. Structs, maps with strings as keys, slices, pointers, strings, booleans, numbers, any, and what
// implements encoding.TextUnmarshaler can be decoded; other types are a bug of the caller. The error is an *Error.
func Unmarshal(data []byte, v any) (err error) {
	d := decoder{data: data}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *Error:
			err = p
		default:
			panic(p)
		}
	}()
	d.space()
	d.value(reflect.ValueOf(v).Elem())
	d.space()
	if d.at < len(d.data) {
		d.syntax("after the document")
	}
	return nil
}

// maxDepth is how deep a document may be nested: what encoding/json takes.
const maxDepth = 10000

// maxPath is how many steps of a path an error tells.
const maxPath = 16

// decoder reads data from at on. Its methods panic with an *Error.
type decoder struct {
	data  []byte
	at    int
	path  []step
	depth int
}

// step is a part of the path to a value: a name, or an index.
type step struct {
	name  string
	index int // -1: name
}

func (d *decoder) fail(format string, args ...any) {
	var path strings.Builder
	for i, s := range d.path {
		switch {
		case i == maxPath:
			path.WriteString("...")
		case i > maxPath:
		case s.index >= 0:
			fmt.Fprintf(&path, "[%d]", s.index)
		case path.Len() > 0:
			path.WriteString("." + s.name)
		default:
			path.WriteString(s.name)
		}
	}
	line := 1 + strings.Count(string(d.data[:min(d.at, len(d.data))]), "\n")
	panic(&Error{line, path.String(), fmt.Sprintf(format, args...)})
}

// syntax refuses the character at hand.
func (d *decoder) syntax(where string) {
	if d.at >= len(d.data) {
		d.fail("the JSON text ends too early, %s", where)
	}
	r, _ := utf8.DecodeRune(d.data[d.at:])
	d.fail("invalid character %q %s", r, where)
}

func (d *decoder) space() {
	for d.at < len(d.data) {
		switch d.data[d.at] {
		case ' ', '\t', '\r', '\n':
			d.at++
		default:
			return
		}
	}
}

// peek returns the next character, 0 at the end.
func (d *decoder) peek() byte {
	if d.at < len(d.data) {
		return d.data[d.at]
	}
	return 0
}

// value decodes the value at hand into v, or skips it when v is not valid.
func (d *decoder) value(v reflect.Value) {
	switch c := d.peek(); {
	case c == '{':
		d.object(v)
	case c == '[':
		d.array(v)
	case c == '"':
		d.text(v)
	case c == '-' || '0' <= c && c <= '9':
		d.number(v)
	case c == 't':
		d.boolean(v, "true")
	case c == 'f':
		d.boolean(v, "false")
	case c == 'n':
		d.literal("null")
		if v.IsValid() && (v.Kind() == reflect.Pointer || v.Kind() == reflect.Map || v.Kind() == reflect.Slice || v.Kind() == reflect.Interface) {
			v.SetZero()
		}
	default:
		d.syntax("where a value should begin")
	}
}

// target follows pointers, making what they point to.
func target(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	return v
}

// mismatch refuses a value of a kind that v cannot hold.
func (d *decoder) mismatch(value string, v reflect.Value) {
	d.fail("cannot take %s for a %s", value, v.Type())
}

func (d *decoder) enter() {
	if d.depth++; d.depth > maxDepth {
		d.fail("is nested more than %d deep", maxDepth)
	}
}

func (d *decoder) push(s step) { d.path = append(d.path, s) }
func (d *decoder) pop()        { d.path = d.path[:len(d.path)-1] }

func (d *decoder) object(v reflect.Value) {
	d.enter()
	defer func() { d.depth-- }()
	var set func(name string)
	switch v = target(v); {
	case !v.IsValid():
		set = func(string) { d.value(reflect.Value{}) }
	case v.Kind() == reflect.Struct:
		of := structOf(v.Type())
		if of.isText {
			d.mismatch("an object", v)
		}
		set = func(name string) { d.value(of.fields.find(v, name)) }
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		set = func(name string) {
			e := reflect.New(v.Type().Elem()).Elem()
			d.value(e)
			v.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), e)
		}
	case isAny(v):
		m := map[string]any{}
		set = func(name string) {
			var e any
			d.value(reflect.ValueOf(&e).Elem())
			m[name] = e
		}
		v.Set(reflect.ValueOf(m))
	default:
		d.mismatch("an object", v)
	}
	d.at++
	for first := true; ; first = false {
		d.space()
		if first && d.peek() == '}' {
			break
		}
		if d.peek() != '"' {
			d.syntax("where a name should begin")
		}
		name := d.str()
		d.space()
		if d.peek() != ':' {
			d.syntax("after a name")
		}
		d.at++
		d.space()
		d.push(step{name, -1})
		set(name)
		d.pop()
		d.space()
		if d.peek() == '}' {
			break
		}
		if d.peek() != ',' {
			d.syntax("after the value of " + strconv.Quote(name))
		}
		d.at++
	}
	d.at++
}

func (d *decoder) array(v reflect.Value) {
	d.enter()
	defer func() { d.depth-- }()
	var all []any
	var slice reflect.Value
	switch v = target(v); {
	case !v.IsValid():
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		slice = reflect.New(v.Type()).Elem() // addressable, and not nil at the end
		slice.Set(reflect.MakeSlice(v.Type(), 0, 4))
	case isAny(v):
		all = []any{}
	default:
		d.mismatch("an array", v)
	}
	d.at++
	for i := 0; ; i++ {
		d.space()
		if i == 0 && d.peek() == ']' {
			break
		}
		d.push(step{index: i})
		switch {
		case slice.IsValid():
			slice.Grow(1)
			slice.SetLen(i + 1)
			d.value(slice.Index(i))
		case all != nil:
			var e any
			d.value(reflect.ValueOf(&e).Elem())
			all = append(all, e)
		default:
			d.value(reflect.Value{})
		}
		d.pop()
		d.space()
		if d.peek() == ']' {
			break
		}
		if d.peek() != ',' {
			d.syntax("after an element of an array")
		}
		d.at++
	}
	d.at++
	switch {
	case slice.IsValid():
		v.Set(slice)
	case all != nil:
		v.Set(reflect.ValueOf(all))
	}
}

func (d *decoder) text(v reflect.Value) {
	s := d.str()
	switch v = target(v); {
	case !v.IsValid():
	case v.Kind() == reflect.String:
		v.SetString(s)
	case isText(v):
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
			d.fail("%v", err)
		}
	case isAny(v):
		v.Set(reflect.ValueOf(s))
	default:
		d.mismatch("a string", v)
	}
}

func (d *decoder) number(v reflect.Value) {
	s := d.numeral()
	var err error
	switch v = target(v); {
	case !v.IsValid():
	case v.CanInt():
		var n int64
		n, err = strconv.ParseInt(s, 10, v.Type().Bits())
		v.SetInt(n)
	case v.CanUint():
		var n uint64
		n, err = strconv.ParseUint(s, 10, v.Type().Bits())
		v.SetUint(n)
	case v.CanFloat():
		var n float64
		n, err = strconv.ParseFloat(s, v.Type().Bits())
		v.SetFloat(n)
	case isAny(v):
		var n float64
		n, err = strconv.ParseFloat(s, 64)
		v.Set(reflect.ValueOf(n))
	default:
		d.mismatch("the number "+s, v)
	}
	if err != nil {
		d.mismatch("the number "+s, v)
	}
}

// numeral reads a number: -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
func (d *decoder) numeral() string {
	begin := d.at
	if d.peek() == '-' {
		d.at++
	}
	if d.peek() == '0' {
		d.at++
	} else {
		d.digits()
	}
	if d.peek() == '.' {
		d.at++
		d.digits()
	}
	if c := d.peek(); c == 'e' || c == 'E' {
		d.at++
		if c := d.peek(); c == '+' || c == '-' {
			d.at++
		}
		d.digits()
	}
	return string(d.data[begin:d.at])
}

func (d *decoder) digits() {
	begin := d.at
	for c := d.peek(); '0' <= c && c <= '9'; c = d.peek() {
		d.at++
	}
	if d.at == begin {
		d.syntax("in a number")
	}
}

func (d *decoder) boolean(v reflect.Value, word string) {
	d.literal(word)
	switch v = target(v); {
	case !v.IsValid():
	case v.Kind() == reflect.Bool:
		v.SetBool(word == "true")
	case isAny(v):
		v.Set(reflect.ValueOf(word == "true"))
	default:
		d.mismatch(word, v)
	}
}

func (d *decoder) literal(word string) {
	for i := range len(word) {
		if d.peek() != word[i] {
			d.syntax("in the word " + word)
		}
		d.at++
	}
}

// str reads a string.
func (d *decoder) str() string {
	d.at++
	begin := d.at
	for ; d.at < len(d.data); d.at++ {
		switch c := d.data[d.at]; {
		case c == '"':
			d.at++
			return string(d.data[begin : d.at-1])
		case c == '\\' || c >= utf8.RuneSelf:
			return d.escaped(append(make([]byte, 0, 2*(d.at-begin)+16), d.data[begin:d.at]...))
		case c < ' ':
			d.syntax("in a string")
		}
	}
	d.syntax("in a string")
	return ""
}

// escaped reads the rest of a string that begins with b. What is no UTF-8 becomes U+FFFD.
func (d *decoder) escaped(b []byte) string {
	for d.at < len(d.data) {
		switch c := d.data[d.at]; {
		case c == '"':
			d.at++
			return string(b)
		case c == '\\':
			d.at++
			b = utf8.AppendRune(b, d.escape())
		case c < ' ':
			d.syntax("in a string")
		default:
			r, n := utf8.DecodeRune(d.data[d.at:])
			b = utf8.AppendRune(b, r)
			d.at += n
		}
	}
	d.syntax("in a string")
	return ""
}

// escape reads what follows a backslash.
func (d *decoder) escape() rune {
	const names, meanings = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	c := d.peek()
	if i := strings.IndexByte(names, c); i >= 0 && c != 0 {
		d.at++
		return rune(meanings[i])
	}
	if c != 'u' {
		d.syntax("after a backslash")
	}
	d.at++
	r := d.hex()
	if !utf16.IsSurrogate(r) {
		return r
	}
	if low := d.at; strings.HasPrefix(string(d.data[low:min(low+2, len(d.data))]), `\u`) {
		d.at += 2
		if pair := utf16.DecodeRune(r, d.hex()); pair != utf8.RuneError {
			return pair
		}
		d.at = low
	}
	return utf8.RuneError
}

func (d *decoder) hex() (r rune) {
	for range 4 {
		switch c := d.peek(); {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			d.syntax(`in the four digits after \u`)
		}
		d.at++
	}
	return r
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func isText(v reflect.Value) bool { return reflect.PointerTo(v.Type()).Implements(textUnmarshaler) }
func isAny(v reflect.Value) bool  { return v.Kind() == reflect.Interface && v.NumMethod() == 0 }

// field is a field of a struct that JSON can name.
type field struct {
	name      string
	index     []int // through embedded structs
	omitEmpty bool
}

// fields are those of one struct type.
type fields []field

// structure is what is to be known of a struct type.
type structure struct {
	fields
	isText bool // a text stands for it
}

// known has the structs that were met so far.
var known = struct {
	sync.Mutex
	of map[reflect.Type]structure
}{of: map[reflect.Type]structure{}}

func structOf(t reflect.Type) structure {
	known.Lock()
	defer known.Unlock()
	s, ok := known.of[t]
	if !ok {
		s = structure{fieldsOf(t), reflect.PointerTo(t).Implements(textUnmarshaler)}
		known.of[t] = s
	}
	return s
}

// spare is memory for fields: one piece for many types, of which each would touch pages of its own.
var spare fields

// spareFields returns an empty list with room for n fields.
func spareFields(n int) fields {
	if cap(spare) < n {
		spare = make(fields, 0, max(n, 128))
	}
	list := spare[0:0:n]
	spare = spare[n:n:cap(spare)]
	return list
}

// fieldsOf is called with known locked.
func fieldsOf(t reflect.Type) fields {
	list := spareFields(t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		omitEmpty := options == "omitempty"
		switch {
		case name == "-":
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			for _, inner := range fieldsOf(f.Type) {
				list = append(list, field{inner.name, append([]int{i}, inner.index...), inner.omitEmpty})
			}
		case !f.IsExported():
		case name == "":
			list = append(list, field{f.Name, f.Index, omitEmpty})
		default:
			list = append(list, field{name, f.Index, omitEmpty})
		}
	}
	return list
}

// find returns the field of v with a name, and the zero Value when there is none.
func (list fields) find(v reflect.Value, name string) reflect.Value {
	for _, f := range list {
		if f.name == name {
			return v.FieldByIndex(f.index)
		}
	}
	for _, f := range list {
		if strings.EqualFold(f.name, name) {
			return v.FieldByIndex(f.index)
		}
	}
	return reflect.Value{}
}
