package lazyjson

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Marshal encodes what Unmarshal decodes, as encoding/json does but for <, > and &, which it leaves as they are. Other types,
// and numbers that JSON has no words for, are bugs of the caller.
func Marshal(v any) []byte { return appendValue(make([]byte, 0, 1024), reflect.ValueOf(v)) }

func appendValue(b []byte, v reflect.Value) []byte {
	if m, ok := textOf(v); ok {
		text, err := m.MarshalText()
		if err != nil {
			panic(fmt.Sprintf("encode %s: %v", v.Type(), err))
		}
		return appendString(b, string(text))
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return append(b, "null"...)
		}
		return appendValue(b, v.Elem())
	case reflect.Struct:
		return appendStruct(b, v)
	case reflect.Map:
		return appendMap(b, v)
	case reflect.Slice:
		return appendSlice(b, v)
	case reflect.String:
		return appendString(b, v.String())
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool())
	case reflect.Float32, reflect.Float64:
		return strconv.AppendFloat(b, v.Float(), 'g', -1, v.Type().Bits())
	}
	if v.CanInt() {
		return strconv.AppendInt(b, v.Int(), 10)
	}
	return strconv.AppendUint(b, v.Uint(), 10)
}

func textOf(v reflect.Value) (encoding.TextMarshaler, bool) {
	if v.Kind() != reflect.Struct || !structOf(v.Type()).isText { // before it is copied for its methods
		return nil, false
	}
	m, ok := v.Interface().(encoding.TextMarshaler)
	return m, ok
}

func appendStruct(b []byte, v reflect.Value) []byte {
	b = append(b, '{')
	for _, f := range structOf(v.Type()).fields {
		value := v.FieldByIndex(f.index)
		if f.omitEmpty && empty(value) {
			continue
		}
		b = appendName(b, f.name)
		b = appendValue(b, value)
	}
	return append(b, '}')
}

// empty is what omitempty leaves out.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Slice:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

func appendMap(b []byte, v reflect.Value) []byte {
	if v.IsNil() {
		return append(b, "null"...)
	}
	values := make(map[string]reflect.Value, v.Len())
	for it := v.MapRange(); it.Next(); {
		values[it.Key().String()] = it.Value()
	}
	b = append(b, '{')
	for _, name := range slices.Sorted(maps.Keys(values)) {
		b = appendName(b, name)
		b = appendValue(b, values[name])
	}
	return append(b, '}')
}

func appendSlice(b []byte, v reflect.Value) []byte {
	if v.IsNil() {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendValue(b, v.Index(i))
	}
	return append(b, ']')
}

// appendName appends a name in an object, behind a comma unless it is the first.
func appendName(b []byte, name string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	return append(appendString(b, name), ':')
}

// appendString appends a string. What is no UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ':
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
